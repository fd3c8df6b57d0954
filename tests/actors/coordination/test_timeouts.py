"""Silence of a model: noticed in time, counted only while it can answer, ended by replacing the model."""

import asyncio
import time

import pytest

from actors.coordination.timeouts import MAX_REPLACEMENTS, CallTimeout
from pipeline.errors import ModelError

TIMEOUT_S = 0.1


class ScriptedKeeper:
    """Keeps a model that is loading for the first `num_loading` looks; `on_replace` is called with the count."""

    name = "stars-1-policy"

    def __init__(self, on_replace=lambda count: None, num_loading=0, load_s=0.0):
        self.on_replace, self.num_loading, self.load_s = on_replace, num_loading, load_s
        self.num_replaced, self.lines = 0, []

    async def is_loading(self):
        self.num_loading -= 1
        return self.num_loading >= 0

    async def replace(self):
        await asyncio.sleep(self.load_s)
        self.num_replaced += 1
        self.on_replace(self.num_replaced)

    def tell(self, line):
        self.lines.append(line)


def waiting(make_answers, supervisor):
    """Results of the calls whose futures `make_answers` makes, and the seconds they took."""

    async def run():
        model = CallTimeout("policy", TIMEOUT_S, supervisor)
        started_s = time.monotonic()
        calls = [model.answer(answer) for answer in make_answers()]
        return await asyncio.gather(*calls, return_exceptions=True), time.monotonic() - started_s

    return asyncio.run(run())


def test_a_silent_model_is_replaced_once_for_both_its_calls():
    futures = []

    def answer_both(count):
        for future in futures:
            future.set_result("answer")

    def make():
        futures.extend(asyncio.get_running_loop().create_future() for _ in range(2))
        return futures

    supervisor = ScriptedKeeper(answer_both, load_s=3 * TIMEOUT_S)
    answers, _ = waiting(make, supervisor)
    assert answers == ["answer", "answer"] and supervisor.num_replaced == 1
    assert supervisor.lines == [
        "the policy model stars-1-policy gave no answer for 0.1 s (coordinator.call_timeout_s); "
        "it is killed and started again"
    ]


def test_a_model_that_is_loading_is_not_silent():
    async def late():
        await asyncio.sleep(3.5 * TIMEOUT_S)
        return "answer"

    supervisor = ScriptedKeeper(num_loading=3)
    answers, _ = waiting(lambda: [late()], supervisor)
    assert answers == ["answer"] and supervisor.num_replaced == 0 and len(supervisor.lines) == 3


def test_a_call_behind_others_in_the_mailbox_is_not_late():
    async def after(seconds):
        await asyncio.sleep(seconds)
        return seconds

    times = [0.7 * TIMEOUT_S * n for n in (1, 2, 3)]
    supervisor = ScriptedKeeper()
    answers, _ = waiting(lambda: [after(s) for s in times], supervisor)
    assert answers == times and supervisor.num_replaced == 0


@pytest.mark.parametrize(("supervisor", "num_waits"), [(ScriptedKeeper(), 1 + MAX_REPLACEMENTS), (None, 1)])
def test_a_model_that_no_replacement_helps_fails(supervisor, num_waits):
    answers, seconds = waiting(lambda: [asyncio.get_running_loop().create_future()], supervisor)
    assert isinstance(answers[0], ModelError) and "gave no answer for 0.1 s" in str(answers[0])
    assert num_waits * TIMEOUT_S <= seconds < (num_waits + 2) * TIMEOUT_S


def test_an_answer_forgives_earlier_replacements():
    async def run():
        loop = asyncio.get_running_loop()
        supervisor = ScriptedKeeper(lambda count: futures[-1].set_result("answer"))
        model, futures = CallTimeout("policy", 0.02, supervisor), []
        for _ in range(2 * MAX_REPLACEMENTS):
            futures.append(loop.create_future())
            await model.answer(futures[-1])
        return supervisor.num_replaced

    assert asyncio.run(run()) == 2 * MAX_REPLACEMENTS
