"""What all jobs share of a command line: options anywhere, one error line, exit codes, and a help that is light."""

import os
import signal
from pathlib import Path

import pytest

import jobs
from jobs.align.__main__ import main as align
from jobs.command import add_overrides, command_parser, run_command
from jobs.train_baselines.__main__ import main as train_baselines
from pipeline.errors import ConfigError, ModelError
from pipeline.strategies import STRATEGIES
from tests.jobs.cold_start import cold_start

ALL_JOBS = [*sorted(path.parent.name for path in Path(jobs.__file__).parent.glob("*/__main__.py")), "serve"]
OPTIONS = {
    "align": ["--fresh", "--retry-errors", "--dry-run", "max_error_rows", "dataset.rows_per_shard"],
    "benchmark": ["time_limit_s", "[any of pipeline, "],
    "calibrate": ["--policy-tokens", "--probes"],
    "chaos": ["--kills", "--longest-delay-s"],
    "compare": ["contenders.*.strategy", "bootstrap_draws", "keys of a judge of kind llm:", "api_key_env"],
    "config_reference": ["--output"],
    "determinism": ["--setting"],
    "export_pairs": ["RUN_DIR", "--level"],
    "growth": ["--rows-per-shard", "--plot"],
    "load": ["--streams"],
    "serve": ["serve.limits.max_lanes", "strategy.reward_threshold"],
    "simulate": ["--measure", "--costs"],
    "train_baselines": ["dpo.learning_rate", "[any of sft, dpo; "],
    "train_embedded": ["--seed"],
}


def run(job, *arguments, resume_hint=""):
    parser = command_parser("align", "A job.")
    parser.add_argument("--fresh", action="store_true")
    add_overrides(parser)
    return run_command(parser, job, arguments, resume_hint)


@pytest.mark.parametrize("arguments", [("--fresh", "a=1", "b=2"), ("a=1", "--fresh", "b=2"), ("a=1", "b=2", "--fresh")])
def test_options_may_stand_anywhere(arguments):
    seen = []
    assert run(lambda options: seen.append((options.fresh, options.overrides)), *arguments) == 0
    assert seen == [(True, ["a=1", "b=2"])]


def test_a_job_may_return_an_exit_code_of_its_own():
    assert run(lambda options: 3) == 3


@pytest.mark.parametrize(("error", "exit_code"), [(ConfigError("a: wrong"), 2), (ModelError("a: wrong"), 1)])
def test_an_error_of_ours_is_one_line_and_an_exit_code(capsys, error, exit_code):
    def job(options):
        raise error

    assert run(job) == exit_code
    assert capsys.readouterr() == ("", "error: a: wrong\n")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda options: 1 // 0)


@pytest.mark.parametrize(("hint", "said"), [("", ""), ("run it again", "; run it again")])
def test_an_interrupted_job_says_so_and_returns_the_shells_code(capsys, hint, said):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert run(lambda options: os.kill(os.getpid(), signal.SIGTERM), resume_hint=hint) == 143
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == f"interrupted by SIGTERM{said}\n"


@pytest.mark.parametrize("job", ALL_JOBS)
def test_help_is_complete_and_imports_nothing_heavy(job):
    ended = cold_start(job, "--help")
    assert ended.returncode == 0 and "imported: []" in ended.stdout, ended.stdout + ended.stderr
    assert f"usage: python -m jobs.{job} " in ended.stdout and "exit codes: 0 done" in ended.stdout
    for words in OPTIONS[job]:
        assert words in ended.stdout


def help_of(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_shows_the_keys_of_each_strategy_with_its_own_defaults(capsys):
    lines = help_of(align, capsys).splitlines()
    names = ", ".join(STRATEGIES)
    assert any(line.startswith("  strategy.name ") and names in line and "; required]" in line for line in lines)

    def keys_of(strategy):
        first = lines.index(f"  strategy.name={strategy}") + 1
        last = next(i for i in range(first, len(lines)) if not lines[i].startswith("    "))
        return {line.split()[0]: line for line in lines[first:last]}

    assert keys_of("stars")["strategy.max_attempts"].endswith("(M) [default 20]")
    assert keys_of("cards")["strategy.max_attempts"].endswith("[default 21]")
    assert keys_of("vanilla").keys() == {"strategy.segment_size"}
    assert "strategy.reward_threshold" in keys_of("stars") and "strategy.n" not in keys_of("stars")


def test_help_shows_what_a_key_may_be_and_hides_keys_for_tests(capsys):
    shown = help_of(align, capsys)
    assert "[one of float32, bfloat16, float16; default bfloat16]" in shown
    assert "[one of never, finished, always; default finished]" in shown
    assert "[one of embedded; default null]" in shown and "10 %" not in shown and "%%" not in shown
    assert "engine.slots" in shown and "fake_" not in shown
    assert "cosine with 10 % warm-up" in help_of(train_baselines, capsys)
