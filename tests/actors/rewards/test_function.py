"""A user's function as a reward: what it is given, what counts as a number, and whatever else it may do."""

import datetime
import subprocess
import sys
from contextlib import contextmanager
from fractions import Fraction
from textwrap import dedent

import numpy as np
import psutil
import pytest
import torch

from actors.rewards import load_reward, reward_traits, shown
from actors.rewards.function_process import Caller, CallFault, last_line
from actors.rewards.interface import RewardContext
from pipeline.config.called_rewards import FunctionReward
from pipeline.config.decoding import EngineConfig
from pipeline.errors import ConfigError
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow
from tests.configs import fake_config
from tests.ray_head import ROOT

CONTEXT = RewardContext(None, EngineConfig(slots=4, max_model_len=64), "user_message")


@pytest.fixture
def write(tmp_path):
    """Writes a file of functions and says how to name one."""

    def write(source, name="score"):
        (tmp_path / "mine.py").write_text(dedent(source))
        return f"{tmp_path}/mine.py:{name}"

    return write


@contextmanager
def loaded(function, **keys):
    reward = load_reward(FunctionReward(function=function, **keys), CONTEXT)
    try:
        yield reward
    finally:
        reward.close()


def cohort(texts, rows=None, finished=None):
    rows = rows or [PromptRow(i, f"r{i}", prompt=f"question {i}", columns={"n": i}) for i in range(len(texts))]
    return ScoreCohort.of_texts(rows, texts, finished or [True] * len(texts))


def score(function, texts, rows=None, finished=None, **keys):
    with loaded(function, **keys) as reward:
        scores = reward.score(cohort(texts, rows, finished))
    assert np.isnan(scores.rewards_R).nonzero()[0].tolist() == sorted(scores.faults), "a number, or else a fault"
    return scores


def test_it_gets_what_its_signature_names(write):
    function = write("""
        def score(completions, prompts, day, finished, scale=10):
            rows = zip(completions, prompts, day, finished)
            return [scale * len(c) + len(p) + d.day + f for c, p, d, f in rows]
    """)
    rows = [PromptRow(i, str(i), prompt="ab", columns={"day": datetime.date(2026, 1, i + 1)}) for i in range(3)]
    scores = score(function, ["", "x", "xyz"], rows, [False, True, True])
    assert scores.rewards_R.tolist() == [0 + 2 + 1 + 0, 10 + 2 + 2 + 1, 30 + 2 + 3 + 1]
    assert scores.stats.pushed_tokens_R.tolist() == [0, 0, 0]


def test_rows_with_messages_are_given_as_trl_gives_them_and_never_beside_text(write):
    function = write("""
        def score(prompts, completions, **columns):
            assert len({type(prompt) for prompt in prompts}) == 1
            return [of(*pair) for pair in zip(prompts, completions)]

        def of(prompt, completion):
            if isinstance(prompt, str):
                return 7.0
            return float(prompt[-1]["content"] == "hi" and completion == [{"role": "assistant", "content": "yes"}])
    """)
    chat = PromptRow(1, "b", messages=({"role": "system", "content": "s"}, {"role": "user", "content": "hi"}))
    text = PromptRow(0, "a", prompt="hi")
    assert score(function, ["yes"] * 3, [text, chat, text]).rewards_R.tolist() == [7.0, 1.0, 7.0]


def test_an_async_function_keeps_its_event_loop(write):
    function = write("""
        import asyncio
        loops = set()
        async def score(completions):
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return [float(len(loops)) for _ in completions]
    """)
    with loaded(function) as reward:
        for _ in range(2):
            assert reward.score(cohort(["a", "b"])).rewards_R.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("result", "numbers"),
    [
        ([True, 2, 2.5], [1.0, 2.0, 2.5]),
        ((1, 2, 3), [1.0, 2.0, 3.0]),
        (np.array([1, 2, 3], np.float32), [1.0, 2.0, 3.0]),
        (torch.tensor([1, 2, 3]), [1.0, 2.0, 3.0]),
        ([np.float64(1), Fraction(1, 2), torch.tensor(3.0)], [1.0, 0.5, 3.0]),
    ],
)
def test_what_is_a_number(result, numbers):
    assert Caller(lambda completions: result).answer({"completions": ["a"] * 3}, 3) == numbers


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0.5", "gave '0.5', not a number"),
        (b"1", "gave b'1', not a number"),
        (None, "gave None, not a number"),
        (float("nan"), "gave nan, not a finite number"),
        (-float("inf"), "gave -inf, not a finite number"),
        ([1.0], "gave a list, not a number"),
        (1j, "gave a complex, not a number"),
        (10**400, "gave a int, not a number"),
    ],
)
def test_what_is_no_number_is_its_rows_fault(value, words):
    answer = Caller(lambda completions: [1.0, value, 3.0]).answer({"completions": ["a"] * 3}, 3)
    assert answer == [1.0, CallFault("bad_reward", words), 3.0]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("abc", "gave a str, not a list of 3 numbers"),
        ({0: 1.0, 1: 2.0, 2: 3.0}, "gave a dict, not a list of 3 numbers"),
        (iter([1.0, 2.0, 3.0]), "gave a list_iterator, not a list of 3 numbers"),
        (1.0, "gave a float, not a list of 3 numbers"),
        (np.float64(1.0), "gave a float, not a list of 3 numbers"),
        (None, "gave a NoneType, not a list of 3 numbers"),
        ([1.0] * 4, "gave a list of 4 for 3 rows"),
        ([], "gave a list of 0 for 3 rows"),
    ],
)
def test_another_shape_is_no_score(result, words):
    assert Caller(lambda completions: result).answer({"completions": ["a"] * 3}, 3) == CallFault("bad_reward", words)


BAD_ROWS = """
    import os, sys, time
    def score(completions):
        if "bad" in completions:
            STATEMENT
        return [1.0] * len(completions)
"""


def test_a_wrong_length_for_many_is_no_verdict_on_each(write):
    function = write(BAD_ROWS.replace("STATEMENT", "return [2.0]"))
    assert score(function, ["a", "bad"]).rewards_R.tolist() == [1.0, 2.0]


def test_what_it_raises_is_the_fault_of_the_row_that_makes_it_raise(write):
    function = write(BAD_ROWS.replace("STATEMENT", r"raise ValueError('first\nI cannot read that')"))
    scores = score(function, ["a", "bad", "c", "bad"])
    assert scores.rewards_R[[0, 2]].tolist() == [1.0, 1.0] and sorted(scores.faults) == [1, 3]
    assert scores.faults[1] == ("reward_failed", f"reward.function {function}: raised I cannot read that (mine.py:5)")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("sys.exit(3)", "raised SystemExit: 3"),
        ("os._exit(3)", "its process ended (exit code 3)"),
        ("os.kill(os.getpid(), 11)", "its process ended (signal 11)"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
    ],
)
def test_a_function_that_ends_its_process_harms_nobody_else(write, statement, words):
    with loaded(write(BAD_ROWS.replace("STATEMENT", statement))) as reward:
        scores = reward.score(cohort(["a", "bad"]))
        assert scores.rewards_R[0] == 1.0 and list(scores.faults) == [1] and words in scores.faults[1][1]
        assert reward.score(cohort(["a", "b"])).rewards_R.tolist() == [1.0, 1.0]


def test_a_function_that_hangs_on_a_row_is_ended(write):
    function = write(BAD_ROWS.replace("STATEMENT", "time.sleep(1000)"))
    scores = score(function, ["a", "bad", "c"], timeout_s=0.5)
    assert scores.rewards_R[[0, 2]].tolist() == [1.0, 1.0]
    kind, message = scores.faults[1]
    assert kind == "reward_timeout" and "gave no answer for 0.5 s (reward.timeout_s)" in message


def test_a_function_that_always_hangs_is_not_waited_for_row_by_row(write):
    function = write("import time\ndef score(completions):\n    time.sleep(1000)\n")
    scores = score(function, ["a"] * 50, timeout_s=0.2)
    assert [kind for kind, _ in scores.faults.values()] == ["reward_timeout"] * 50
    assert sum("not tried, because 4 calls" in message for _, message in scores.faults.values()) == 47


def test_what_it_prints_is_no_answer(write):
    function = write("""
        print("loading")
        def score(completions):
            print("hello", flush=True)
            return [1.0]
    """)
    assert score(function, ["a"]).rewards_R.tolist() == [1.0]


def test_it_finds_files_beside_it_and_modules_by_name(write, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("WORTH = 4.0\n")
    source = "from beside import WORTH\ndef score(completions):\n    return [WORTH] * len(completions)\n"
    function = write(source)
    assert score(function, ["a"]).rewards_R.tolist() == [4.0]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert score("mine:score", ["a"]).rewards_R.tolist() == [4.0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import no_such_package\ndef score(completions): ...",
            "ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("def score(completions): ...\nscore = 3\n", "TypeError: score is a int, not a function"),
        ("import os\nos._exit(4)\ndef score(completions): ...", r"its process ended \(exit code 4\)"),
    ],
)
def test_what_cannot_be_loaded_is_a_config_error(write, source, words):
    function = write(source)
    with pytest.raises(ConfigError, match=f"reward.function .*mine.py:score' cannot be loaded: {words}"):
        load_reward(FunctionReward(function=function), CONTEXT)


PARENT = """
import sys
from actors.rewards.function_process import FunctionProcess
FunctionProcess(sys.argv[1], 1000.0).call({"completions": ["a"]}, 1)
"""


def test_the_child_ends_with_its_parent_even_while_it_hangs(write, tmp_path):
    pid = tmp_path / "pid"
    statement = f"open({str(pid)!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(1000)"
    function = write(BAD_ROWS.replace('if "bad" in completions:', "if True:").replace("STATEMENT", statement))
    with subprocess.Popen([sys.executable, "-c", PARENT, function], cwd=ROOT) as parent:
        while not (pid.exists() and pid.read_text().endswith(" ")):
            assert parent.poll() is None
        child = psutil.Process(int(pid.read_text()))
        parent.kill()  # what Ray does to an actor: no `finally`, no destructor
    assert child.wait(timeout=60) is None


def test_its_traits_and_what_it_is_shown_to_get(write):
    function = write("def score(prompts, completions, answer, *, note, k=3, **rest): ...")
    section = FunctionReward(function=function, processes=3, rows_per_call=5)
    traits = reward_traits(section, CONTEXT)
    assert (traits.reads_text, traits.rows_per_call, traits.max_calls) == (True, 5, 3)
    assert section.columns == ("answer", "note") and section.title == function
    config = fake_config(reward={"kind": "function", "function": function})
    text = shown(config, PromptRow(0, "a", prompt="Hi", columns={"answer": 42, "note": None}))
    assert "prompts=['Hi']" in text and "completions=['⟨response⟩']" in text and "answer=[42]" in text


def test_the_last_line_of_an_error_without_words():
    assert last_line(ValueError()) == "ValueError" and last_line(SyntaxError("no\nway")) == "way"
