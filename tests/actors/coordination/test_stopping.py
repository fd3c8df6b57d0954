"""Stop sequences and rows that are given up, with fake models in threads."""

import asyncio

import numpy as np
import pytest

from actors.coordination.coordinator import SegmentCoordinator
from actors.coordination.slots import SlotPool
from actors.coordination.stopping import tokens_of_answer
from pipeline.records import PromptRow
from tests.actors.coordination.test_coordinator import align_all, fake_engines, make_config
from tests.handles import LocalHandle

STRATEGIES = [
    {"name": "stars", "segment_size": 8, "reward_threshold": -1.0, "alpha": 1.0},
    {"name": "vanilla", "segment_size": 8},
    {"name": "best_of_n", "n": 2, "segment_size": 8},
]


def aligned(strategy, stop=(), seed=0):
    config = make_config().model_dump() | {"strategy": strategy}
    config = type(make_config()).model_validate(config)
    row = PromptRow(0, "a", prompt="hello", sampling_overrides={"stop": stop, "seed": seed})
    (result,), _ = align_all(config, [row])
    return result


@pytest.mark.parametrize("strategy", STRATEGIES[:2], ids=lambda strategy: strategy["name"])
@pytest.mark.parametrize("place", [3, 7, 15])
def test_a_response_ends_before_its_stop_sequence_wherever_the_segments_end(strategy, place):
    whole = aligned(strategy).response
    stop = whole[place : place + 3]
    assert whole.find(stop) == place
    result = aligned(strategy, stop=("~~~", stop))
    assert (result.response, result.finish_reason) == (whole[:place], "stop")
    assert result.num_response_tokens == place + 3


def test_every_candidate_of_best_of_n_ends_at_its_stop_sequence():
    result = aligned(STRATEGIES[2], stop=("e",))
    assert len(result.responses) == 2
    assert not any("e" in response for response in result.responses)


def test_a_stop_sequence_that_never_comes_changes_nothing():
    for strategy in STRATEGIES:
        assert aligned(strategy, stop=("~",)).response == aligned(strategy).response


def test_the_reward_model_reads_nothing_of_the_stop_sequence():
    def text(tokens):
        return bytes(tokens.tolist()).decode()

    tokens = np.frombuffer(b"fine. User: and", dtype=np.uint8)
    assert text(tokens_of_answer(tokens[:11], ("User:",), text)) == "fine. "
    assert text(tokens_of_answer(tokens, (), text)) == "fine. User: an"


def test_a_cancelled_row_gives_its_slots_back_and_the_others_go_on():
    config = make_config(engine={"slots": 4}, policy={"backend": "fake", "fake_call_ms": 5}, reward={"backend": "fake"})
    rows = [PromptRow(i, f"id-{i}", prompt=f"prompt {i}") for i in range(12)]
    expected, _ = align_all(config, rows)
    handles = [LocalHandle(engine) for engine in fake_engines(config)]

    async def run():
        coordinator = SegmentCoordinator(config, [handles[0]], [handles[1]])
        tasks = [asyncio.create_task(coordinator.align(row)) for row in rows]
        cancelled = []
        for i in (0, 1, 5, 9):  # some hold slots, some still wait
            await asyncio.sleep(0.013)
            cancelled.append(tasks[i].cancel())
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)
        queues = coordinator.scheduler.queues
        assert [len(queue.waiting) + queue.num_calls for queue in queues] == [0, 0]
        assert [sorted(free) for free in coordinator.slots.free] == [[0, 1, 2, 3]] and not coordinator.slots.num_lent
        return results, cancelled

    results, cancelled = asyncio.run(run())
    for handle in handles:
        handle.close()
    assert any(cancelled)
    for result, whole in zip(results, expected, strict=True):
        assert isinstance(result, asyncio.CancelledError) or result.response == whole.response
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == sum(cancelled)


def test_cancelling_between_the_grant_and_the_wakening_loses_no_slot():
    async def run():
        pool = SlotPool(2)
        held = await pool.acquire(2)
        large = asyncio.create_task(pool.acquire(2))
        small = asyncio.create_task(pool.acquire(1))
        await asyncio.sleep(0)
        pool.release(held[:1])
        large.cancel()  # at the head of the line: the small one behind it goes on
        assert await asyncio.wait_for(small, 1) == held[:1]
        late = asyncio.create_task(pool.acquire(1))
        await asyncio.sleep(0)
        pool.release(held[1:])  # granted now, and cancelled before it wakes
        late.cancel()
        await asyncio.gather(large, late, return_exceptions=True)
        assert large.cancelled() and late.cancelled()
        return sorted(pool.free[0]), held[1:]

    free, expected = asyncio.run(run())
    assert free == expected
