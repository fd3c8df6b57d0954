"""The command line of jobs.calibrate: mistakes exit 2 with one line before Ray or torch is imported."""

import subprocess
import sys

import pytest

GUARD = """
import runpy, sys
sys.argv = ["jobs.calibrate", *sys.argv[1:]]
try:
    runpy.run_module("jobs.calibrate", run_name="__main__")
finally:
    print(f"imported: {sorted({'ray', 'torch', 'transformers'} & set(sys.modules))}")
"""
CONFIG = ["--config", "jobs/configs/embedded.yaml"]


def start(*arguments):
    command = [sys.executable, "-c", GUARD, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy-tokens", "0"], "policy_tokens: must lie between 0 and inf (given: 0)"),
        (["--acceptance-rate", "1"], "acceptance_rate: must lie between 0 and 1 (given: 1)"),
        (["--policy-tokens", "9", "strategy.betta=1"], "strategy.betta: unknown key; did you mean 'strategy.beta'?"),
        (["--policy-tokens", "9", "--prompts", "none.parquet"], "input 'none.parquet'"),
        (["--policy-tokens", "9", "strategy=vanilla"], "only stars, cards and reservation have a threshold"),
    ],
)
def test_a_mistake_exits_2_with_one_line_before_anything_loads(arguments, words):
    ended = start(*CONFIG, *arguments)
    assert ended.returncode == 2 and words in ended.stderr
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert "imported: []" in ended.stdout


def test_a_target_is_required_and_help_is_light():
    assert "one of the arguments --policy-tokens --acceptance-rate is required" in start(*CONFIG).stderr
    ended = start("--help")
    assert ended.returncode == 0 and "imported: []" in ended.stdout and "--probes" in ended.stdout
