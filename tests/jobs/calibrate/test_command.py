"""The command line of jobs.calibrate: mistakes exit 2 with one line before Ray or torch is imported."""

import pytest

from jobs.calibrate.__main__ import main
from tests.jobs.cold_start import cold_start

CONFIG = ["--config", "jobs/configs/embedded.yaml"]


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
def test_a_mistake_exits_2_with_one_line(capsys, arguments, words):
    assert main([*CONFIG, *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out


def test_a_mistake_in_the_target_shows_before_anything_loads():
    ended = cold_start("calibrate", *CONFIG, "--policy-tokens", "0")
    assert ended.returncode == 2 and "policy_tokens" in ended.stderr and "imported: []" in ended.stdout


def test_a_target_is_required(capsys):
    with pytest.raises(SystemExit) as ended:
        main(CONFIG)
    assert ended.value.code == 2
    assert "one of the arguments --policy-tokens --acceptance-rate is required" in capsys.readouterr().err
