"""A judge behind a chat endpoint of our own: what it is asked, what counts as a score, and every way it may fail."""

import asyncio
import re
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from actors.rewards import load_reward, reward_traits, shown
from actors.rewards.interface import RewardContext
from actors.rewards.reply_store import ReplyStore
from actors.rewards.score_reading import NoScore, read_score
from pipeline.config.called_rewards import JudgeReward
from pipeline.config.decoding import EngineConfig
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow
from tests.configs import fake_config
from tests.endpoint import DRIPS, DROPPED, chat, serving

AT_ONCE = {"Retry-After-Ms": "1"}
CONTEXT = RewardContext(None, EngineConfig(slots=4, max_model_len=64), "user_message")
RUBRIC = "{{ prompt }}|{{ response }}|{{ finished }}|{{ columns.answer }}|{{ messages | length }}"


@contextmanager
def judge_at(url, context=CONTEXT, **keys):
    section = JudgeReward(**{"base_url": f"{url}/v1", "model": "m", "first_pause_s": 0.01} | keys)
    reward = load_reward(section, context)
    try:
        yield reward
    finally:
        reward.close()


def cohort(texts, rows=None):
    rows = rows or [PromptRow(i, f"r{i}", prompt=f"question {i}") for i in range(len(texts))]
    return ScoreCohort.of_texts(rows, texts, [True] * len(texts))


def score(answer, texts, rows=None, **keys):
    """The judge's scores of texts, and the requests that reached the endpoint."""
    with serving(answer) as (endpoint, url), judge_at(url, **keys) as judge:
        scores = judge.score(cohort(texts, rows))
    assert np.isnan(scores.rewards_R).nonzero()[0].tolist() == sorted(scores.faults), "a number, or else a fault"
    return scores, endpoint.requests


def asked(body):
    return body["messages"][-1]["content"]


def test_what_it_is_asked_and_what_comes_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    (tmp_path / "rubric.jinja").write_text(RUBRIC)
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"})
    chat_row = PromptRow(1, "y", messages=turns, columns={"answer": 5})
    rows = [PromptRow(0, "x", prompt="hi", columns={"answer": 4}), chat_row]
    scores, requests = score(
        lambda path, body: chat(f"Score: {len(asked(body)) % 10}"),
        ["yes", "no <b>"],
        rows,
        template=f"{tmp_path}/rubric.jinja",
        system="Be strict.",
        scale=[0, 9],
        temperature=0.5,
        max_tokens=7,
        extra_body={"top_k": 3},
        api_key_env="MY_KEY",
    )
    path, headers, body = sorted(requests, key=lambda request: asked(request[2]))[1]
    assert path == "/v1/chat/completions" and headers["authorization"] == "Bearer secret"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be strict."}, {"role": "user", "content": "hi|yes|True|4|1"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "top_k": 3,
    }
    assert asked(sorted(requests, key=lambda request: asked(request[2]))[0][2]) == "c|no <b>|True|5|3"
    assert scores.rewards_R.tolist() == [len("hi|yes|True|4|1") % 10, len("c|no <b>|True|5|3") % 10]
    assert scores.stats.busy_s > 0 and scores.stats.pushed_tokens_R.tolist() == [0, 0]


def test_no_key_but_the_named_one_is_ever_sent(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "not for this endpoint")
    _, requests = score(lambda path, body: chat("7"), ["a"])
    assert "authorization" not in requests[0][1] and "not for this endpoint" not in requests[0][1].values()


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("7", 7),
        (" **8** \n", 8),
        ("[[3]]", 3),
        ("6/10", 6),
        ("8.5", 8.5),
        ("I see 2 faults and 3 merits.\nScore: 4", 4),
        ("Score: 9. No, wait.\nFinal rating: **5**/10", 5),
        ("That deserves a 6, I think.", 6),
        ("<think>Score: 1, or 2?</think>\n7", 7),
        ("score: 1? no</think>7", 7),
        ('"score": 4', 4),
    ],
)
def test_what_is_a_score_in_text(reply, number):
    assert read_score(reply, None, (1, 10)) == number


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("", "no single number: ''"),
        ("As a language model I like both.", "no single number"),
        ("Between 3 and 5.", "no single number"),
        ("seven", "no single number"),
        ("v2 of the 3rd", "no single number"),
        ("<think>7", "no single number"),
        ("11", "score is 11, which is not from 1 to 10"),
        ("-3", "score is -3, which"),
        ("0", "score is 0, which"),
        ("9" * 400, "score is inf, which"),
    ],
)
def test_what_is_no_score_in_text(reply, words):
    with pytest.raises(NoScore, match=words):
        read_score(reply, None, (1, 10))


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ('{"score": 7}', 7.0),
        ('Here:\n```json\n{"why": "it is {fine}", "score": 2.5}\n```', 2.5),
        ('I say {"score": 3, "more": {"score": 9}} and no more', 3.0),
        ('<think>{"score": 1}</think>{"score": 4}', 4.0),
        ('{"score": "7"}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ('{"score": NaN}', None),
        (f'{{"score": {10**400}}}', None),
        ('{"rating": 7}', None),
        ("[7]", None),
        ("7", None),
        ('{"score": 7', None),
        ('{"score": 70}', None),
    ],
)
def test_a_score_in_json_is_a_number_under_its_key(reply, number):
    if number is None:
        with pytest.raises(NoScore):
            read_score(reply, "score", (1, 10))
    else:
        assert read_score(reply, "score", (1, 10)) == number


FAULTS = {
    "no number": (lambda: chat("I'd rather not."), r"no single number: \"I'd rather not\.\", after 3 tries$"),
    "out of scale": (lambda: chat("9000"), r"score is 9000, which is not from 1 to 10 \(reward\.scale\)"),
    "cut": (lambda: chat("7", "length"), r"the reply was cut after max_tokens = 512, after 3 tries$"),
    "429": (lambda: (429, AT_ONCE, {"error": "slow down"}), r'HTTP 429 \{"error": "slow down"\}, after 3 tries$'),
    "500": (lambda: (500, AT_ONCE, "oops"), r"HTTP 500 oops, after 3 tries$"),
    "dropped": (lambda: DROPPED, r"no whole answer: .+, after 3 tries$"),
    "hangs": (lambda: asyncio.sleep(60), r"no whole answer in 0\.3 s \(reward\.timeout_s\), after 3 tries$"),
    "drips": (lambda: DRIPS, r"no whole answer in 0\.3 s \(reward\.timeout_s\), after 3 tries$"),
    "no JSON": (lambda: "<html>", r"the answer is no chat completion, after 3 tries$"),
    "another shape": (lambda: {"choices": []}, r"the answer is no chat completion, after 3 tries$"),
    "another type": (lambda: chat({"score": 7}), r"the answer is no chat completion, after 3 tries$"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_may_pass_is_tried_again_and_then_is_the_rows_fault(name):
    answer, words = FAULTS[name]
    tries = {"good": 0, "bad": 0, "mended": 0}

    def judge(path, body):
        word = asked(body).rpartition("[Answer]\n")[2].split()[0]
        tries[word] += 1
        return chat("7") if word == "good" or (word == "mended" and tries[word] == 3) else answer()

    scores, requests = score(judge, ["good", "bad", "mended"], max_tries=3, timeout_s=0.3)
    assert tries == {"good": 1, "bad": 3, "mended": 3} and len(requests) == 7
    assert scores.rewards_R[[0, 2]].tolist() == [7.0, 7.0] and list(scores.faults) == [1]
    kind, message = scores.faults[1]
    assert kind == "reward_failed" and message.startswith("reward m at http://127.0.0.1:")
    assert re.search(words, message), message


def test_a_refusal_is_not_tried_again():
    scores, requests = score(lambda path, body: (401, {}, {"error": "who are you?"}), ["a"])
    assert len(requests) == 1 and "HTTP 401" in scores.faults[0][1]


def test_nobody_there_is_the_rows_fault():
    with judge_at("http://127.0.0.1:9", max_tries=2) as judge:
        assert "after 2 tries" in judge.score(cohort(["a"])).faults[0][1]


def test_a_template_that_fails_on_a_row_is_its_fault(tmp_path):
    (tmp_path / "rubric.jinja").write_text("{{ columns.n + 1 }} {{ response }}")
    rows = [PromptRow(0, "a", prompt="p", columns={"n": 1}), PromptRow(1, "b", prompt="p", columns={"n": "x"})]
    scores, requests = score(lambda p, b: chat("7"), ["a", "b"], rows, template=f"{tmp_path}/rubric.jinja")
    assert len(requests) == 1 and scores.rewards_R[0] == 7.0
    assert scores.faults[1][0] == "template_error" and "TypeError: can only concatenate str" in scores.faults[1][1]


def test_an_endpoint_that_is_busy_gets_its_pause_from_all_rows():
    """One 429 that asks for a second: nobody asks within it, the other rows neither."""
    times = []

    def judge(path, body):
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}, "busy") if len(times) == 1 else chat("7")

    with serving(judge) as (_, url), judge_at(url, concurrency=1) as reward:
        assert reward.score(cohort(["a", "b", "c"])).rewards_R.tolist() == [7.0] * 3
    assert len(times) == 4 and times[1] - times[0] >= 1.0


def test_requests_start_no_faster_than_the_config_says():
    times = []

    def judge(path, body):
        times.append(time.monotonic())
        return chat("7")

    context = replace(CONTEXT, num_actors=2)  # this actor's half: one in 0.1 s
    with serving(judge) as (_, url), judge_at(url, context, requests_per_minute=1200) as reward:
        reward.score(cohort([f"answer {i}" for i in range(4)]))
    assert times[3] - times[0] >= 0.25


def test_no_more_requests_are_under_way_than_the_actors_share():
    async def judge(path, body):
        await asyncio.sleep(0.05)
        return chat("7")

    context = replace(CONTEXT, num_actors=2)
    with serving(judge) as (endpoint, url), judge_at(url, context, concurrency=6) as reward:
        scores = reward.score(cohort([f"answer {i}" for i in range(12)]))
        assert endpoint.most == 3 and not scores.faults
        assert reward_traits(reward.section, context).max_calls == 3


def test_nothing_is_paid_twice(tmp_path):
    context = replace(CONTEXT, reply_folder=str(tmp_path / "replies"))
    calls = []

    def judge(path, body):
        calls.append(asked(body))
        return chat("no idea") if "bad" in asked(body) else chat("7")

    with serving(judge) as (_, url):
        with judge_at(url, context, max_tries=2) as reward:
            scores = reward.score(cohort(["a", "a", "bad"], [PromptRow(0, "x", prompt="p")] * 3))
            assert scores.rewards_R[:2].tolist() == [7.0, 7.0] and len(calls) == 3, "one question, asked once"
        with judge_at(url, context, max_tries=2) as reward:
            assert reward.score(cohort(["a"], [PromptRow(9, "z", prompt="p")])).rewards_R.tolist() == [7.0]
            assert len(calls) == 3, "asked by another start, for another row"
            assert reward.store.spent_tokens == 30
        with judge_at(url, context, temperature=1.0) as reward:
            reward.score(cohort(["a"], [PromptRow(0, "x", prompt="p")]))
            assert len(calls) == 4, "another way to ask is another question"


def test_processes_share_what_was_paid_for(tmp_path, monkeypatch):
    monkeypatch.setattr("actors.rewards.reply_store.REFRESH_S", 0.0)
    first, second = ReplyStore(tmp_path), ReplyStore(tmp_path)
    first.put("k", 5, "7")
    first.put("other", 3, None)
    assert second.get("k") == "7" and second.get("other") is None
    assert first.spent_tokens == second.spent_tokens == 8
    with next(tmp_path.glob("*.jsonl")).open("ab") as file:
        file.write(b'{"key": "half", "tokens": 100, "re')  # killed while it wrote
    third = ReplyStore(tmp_path)
    assert third.spent_tokens == 8 and third.get("half") is None and third.get("k") == "7"


def test_when_the_tokens_are_spent_the_rows_are_error_rows(tmp_path):
    context = replace(CONTEXT, reply_folder=str(tmp_path))
    texts = [f"answer {i}" for i in range(5)]
    with serving(lambda path, body: chat("7", tokens=40)) as (endpoint, url):
        with judge_at(url, context, max_tokens_spent=100, concurrency=1) as reward:
            scores = reward.score(cohort(texts))
        assert len(endpoint.requests) == 3 and len(scores.faults) == 2
        kind, message = scores.faults[4]
        assert kind == "token_budget" and "120 tokens are spent of max_tokens_spent = 100" in message
        with judge_at(url, context, max_tokens_spent=1000, concurrency=1) as reward:
            assert reward.score(cohort(texts)).rewards_R.tolist() == [7.0] * 5
        assert len(endpoint.requests) == 5


def test_tokens_are_estimated_where_the_endpoint_does_not_count_them(tmp_path):
    context = replace(CONTEXT, reply_folder=str(tmp_path))
    with serving(lambda path, body: chat("7", tokens=None)) as (_, url), judge_at(url, context) as reward:
        reward.score(cohort(["x" * 4000]))
        assert 1000 < reward.store.spent_tokens < 1400


def test_it_is_shown_what_the_judge_is_asked():
    reward = {"kind": "judge", "base_url": "http://x/v1", "model": "m", "system": "Be strict."}
    text = shown(fake_config(reward=reward), PromptRow(0, "a", prompt="Hi"))
    assert text.startswith("system: Be strict.\nuser: You judge") and "user: Hi" in text and "⟨response⟩" in text
    assert "The answer is not finished" not in text
