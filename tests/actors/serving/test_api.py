"""The OpenAI client against the HTTP interface, on fake models and without Ray."""

import asyncio
import hashlib
import json
import socket
import time
import urllib.error
import urllib.request

import openai
import pytest

from pipeline.records import PromptRow
from tests.actors.coordination.test_coordinator import align_all
from tests.http_server import http_server, serve_config

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server():
    with http_server(serve_config()) as (url, server):
        yield url, server


@pytest.fixture(scope="module")
def client(server):
    with client_of(server[0]) as client:
        yield client


def client_of(url, key="none", **options):
    return openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0, **options)


def batch_row(row_id="r3", strategy=None, **sampling):
    config = serve_config()
    row = PromptRow(0, row_id, messages=tuple(HELLO), sampling_overrides=sampling)
    if strategy is not None:
        config = config.model_copy(update={"strategy": strategy})
    (result,), _ = align_all(config, [row])
    return result


def ask(client, stars=None, **fields):
    return client.chat.completions.create(
        model="fake", messages=HELLO, extra_body={"stars": {"id": "r3"} | (stars or {})}, **fields
    )


def test_a_request_with_the_id_of_a_batch_row_is_that_row(client):
    reply, row = ask(client), batch_row()
    choice = reply.choices[0]
    assert (choice.message.content, choice.finish_reason) == (row.response, row.finish_reason)
    assert reply.usage.completion_tokens == row.num_response_tokens
    assert reply.usage.prompt_tokens == row.num_prompt_tokens
    assert reply.stars["reward"] == row.reward
    assert [s["num_attempts"] for s in reply.stars["segments"]] == [s.num_attempts for s in row.segments]
    rejected = sum((s.num_attempts - 1) for s in row.segments)
    assert reply.stars["attempts"] == len(row.segments) + rejected and rejected
    assert 0 < reply.usage.completion_tokens_details.discarded_tokens <= 8 * rejected
    assert ask(client, seed=5).choices[0].message.content == batch_row(seed=5).response


def test_a_stream_is_the_accepted_segments_and_joins_to_the_whole_reply(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    *body, usage = chunks
    whole = ask(client)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in body) == whole.choices[0].message.content
    assert usage.choices == [] and usage.usage == whole.usage
    assert body[0].choices[0].delta.role == "assistant"
    assert body[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    counters = ("policy_tokens", "reward_tokens")  # they depend on which prefixes were at hand to copy
    assert [body[-1].stars | dict.fromkeys(counters)] == [whole.stars | dict.fromkeys(counters)]
    kept = [chunk.stars for chunk in body if chunk.stars.get("kept")]
    assert [news["num_tokens"] for news in kept] == [segment["num_tokens"] for segment in whole.stars["segments"]]
    assert all(chunk.stars.get("kept", True) for chunk in body), "a rejected segment was sent"


def test_rejected_segments_are_shown_to_who_asks_for_them(client):
    chunks = [c for c in ask(client, {"show_rejected": True}, stream=True) if c.choices[0].finish_reason is None]
    rejected = [chunk for chunk in chunks if chunk.stars.get("kept") is False]
    assert rejected and not any(chunk.choices[0].delta.content for chunk in rejected)
    assert all(chunk.stars["text"] and chunk.stars["reward"] is not None for chunk in rejected)


@pytest.mark.parametrize("strategy", ["vanilla", "best_of_n", "cards", "blockwise_best_of_k", "speculative_rejection"])
def test_every_strategy_streams_what_it_answers(client, strategy):
    stars = {"strategy": strategy} | ({"reward_threshold": 0.3} if strategy == "cards" else {})
    whole = ask(client, stars)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in ask(client, stars, stream=True))
    assert streamed == whole.choices[0].message.content
    assert whole.stars["strategy"] == strategy and whole.stars["reward"] is not None


def test_sampling_fields_are_honoured(client):
    short = ask(client, max_tokens=5)
    assert short.usage.completion_tokens == 5 and short.choices[0].finish_reason == "length"
    whole = ask(client, {"strategy": "vanilla"}).choices[0].message.content
    stop = whole[6:9]
    stopped = ask(client, {"strategy": "vanilla"}, stop=[stop]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (whole[: whole.find(stop)], "stop")
    several = ask(client, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in several.choices}) == 3
    assert several.choices[0].message.content == ask(client).choices[0].message.content
    assert len(several.stars["choices"]) == 3
    assert several.usage.prompt_tokens == short.usage.prompt_tokens


def test_completions_answer_each_prompt(client):
    reply = client.completions.create(model="fake", prompt=["hello", "bye"], extra_body={"stars": {"id": "r3"}})
    assert reply.choices[0].text == batch_row().response
    assert len(reply.choices) == 2 and reply.object == "text_completion"
    streamed = client.completions.create(model="fake", prompt="hello", stream=True, extra_body={"stars": {"id": "r3"}})
    assert "".join(chunk.choices[0].text for chunk in streamed) == batch_row().response


def test_models_health_metrics_and_page(server, client):
    assert [model.id for model in client.models.list()] == ["fake"]
    assert client.models.retrieve("fake").id == "fake"
    ask(client)
    health = json.load(urllib.request.urlopen(server[0] + "/health"))
    metrics = urllib.request.urlopen(server[0] + "/metrics").read().decode()
    page = urllib.request.urlopen(server[0] + "/").read().decode()
    assert health == {"status": "ok"}
    assert 'stars_requests_total{endpoint="chat",status="200"}' in metrics and "stars_first_segment_seconds" in metrics
    assert "http" not in page.replace("http-equiv", "") and "MODEL_NAME" not in page


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model"),
        ({"logprobs": True}, openai.BadRequestError, "logprobs"),
        ({"max_tokens": 10**9}, openai.BadRequestError, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 300}], "stream": True}, openai.BadRequestError, "messages"),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "stream_options"),
    ],
)
def test_a_refusal_has_openais_shape_and_the_fields_name(client, fields, error, param):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**({"model": "fake", "messages": HELLO} | fields))
    assert caught.value.param == param and caught.value.code and caught.value.type == "invalid_request_error"


def test_paths_and_methods_that_do_not_exist_and_bodies_too_large(server):
    for path, data, status in (
        ("nothing", None, 404),
        ("completions", None, 405),
        ("completions", b" " * 2**21, 413),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            headers = {"Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(f"{server[0]}/v1/{path}", data, headers))
        with caught.value as error:
            assert error.code == status
            assert set(json.load(error)["error"]) == {"message", "type", "param", "code"}


def test_a_key_is_asked_for_where_one_is_set():
    with http_server(serve_config(), (hashlib.sha256(b"secret").digest(),)) as (url, _):
        for key in ("wrong", "secre", "secret2"):
            with client_of(url, key) as client, pytest.raises(openai.AuthenticationError):
                ask(client)
        with client_of(url, "secret") as client:
            assert ask(client).choices[0].message.content == batch_row().response
            assert [model.id for model in client.models.list()] == ["fake"]


def slow_config(**serve):
    slow = {"backend": "fake", "fake_call_ms": 40}
    return serve_config(policy=slow, reward=slow, serve=serve)


def test_more_than_may_be_under_way_is_told_to_come_back():
    with http_server(slow_config(max_ongoing_requests=2)) as (url, server):

        async def crowd():
            async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
                asked = [client.chat.completions.create(model="fake", messages=HELLO) for _ in range(6)]
                return await asyncio.gather(*asked, return_exceptions=True)

        replies = asyncio.run(crowd())
        refused = [reply for reply in replies if isinstance(reply, openai.RateLimitError)]
        assert len(refused) == 4 and all(int(error.response.headers["retry-after"]) >= 1 for error in refused)
        assert server.admission.num_under_way == 0


def chat_request(**fields):
    """The bytes of a request, for clients that behave as no library does."""
    body = json.dumps({"messages": HELLO} | fields).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connected(url, receive_buffer_bytes=None):
    host, port = url.removeprefix("http://").split(":")
    client = socket.socket()
    if receive_buffer_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.connect((host, int(port)))
    return client


def await_that(condition):
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_stream_that_nobody_reads_waits_for_its_reader_and_holds_up_nobody_else():
    whole = chat_request(stream=True, n=8, max_tokens=200, stars={"segment_size": 1, "show_rejected": True})
    with http_server(serve_config(), send_buffer_bytes=4096) as (url, server), connected(url, 4096) as reader:
        reader.sendall(whole)
        await_that(lambda: server.coordinator.usage.num_rows_done == 8)
        with client_of(url) as client:
            assert ask(client).choices[0].message.content == batch_row().response
        assert server.admission.num_under_way == 8, "all of it is decoded, and its end waits for the reader"
        reader.close()
        await_that(lambda: server.admission.num_under_way == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_costs_no_more_than_the_call_that_has_begun(stream):
    config = slow_config()
    longer = {"generation": config.generation.model_copy(update={"max_new_tokens": 200})}
    one_at_a_time = {"strategy": config.strategy.model_copy(update={"proposals_per_round": 1})}
    with http_server(config.model_copy(update=longer | one_at_a_time)) as (url, server), client_of(url) as patient:

        def num_rows_of_another():
            before = server.coordinator.usage.policy.num_rows
            ask(patient, max_tokens=24)
            return server.coordinator.usage.policy.num_rows - before

        alone = num_rows_of_another()
        rows_before = server.coordinator.usage.policy.num_rows
        with connected(url) as leaving:
            leaving.sendall(chat_request(stream=stream))
            await_that(lambda: server.coordinator.usage.policy.num_rows > rows_before)
            if stream:
                assert leaving.recv(1), "it has begun to stream"
            assert server.admission.num_under_way == 1
        await_that(lambda: server.admission.num_under_way == 0)
        assert server.coordinator.slots.num_free == 8
        assert num_rows_of_another() <= alone + 2, "it goes on without a client"
