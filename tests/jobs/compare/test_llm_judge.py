"""The pairwise LLM judge against a server of our own: order, store, retries, nonsense, the key."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from jobs.compare.config import LlmJudge
from jobs.compare.judges.chat_client import chat_client
from jobs.compare.judges.llm_judge import LlmPairJudge, parse_verdict, shows_second_first
from jobs.compare.judges.verdict_store import VerdictStore
from pipeline.errors import ModelError
from pipeline.runs.run_rows import read_run
from tests.jobs.compare.made_up_runs import row, write_run

IDS = [f"p{i}" for i in range(24)]


class Server(ThreadingHTTPServer):
    """Answers each chat request with what `reply` makes of its text: a string, or (status, headers, body if any)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = prefers("good")
        self.requests = []
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """A client that waits no longer has gone when its answer comes."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(
                (self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            )
            answer = self.server.reply(body["messages"][-1]["content"])
        content = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
        said = (200, {}, json.dumps(content)) if isinstance(answer, str) else (*answer, '{"no": "choices"}')
        status, headers, payload = said[0], {"Content-Type": "application/json"} | said[1], said[2].encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments):
        pass


def prefers(word):
    """A judge that finds the answer holding `word` the better one, or calls it a tie."""

    def reply(text):
        first, second = text.partition("[Answer A]")[2].split("[Answer B]")
        if (word in first) == (word in second):
            return "Both are alike.\nVerdict: tie"
        return f"Thinking of A and B.\nVerdict: {'A' if word in first else 'B'}"

    return reply


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def runs(tmp_path):
    ours = [row(i, f"good {i}", 1.0) for i in IDS]
    theirs = [row(i, f"bad {i}", 0.0) for i in IDS]
    return (
        read_run(write_run(tmp_path / "ours", ours)),
        read_run(write_run(tmp_path / "theirs", theirs)),
    )


def judge_at(server, **keys):
    return LlmJudge(kind="llm", base_url=f"http://127.0.0.1:{server.server_port}/v1/", model="m", **keys)


PAIRS = [(i, i) for i in range(len(IDS))]


def test_the_better_answer_wins_wherever_it_is_shown(server, runs, tmp_path):
    ours, theirs = runs
    assert LlmPairJudge(judge_at(server), tmp_path / "a.jsonl")(ours, theirs, PAIRS).tolist() == [1.0] * len(IDS)
    assert LlmPairJudge(judge_at(server), tmp_path / "a.jsonl")(theirs, ours, PAIRS).tolist() == [0.0] * len(IDS)
    shown_first = ["good" in body["messages"][1]["content"].split("[Answer B]")[0] for _, _, body in server.requests]
    assert 4 < sum(shown_first[: len(IDS)]) < 20, "which answer comes first is drawn, prompt by prompt"
    assert all(path == "/v1/chat/completions" for path, _, _ in server.requests)


def test_the_order_depends_on_seed_and_prompt_alone():
    orders = [[shows_second_first(seed, i) for i in IDS] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert 400 < sum(shows_second_first(0, str(i)) for i in range(1000)) < 600


def test_a_judge_that_always_says_a_is_worth_one_half(server, runs, tmp_path):
    server.reply = lambda text: "Verdict: A"
    wins = LlmPairJudge(judge_at(server), tmp_path / "a.jsonl")(*runs, PAIRS)
    assert wins.tolist() == [0.0 if shows_second_first(0, i) else 1.0 for i in IDS]


def test_verdicts_are_asked_for_once_in_a_lifetime(server, runs, tmp_path):
    store = tmp_path / "deep/judge.jsonl"
    first = LlmPairJudge(judge_at(server), store)(*runs, PAIRS)
    assert len(server.requests) == len(IDS)
    text = store.read_text()
    store.write_text(text[:-20])  # killed while the last verdict was written
    again = LlmPairJudge(judge_at(server), store)(*runs, PAIRS)
    assert len(server.requests) == len(IDS) + 1 and np.array_equal(first, again)
    assert len(VerdictStore(store).verdicts) == len(IDS) and store.read_text().endswith("\n")
    LlmPairJudge(judge_at(server, temperature=0.5), store)(*runs, PAIRS[:1])
    assert len(server.requests) == len(IDS) + 2, "another way to ask is another question"


def test_nonsense_is_no_verdict_and_is_kept(server, runs, tmp_path):
    server.reply = lambda text: "As a language model I like both."
    wins = LlmPairJudge(judge_at(server), tmp_path / "a.jsonl")(*runs, PAIRS)
    assert np.isnan(wins).all()
    LlmPairJudge(judge_at(server), tmp_path / "a.jsonl")(*runs, PAIRS)
    assert len(server.requests) == len(IDS)


@pytest.mark.parametrize(
    ("reply", "win"),
    [
        ("Verdict: A", 1.0),
        ("**Verdict:** B.", 0.0),
        ("verdict: tie", 0.5),
        ("A", 1.0),
        (" [[B]] ", 0.0),
        ("Verdict: A … no, wait.\nVerdict: B", 0.0),
        ("<think>Verdict: A</think>\nVerdict: B", 0.0),
        ("A tie would be unfair", None),
        ("Verdict: Answer A or B?", None),
        ("Verdict: Banana", None),
        ("", None),
    ],
)
def test_what_counts_as_a_verdict(reply, win):
    found = parse_verdict(reply)
    assert np.isnan(found) if win is None else found == win


QUESTION = [{"role": "user", "content": "q"}]
AT_ONCE = {"Retry-After-Ms": "1"}


def ask(judge):
    with chat_client(judge) as client:
        return client(QUESTION)


def test_faults_that_may_pass_are_tried_again_and_others_are_not(server):
    answers = [(503, AT_ONCE), (429, {"Retry-After": "0.01"}), "fine"]
    server.reply = lambda text: answers.pop(0)
    assert ask(judge_at(server)) == "fine" and len(server.requests) == 3
    answers[:] = [(401, {})]
    with pytest.raises(ModelError, match=r"judge m at http://127.*/v1: HTTP 401 \{"):
        ask(judge_at(server))
    answers[:] = [(500, AT_ONCE)] * 2
    with pytest.raises(ModelError, match="HTTP 500"):
        ask(judge_at(server, max_tries=2))
    assert len(server.requests) == 6 and not answers


def test_without_an_answer_in_time_there_is_none(server):
    release = threading.Event()
    server.reply = lambda text: "fine" if release.wait(60) else "late"
    try:
        with pytest.raises(ModelError, match=r"no answer in 1 tries: .*timed out"):
            ask(judge_at(server, max_tries=1, timeout_s=0.2))
    finally:
        release.set()


def test_nobody_there():
    with pytest.raises(ModelError, match=r"no answer in 2 tries: .*refused"):
        ask(LlmJudge(kind="llm", base_url="http://127.0.0.1:9", model="m", max_tries=2))


@pytest.mark.parametrize(
    "body",
    [
        "<html>", "", "[1]", "{}", '{"choices": []}', '{"choices": "abc"}', '{"choices": [{"message": null}]}',
        '{"choices": [{"message": {"role": "assistant", "content": {"a": 1}}}]}',
    ],
)  # fmt: skip
def test_an_answer_of_another_shape_is_no_completion(server, body):
    server.reply = lambda text: (200, {}, body)
    with pytest.raises(ModelError, match="the answer is no chat completion"):
        ask(judge_at(server))
    assert len(server.requests) == 1


def test_an_empty_reply_is_a_reply(server):
    server.reply = lambda text: (200, {}, '{"choices": [{"message": {"role": "assistant", "content": null}}]}')
    assert ask(judge_at(server)) == ""


def test_a_failing_endpoint_ends_the_judging_and_keeps_what_was_said(server, runs, tmp_path):
    replies = ["Verdict: tie"] * 5
    server.reply = lambda text: replies.pop() if replies else (400, {})
    with pytest.raises(ModelError, match="HTTP 400"):
        LlmPairJudge(judge_at(server, parallel_calls=1), tmp_path / "a.jsonl")(*runs, PAIRS)
    assert len(VerdictStore(tmp_path / "a.jsonl").verdicts) == 5


def test_the_key_comes_from_the_named_variable_and_from_no_other(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "not for this endpoint")
    server.reply = lambda text: "Verdict: tie"
    ask(judge_at(server, api_key_env="MY_KEY"))
    ask(judge_at(server))
    with_key, without = (headers for _, headers, _ in server.requests)
    assert with_key["authorization"] == "Bearer secret"
    assert "not for this endpoint" not in without.values() and "authorization" not in without


def test_the_request_is_the_judges_own(server):
    server.reply = lambda text: "Verdict: tie"
    ask(judge_at(server, temperature=0.5, max_tokens=7))
    ((_, _, body),) = server.requests
    assert body == {"model": "m", "messages": QUESTION, "temperature": 0.5, "max_tokens": 7}
