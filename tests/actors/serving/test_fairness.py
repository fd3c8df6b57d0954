"""One client cannot keep the others waiting: shares of room and slots, a deadline, and when to come again."""

import asyncio
import hashlib
import time

import numpy as np
import openai
import pytest

from actors.serving.admission import NUM_ENDS, Admission
from actors.serving.api_errors import ApiError
from actors.serving.api_keys import network_of, read_digests
from actors.serving.fair_slots import FairSlots
from actors.serving.unfinished import UnfinishedAnswer
from pipeline.errors import ConfigError
from pipeline.records import Judgement, RowResult, Segment
from tests.http_server import http_server, serve_config

HELLO = [{"role": "user", "content": "hello"}]


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def refused(admission, client, count=1):
    with pytest.raises(ApiError) as caught:
        admission.enter(client, count)
    return caught.value.status, int(caught.value.headers["Retry-After"])


def test_who_has_less_than_an_even_share_of_the_room_is_let_in():
    admission = Admission(8, 300.0, Clock())
    admission.enter("greedy", 8)
    assert refused(admission, "greedy")[0] == 429
    admission.enter("polite", 4)
    assert refused(admission, "polite")[0] == 429
    admission.enter("third", 2)
    for number in range(2):
        admission.enter(f"more {number}", 1)
    assert refused(admission, "one too many")[0] == 429, "there is an end to it"
    admission.leave("greedy", 8)
    admission.enter("one too many", 1)
    assert admission.num_under_way == 9


def test_retry_after_follows_the_rate_at_which_answers_end_and_spreads_those_who_ask():
    clock = Clock()
    admission = Admission(4, 300.0, clock)
    admission.enter("a", 4)
    clock.now_s += 20
    assert refused(admission, "a") == (429, 20), "nothing has ended for 20 seconds"
    admission = Admission(4, 300.0, clock)
    admission.enter("a", 4)
    for _ in range(NUM_ENDS * 2):
        clock.now_s += 0.5
        admission.leave("a", 1)
        admission.enter("a", 1)
    assert [refused(admission, "a")[1] for _ in range(6)] == [1, 1, 2, 2, 3, 3]
    assert refused(admission, "a", 4)[1] == 5
    clock.now_s += 100
    assert refused(admission, "a")[1] == 3, "it has become slower"
    assert max(refused(admission, "a", 4)[1] for _ in range(200)) == 300
    admission.leave("a", 4)
    admission.enter("a", 4)
    clock.now_s += 2
    admission._promised_s = 0.0
    assert refused(admission, "a")[1] == 2, "what was before the pause says nothing"


def test_a_server_that_stops_admits_nobody():
    admission = Admission(4, 300.0)
    admission.is_stopping = True
    assert refused(admission, "a")[0] == 503


async def take(slots, client, count, log, release):
    async with slots.held(client, count):
        log.append(client)
        await release.wait()


def run_fair(num_slots, share, asked, then=()):
    """Who holds slots in the end, in order: `asked` come one after the other, then `then` are released or cancelled."""

    async def run():
        slots, log, tasks = FairSlots(num_slots, share), [], []
        for client, count in asked:
            release = asyncio.Event()
            tasks.append((asyncio.create_task(take(slots, client, count, log, release)), release))
            await asyncio.sleep(0)
        for number, what in then:
            task, release = tasks[number]
            release.set() if what == "end" else task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        held = dict(slots.num_held)
        for task, _ in tasks:
            task.cancel()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert slots.num_held.total() == slots.num_waiting == 0
        return log, held

    return asyncio.run(run())


def test_one_client_leaves_slots_for_the_next_and_the_next_for_one_more():
    log, held = run_fair(8, 0.75, [("a", 1)] * 10 + [("b", 1)] * 3 + [("c", 1)])
    assert held == {"a": 6, "b": 1, "c": 1}
    _, held = run_fair(8, 1.0, [("a", 1)] * 10)
    assert held == {"a": 8}
    _, held = run_fair(1, 0.5, [("a", 1)])
    assert held == {"a": 1}, "there is always room for one answer"
    _, held = run_fair(8, 0.5, [("a", 8)])
    assert held == {"a": 8}
    assert log[:6] == ["a"] * 6


def test_who_holds_least_is_next_and_many_slots_are_waited_for():
    asked = [("a", 1)] * 6 + [("a", 1), ("b", 2), ("c", 1)]
    log, held = run_fair(6, 1.0, asked, [(0, "end")])
    assert held == {"a": 5} and log == ["a"] * 6, "b is next and needs two"
    log, held = run_fair(6, 1.0, asked, [(0, "end"), (1, "end")])
    assert held == {"a": 4, "b": 2}
    log, held = run_fair(6, 1.0, asked, [(7, "cancel"), (0, "end")])
    assert held == {"a": 5, "c": 1}, "who gives up is in nobody's way"


@pytest.mark.parametrize(
    ("address", "network"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("testclient", "testclient")],
)
def test_a_client_is_an_address_or_a_network(address, network):
    assert network_of(address) == network


def test_keys_are_read_before_anything_is_loaded(monkeypatch):
    monkeypatch.setenv("KEYS", "one, two")
    assert read_digests("KEYS") == tuple(hashlib.sha256(key).digest() for key in (b"one", b"two"))
    assert read_digests(None) == ()
    for value, words in (("", "not set"), ("schlüssel", "no HTTP header")):
        monkeypatch.setenv("KEYS", value)
        with pytest.raises(ConfigError, match=words):
            read_digests("KEYS")


def judgement(segment, attempt, tokens, is_kept, reward=1.0, before=()):
    candidate = Segment(np.array(tokens, dtype=np.int32), False)
    return Judgement(segment, attempt, np.array(before, dtype=np.int32), candidate, reward, 0.5, is_kept)


def test_what_is_there_of_an_answer_has_its_segments_and_attempts():
    answer = UnfinishedAnswer()
    nothing = RowResult("stars", 7, "length", "", num_prompt_tokens=3)
    assert answer.result(nothing, str, ()) is nothing
    for each in (
        judgement(0, 0, [65, 66], False),
        judgement(0, 1, [67, 68], True, 2.0),
        judgement(1, 0, [69], False, -1.0, [67, 68]),
        judgement(1, 1, [70], False, -2.0, [67, 68]),
        judgement(1, 0, [69], True, -1.0, [67, 68]),
        judgement(2, 0, [71], False, 0.0, [67, 68, 69]),
    ):
        answer.add(each)
    result = answer.result(nothing, lambda tokens: bytes(tokens.tolist()).decode(), ("E",))
    assert (result.response, result.finish_reason, result.reward) == ("CD", "length", -1.0)
    assert (result.num_prompt_tokens, result.num_response_tokens, result.seed) == (3, 3, 7)
    assert [(s.num_attempts, s.accepted_by, s.num_tokens) for s in result.segments] == [
        (2, "rule", 2),
        (2, "fallback", 1),
    ]


def slow_config(strategy=None, slots=8, **limits):
    slow = {"backend": "fake", "fake_call_ms": 60}
    strategy = {"name": "stars", "segment_size": 2, "reward_threshold": -9.0} | (strategy or {})
    tree = {"policy": slow, "reward": slow, "strategy": strategy, "generation": {"max_new_tokens": 200}}
    return serve_config(**tree, engine={"slots": slots, "max_model_len": 256}, serve={"limits": limits})


def client_of(url, key="none"):
    return openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=60)


def test_a_request_ends_with_what_is_there_when_its_time_is_up():
    with http_server(slow_config(max_request_s=1.5)) as (url, server), client_of(url) as client:
        whole = client.chat.completions.create(model="fake", messages=HELLO, seed=3)
        *_, last = chunks = list(client.chat.completions.create(model="fake", messages=HELLO, seed=3, stream=True))
        assert whole.choices[0].finish_reason == last.choices[0].finish_reason == "length"
        assert whole.stars["cut_off"] and last.stars["cut_off"] and whole.stars["policy_tokens"] is None
        text = whole.choices[0].message.content
        assert 2 <= len(text) < 200 and whole.usage.completion_tokens == len(text)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        shorter, longer = sorted((text, streamed), key=len)
        assert longer.startswith(shorter)
        deadline_s = time.monotonic() + 60
        while server.admission.num_under_way or server.coordinator.slots.num_free < 8:
            assert time.monotonic() < deadline_s, "a request that has ended still holds its place"
            time.sleep(0.01)


def test_a_request_that_has_nothing_when_its_time_is_up_says_so():
    strategy = {"name": "best_of_n", "n": 2, "segment_size": 2}
    config = slow_config(slots=2, max_request_s=1.0).model_dump() | {"strategy": strategy}
    with http_server(serve_config(**config)) as (url, _):

        async def both():
            async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
                asked = [client.chat.completions.create(model="fake", messages=HELLO, seed=3) for _ in range(2)]
                return await asyncio.gather(*asked, return_exceptions=True)

        errors = sorted(asyncio.run(both()), key=lambda error: error.code)
        assert [error.code for error in errors] == ["deadline_exceeded", "overloaded"]
        assert errors[0].response.headers["x-should-retry"] == "false"
        assert int(errors[1].response.headers["retry-after"]) >= 1


def test_an_answer_that_had_no_turn_is_empty_where_another_has_text():
    with http_server(slow_config(slots=1, max_request_s=1.5)) as (url, _), client_of(url) as client:
        reply = client.chat.completions.create(model="fake", messages=HELLO, n=2, seed=3)
        assert [choice.finish_reason for choice in reply.choices] == ["length", "length"]
        assert [bool(choice.message.content) for choice in reply.choices] == [True, False]
        assert all(one["cut_off"] for one in reply.stars["choices"])


def test_a_polite_client_is_answered_while_a_greedy_one_holds_all_it_may():
    digests = tuple(hashlib.sha256(key).digest() for key in (b"greedy", b"polite"))
    with http_server(slow_config(slots=4), digests) as (url, server):

        async def run():
            ends = []

            async def ask(client, name, **fields):
                await client.chat.completions.create(model="fake", messages=HELLO, **fields)
                ends.append(name)

            async with (
                openai.AsyncOpenAI(base_url=url + "/v1", api_key="greedy", max_retries=0) as greedy,
                openai.AsyncOpenAI(base_url=url + "/v1", api_key="polite", max_retries=0) as polite,
            ):
                asked = [asyncio.create_task(ask(greedy, "greedy", n=4, seed=i, max_tokens=16)) for i in range(3)]
                while server.admission.num_under_way < 12 or server.answering.slots.num_held.total() < 3:
                    await asyncio.sleep(0.01)
                assert server.answering.slots.num_held.total() == 3
                await ask(polite, "polite", max_tokens=2)
                await asyncio.gather(*asked)
            return ends

        assert asyncio.run(run()) == ["polite", "greedy", "greedy", "greedy"]
