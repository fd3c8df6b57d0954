"""A call without an answer: silence is noticed in time, counted only while the model can answer, and ended; a death is
the queue's to mend."""

import asyncio
import time

import pytest

from actors.coordination.model_calls import ModelCalls
from pipeline.errors import ModelDied, ModelError
from pipeline.protocol import MAX_DEATHS

TIMEOUT_S = 0.1


class Death(Exception):
    """What a call gets whose process ended."""


class ScriptedSupervisor:
    """Of a model that is loading for the first `num_loading` looks; killing it fails `calls`."""

    name = "stars-1-policy"

    def __init__(self, num_loading=0):
        self.num_loading, self.num_kills, self.num_loads = num_loading, 0, 0
        self.lines, self.calls = [], []

    def is_death(self, error):
        return isinstance(error, Death)

    async def is_loading(self):
        self.num_loading -= 1
        return self.num_loading >= 0

    async def wait_until_loaded(self):
        self.num_loads += 1

    async def kill(self):
        self.num_kills += 1
        for call in self.calls:
            if not call.done():
                call.set_exception(Death())

    def report(self, line):
        self.lines.append(line)

    def silence(self):
        """A call that is answered by death only."""
        self.calls.append(asyncio.get_running_loop().create_future())
        return self.calls[-1]


def outcomes(supervisor, *sends):
    """Results of calls made at once."""

    async def run():
        model = ModelCalls("policy", TIMEOUT_S, supervisor)
        return await asyncio.gather(*(model.answer(send) for send in sends), return_exceptions=True)

    return asyncio.run(run())


async def after(seconds):
    await asyncio.sleep(seconds)
    return seconds


def test_a_silent_model_is_killed_once_for_both_its_calls():
    supervisor = ScriptedSupervisor()
    answers = outcomes(supervisor, supervisor.silence, supervisor.silence)
    assert [type(answer) for answer in answers] == [ModelDied, ModelDied] and supervisor.num_kills == 1
    assert supervisor.lines == [
        "the policy model stars-1-policy gave no answer for 0.1 s (coordinator.call_timeout_s); "
        "it is killed and started again"
    ]


def test_a_model_that_is_loading_is_not_silent():
    supervisor = ScriptedSupervisor(num_loading=3)
    assert outcomes(supervisor, lambda: after(3.5 * TIMEOUT_S)) == [3.5 * TIMEOUT_S]
    assert supervisor.num_kills == 0 and len(supervisor.lines) == 3


def test_a_call_behind_others_in_the_mailbox_is_not_late():
    times = [0.7 * TIMEOUT_S * n for n in (1, 2, 3)]
    supervisor = ScriptedSupervisor()
    assert outcomes(supervisor, *(lambda s=s: after(s) for s in times)) == times
    assert supervisor.num_kills == 0


def test_without_a_supervisor_silence_is_an_error_and_a_death_is_the_calls_own():
    async def die():
        raise Death("gone")

    started_s = time.monotonic()
    answers = outcomes(None, lambda: asyncio.get_running_loop().create_future())
    assert isinstance(answers[0], ModelError) and "gave no answer for 0.1 s" in str(answers[0])
    assert time.monotonic() - started_s >= TIMEOUT_S
    assert isinstance(outcomes(None, die)[0], Death)


def test_after_a_death_no_call_is_sent_before_the_successor_has_loaded():
    supervisor = ScriptedSupervisor()

    async def run():
        model = ModelCalls("policy", TIMEOUT_S, supervisor)
        with pytest.raises(ModelDied):
            await model.answer(supervisor.silence)
        assert supervisor.num_loads == 0
        return await model.answer(lambda: after(0)), supervisor.num_loads, await model.answer(lambda: after(0))

    assert asyncio.run(run()) == (0, 1, 0) and supervisor.num_loads == 1


@pytest.mark.parametrize("answers_between", [True, False])
def test_silences_in_a_row_fail_the_run_unless_an_answer_came_between(answers_between):
    async def run():
        supervisor = ScriptedSupervisor()
        model = ModelCalls("policy", 0.02, supervisor)
        for _ in range(MAX_DEATHS):
            with pytest.raises(ModelDied):
                await model.answer(supervisor.silence)
            if answers_between:
                await model.answer(lambda: after(0))
        expected = ModelDied if answers_between else ModelError
        with pytest.raises(expected) as caught:
            await model.answer(supervisor.silence)
        return type(caught.value), supervisor.num_kills

    assert asyncio.run(run()) == ((ModelDied, MAX_DEATHS + 1) if answers_between else (ModelError, MAX_DEATHS))
