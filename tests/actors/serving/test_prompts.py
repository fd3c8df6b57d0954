"""Prompts are read once each and outside the event loop, and what does not fit is refused in OpenAI's words."""

import asyncio
import threading

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.coordination.stopping import end_at_stop
from actors.rendering.bytes import ByteReader
from actors.rendering.prompt_reader import messages_of
from actors.serving.answer_plan import plan_chat
from actors.serving.api_errors import ApiError
from actors.serving.prompt_queue import CHARACTERS_PER_TOKEN, PromptQueue, with_prompts
from actors.serving.text_stream import TextStream
from pipeline.errors import RowError
from pipeline.records import PromptRow, Segment
from tests.actors.serving.test_answer_plan import chat
from tests.http_server import http_server, serve_config

HELLO = [{"role": "user", "content": "hello"}]


class RecordingReader(ByteReader):
    """Says what it read, where, and may be held up."""

    def __init__(self):
        self.read, self.threads, self.may_go_on = [], set(), threading.Event()
        self.may_go_on.set()
        self.has_begun = threading.Event()

    def prompt_tokens(self, row):
        self.read.append(sum(len(message["content"]) for message in messages_of(row)))
        self.threads.add(threading.current_thread())
        self.has_begun.set()
        self.may_go_on.wait(30)
        return super().prompt_tokens(row)


def row(text):
    return PromptRow(0, "r", messages=({"role": "user", "content": text},))


def test_a_prompt_of_many_answers_is_read_once_and_not_in_the_event_loop():
    with http_server(serve_config()) as (url, server):
        server.prompts.reader = server.coordinator.reader = reader = RecordingReader()
        with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
            reply = client.chat.completions.create(model="fake", messages=HELLO, n=8, seed=1)
            assert len(reply.choices) == 8 and reader.read == [5]
            client.completions.create(model="fake", prompt=["one", "three"], n=2, seed=1)
            assert sorted(reader.read) == [3, 5, 5]
    assert [thread.name for thread in reader.threads] == ["prompts"]


def test_a_short_prompt_waits_for_no_long_one_but_the_one_that_is_read():
    reader = RecordingReader()
    reader.may_go_on.clear()

    async def run():
        prompts = PromptQueue(reader, 1000)
        first = asyncio.create_task(prompts.tokens(row("a" * 10)))
        await asyncio.to_thread(reader.has_begun.wait)
        others = [asyncio.create_task(prompts.tokens(row("b" * size))) for size in (900, 500, 3)]
        given_up = asyncio.create_task(prompts.tokens(row("c" * 7)))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        reader.may_go_on.set()
        return [len(tokens) for tokens in await asyncio.gather(first, *others)]

    assert asyncio.run(run()) == [10, 900, 500, 3]
    assert reader.read == [10, 3, 500, 900]


def test_of_a_text_that_is_far_too_long_the_beginning_is_read():
    reader = RecordingReader()
    with pytest.raises(RowError, match="more than 100 tokens"):
        asyncio.run(PromptQueue(reader, 100).tokens(row("x" * 1_000_000)))
    assert reader.read == [CHARACTERS_PER_TOKEN * 100]


def test_a_fault_of_the_reader_is_the_request_s_own():
    class Broken(ByteReader):
        def prompt_tokens(self, row):
            raise KeyError("nothing")

    async def run():
        prompts = PromptQueue(Broken(), 100)
        with pytest.raises(KeyError):
            await prompts.tokens(row("x"))
        with pytest.raises(KeyError):
            await prompts.tokens(row("x"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("length", "fields", "num_tokens"),
    [(30, {}, 200), (205, {}, 256 - 205 - len(ByteReader.closing_tokens)), (205, {"max_tokens": 20}, 20)],
)
def test_without_max_tokens_an_answer_has_what_fits(length, fields, num_tokens):
    config = serve_config(generation={"max_new_tokens": 200})
    messages = [{"role": "user", "content": "x" * length}]

    async def planned():
        return await with_prompts(plan_chat(chat(messages=messages, **fields), config), prompts, config)

    prompts = PromptQueue(ByteReader(), 256)
    (planned_row,) = asyncio.run(planned()).rows
    assert planned_row.sampling_overrides.get("max_new_tokens", 200) == num_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_fit_is_refused_in_openais_words(stream):
    with http_server(serve_config()) as (url, _), openai.OpenAI(base_url=url + "/v1", api_key="none") as client:
        for length, fields in ((205, {"max_tokens": 60}), (256, {}), (300, {}), (50_000, {})):
            messages = [{"role": "user", "content": "x" * length}]
            with pytest.raises(openai.BadRequestError, match="maximum context length is 256 tokens") as caught:
                client.chat.completions.create(model="fake", messages=messages, stream=stream, **fields)
            assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
            assert "engine." not in str(caught.value), "the server's own config keys mean nothing to a client"


@given(st.text("ab", max_size=40), st.lists(st.text("ab", min_size=1, max_size=9), max_size=3))
def test_what_may_become_a_stop_sequence_is_held_back_and_nothing_more(text, stops):
    if any(stop in text for stop in stops):
        return
    sent = TextStream(lambda tokens: tokens, tuple(stops)).grow(text)
    held = max([k for stop in stops for k in range(len(stop)) if text.endswith(stop[:k])], default=0)
    assert sent == text[: len(text) - held]


def test_a_stop_sequence_is_found_with_few_decodings():
    decoded = []

    def text(tokens):
        decoded.append(len(tokens))
        return bytes(tokens.tolist()).decode()

    whole = ByteReader().prompt_tokens(row("y" * 700 + "STOP" + "y" * 320))
    segment = end_at_stop(Segment(whole, False), whole[:0], ("STOP",), text)
    assert (len(segment.tokens), segment.finished) == (704, True)
    assert len(decoded) <= 12


@pytest.mark.parametrize(
    ("stop", "param"),
    [(["z"] * 17, "stop"), ("z" * 257, "stop[0]"), (["a", "z" * 60_000], "stop[1]"), (["a", 1], "stop[1]")],
)
def test_stop_sequences_are_few_and_short(stop, param):
    with pytest.raises(ApiError) as caught:
        plan_chat(chat(stop=stop), serve_config())
    assert (caught.value.status, caught.value.param) == (400, param)


def test_of_half_a_million_wrong_messages_the_first_is_named():
    with pytest.raises(ApiError) as caught:
        chat(messages=[1] * 400_000)
    assert caught.value.param in ("messages", "messages[0]")
