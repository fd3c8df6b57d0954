"""What a request may hold, what it amounts to, and which text of a growing response is sent."""

import json

import numpy as np
import pytest

from actors.serving.answer_plan import plan_chat, plan_completion
from actors.serving.api_errors import ApiError
from actors.serving.request_schema import ChatRequest, CompletionRequest, parse
from actors.serving.server_config import ServeConfig
from actors.serving.text_stream import TextStream
from pipeline.config.loading import load_tree
from pipeline.errors import ConfigError
from tests.http_server import serve_config

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields):
    return parse(ChatRequest, json.dumps({"messages": HELLO} | fields).encode())


def refusal(call, *arguments, **fields):
    with pytest.raises(ApiError) as caught:
        call(*arguments, **fields)
    return caught.value.status, caught.value.param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"n": 2.5}, "n"),
        ({"seed": -1}, "seed"),
        ({"stop": ""}, "stop[0]"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"tools": [{}]}, "tools"),
        ({"temprature": 1}, "temprature"),
        ({"stars": []}, "stars"),
        ({"stars": {"id": []}}, "stars.id"),
        ({"stream_options": {"include": 1}}, "stream_options.include"),
    ],
)
def test_a_field_at_fault_is_named(fields, param):
    assert refusal(chat, **fields) == (400, param)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"messages": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body):
    assert refusal(parse, ChatRequest, body)[0] == 400


@pytest.mark.parametrize(
    "fields", [{"logprobs": False}, {"presence_penalty": 0}, {"tools": None}, {"user": "me"}, {"store": False}]
)
def test_fields_that_ask_for_nothing_pass(fields):
    assert chat(**fields) == chat()


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-4"}, 404, "model"),
        ({"n": 9}, 400, "n"),
        ({"max_tokens": 10**9}, 400, "max_tokens"),
        ({"messages": [{"role": "king", "content": "hi"}]}, 400, "messages"),
        ({"messages": []}, 400, "messages"),
        ({"stars": {"strategy": "magic"}}, 400, "stars.strategy"),
        ({"stars": {"segment_sise": 4}}, 400, "stars.segment_sise"),
        ({"stars": {"beta": -1}}, 400, "stars.beta"),
        ({"stars": {"max_attempts": 65}}, 400, "stars"),
        ({"stars": {"strategy": "best_of_n", "n": 9}}, 400, "stars"),
    ],
)
def test_what_is_beyond_the_servers_limits_is_refused(fields, status, param):
    config = serve_config()
    assert refusal(lambda: plan_chat(chat(**fields), config)) == (status, param)


def test_knobs_change_the_servers_strategy_and_another_strategy_begins_anew():
    config = serve_config()
    changed = plan_chat(chat(stars={"beta": 0.25}), config).strategy
    assert changed == config.strategy.model_copy(update={"beta": 0.25})
    other = plan_chat(chat(stars={"strategy": "best_of_n", "n": 3}), config).strategy
    assert (other.name, other.n, other.segment_size) == ("best_of_n", 3, 16)


def test_draws_are_keyed_by_the_id_or_the_seed_or_neither():
    config = serve_config()

    def ids(**fields):
        return [row.row_id for row in plan_chat(chat(**fields), config).rows]

    assert ids(stars={"id": "r7"}, n=2) == ["r7", "r7#1"]
    assert ids(stars={"id": 7}) == ["7"]
    assert ids(seed=3) == ids(seed=3)
    assert ids() != ids()
    (row,) = plan_chat(chat(seed=3, max_completion_tokens=9, stop="x", temperature=0), config).rows
    assert row.sampling_overrides == {"seed": 3, "max_new_tokens": 9, "stop": ("x",), "temperature": 0.0}


def test_a_completion_may_have_several_prompts():
    request = parse(CompletionRequest, json.dumps({"prompt": ["a", "b"], "n": 2}).encode())
    plan = plan_completion(request, serve_config())
    assert [row.prompt for row in plan.rows] == ["a", "a", "b", "b"]
    assert [plan.prompt_of(choice) for choice in range(4)] == [0, 0, 1, 1]


def utf8(tokens):
    return bytes(tokens.tolist()).decode("utf-8", "replace")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(("stop", "ends_at"), [((), None), (("STOP", "zzz"), 9), (("é",), 1)])
def test_deltas_joined_are_the_response_and_none_holds_half_a_character_or_stop(size, stop, ends_at):
    text = "aé漢😀 Sx STOP and more"
    text = text if ends_at is None else text.partition(stop[0])[0] + stop[0]
    tokens = np.frombuffer(text.encode(), dtype=np.uint8)
    stream, deltas = TextStream(utf8, stop), []
    for end in [*range(size, len(tokens), size), len(tokens)]:
        deltas.append(stream.grow(tokens[:end]))
    whole = text if ends_at is None else text.partition(stop[0])[0]
    deltas.append(stream.end(whole))
    assert "".join(deltas) == whole
    assert not any("\ufffd" in delta for delta in deltas)
    assert len([delta for delta in deltas if delta]) > 1 or len(whole) < 4


def test_the_config_is_that_of_the_batch_job_and_mistakes_are_named():
    config = load_tree(ServeConfig, "jobs/configs/embedded.yaml", ["serve.port=9000"])
    assert (config.served_name, config.serve.port, config.serve.host) == ("policy", 9000, "127.0.0.1")
    with pytest.raises(ConfigError, match=r"serve\.prot: unknown key; did you mean 'serve\.port'"):
        load_tree(ServeConfig, "jobs/configs/embedded.yaml", ["serve.prot=9000"])


def test_a_reward_that_reads_columns_cannot_serve_requests_that_have_none(tmp_path):
    (tmp_path / "mine.py").write_text("def score(completions, answer): ...")
    overrides = ["reward=function", f"reward.function={tmp_path}/mine.py:score"]
    with pytest.raises(ConfigError, match=r"reward: .*:score reads the input columns 'answer', which no request"):
        load_tree(ServeConfig, "jobs/configs/embedded.yaml", overrides)
