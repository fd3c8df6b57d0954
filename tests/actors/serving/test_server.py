"""`python -m jobs.serve` as a user starts it, on the embedded models: answers, faults, hostile requests, the page."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import psutil
import pyarrow.parquet as pq
import pytest

from tests.embedded import CONFIG, MAX_NEW_TOKENS
from tests.hostile_requests import hostile_bodies
from tests.ray_head import free_ports

pytestmark = pytest.mark.ray
START_S = 240
LIMIT = 48  # answers under way
QUESTION = [{"role": "user", "content": "Tell me about the sea."}]


class ServerProcess:
    """A started server: its URL, its process, everything it printed."""

    def __init__(self, *overrides):
        (port,) = free_ports(1)
        config = ["--config", CONFIG, MAX_NEW_TOKENS, f"serve.port={port}", *overrides]
        command = [sys.executable, "-m", "jobs.serve", *config]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        with self.process.stdout as stdout:
            self.lines += iter(stdout.readline, "")

    def wait_until_ready(self):
        deadline_s = time.monotonic() + START_S
        while not (found := re.search(r"ready after \d+ s: (http://\S+)", "".join(self.lines))):
            assert self.process.poll() is None and time.monotonic() < deadline_s, "".join(self.lines)
            time.sleep(0.2)
        self.url = found.group(1)

    def answers_under_way(self):
        with urllib.request.urlopen(self.url + "/metrics") as reply:
            return float(re.search(r"^stars_answers_under_way (\S+)", reply.read().decode(), re.MULTILINE)[1])

    def pids(self, name):
        """Processes of the replicas of one deployment."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child.pid for child in children if f"ServeReplica:stars:{name}" in "".join(child.cmdline())]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.reader.join()


@pytest.fixture(scope="module")
def server():
    server = ServerProcess(f"serve.max_ongoing_requests={LIMIT}", "serve.limits.max_client_share=1", "serve.allow=all")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_requests_with_the_ids_of_batch_rows_get_the_batchs_responses(embedded_output, client):
    rows = pq.read_table(embedded_output).to_pylist()[:6]
    assert len(rows) == 6
    for row in rows:
        question = row["messages"] or [{"role": "user", "content": row["prompt"]}]
        stars = {"id": row["id"]}
        reply = client.chat.completions.create(
            model="policy", messages=question, seed=row["seed"], extra_body={"stars": stars}
        )
        assert reply.choices[0].message.content == row["response"]
        assert (reply.stars["reward"], reply.choices[0].finish_reason) == (row["reward"], row["finish_reason"])
        assert reply.stars["segments"] == row["segments"]
        streamed = client.chat.completions.create(
            model="policy", messages=question, seed=row["seed"], stream=True, extra_body={"stars": stars}
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == row["response"]


def test_hostile_requests_get_a_4xx_or_an_answer(server, client):
    def ask(body):
        json_type = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.url}/v1/chat/completions", body, json_type, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
            assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}, (body[:200], text)
        assert status == 200 or 400 <= status < 500, (body[:200], status, text[:500])
        assert not re.search(r"Traceback|/work/|site-packages|\.py\b", text), text[:500]
        return status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, hostile_bodies(seed=11, count=200)))
    assert len(statuses) == 200 and statuses.count(200) > 10 and 429 not in statuses
    assert client.chat.completions.create(model="policy", messages=QUESTION).choices[0].message.content


def test_streams_that_nobody_reads_hold_up_nobody_else(server, client):
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": QUESTION, "stream": True, "n": 8, "max_tokens": 256}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as readers:
        for _ in range(4):
            reader = readers.enter_context(socket.create_connection((host, int(port))))
            reader.sendall(head + body)
        deadline_s = time.monotonic() + START_S
        while server.answers_under_way() < 4 * 8:
            assert time.monotonic() < deadline_s
        assert client.chat.completions.create(model="policy", messages=QUESTION).choices[0].message.content


class Crowd:
    """Many requests at once, half of them streams; `outcomes` are texts, or the errors that the client raised.

    Args:
        on_first: called once, when the first stream has sent something: at that moment every answer but those in
            `outcomes` is under way.
    """

    def __init__(self, server, on_first=lambda: None):
        self.server, self.on_first, self.outcomes = server, on_first, []
        self.num_under_way = None

    def ask(self, count):
        asyncio.run(self._ask(count))
        return self.outcomes

    async def _ask(self, count):
        url = self.server.url + "/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as client:
            await asyncio.gather(*(self._outcome(client, number, count) for number in range(count)))

    async def _outcome(self, client, number, count):
        question = [{"role": "user", "content": f"Tell me about number {number}."}]
        try:
            if number % 2:
                reply = await client.chat.completions.create(model="policy", messages=question)
                outcome = reply.choices[0].message.content
            else:
                outcome = ""
                async for chunk in await client.chat.completions.create(model="policy", messages=question, stream=True):
                    if self.num_under_way is None:
                        self.num_under_way = count - len(self.outcomes)
                        self.on_first()
                    outcome += chunk.choices[0].delta.content or ""
        except openai.APIError as error:
            outcome = error
        self.outcomes.append(outcome)


def struck(server, deployment, count):
    """Outcomes of so many requests, with the replica of a deployment killed while most of them are under way."""
    pids = server.pids(deployment)
    assert len(pids) == 1
    crowd = Crowd(server, lambda: os.kill(pids[0], signal.SIGKILL))
    outcomes = crowd.ask(count)
    assert len(outcomes) == count and crowd.num_under_way > count / 2, crowd.num_under_way
    assert server.pids(deployment) != pids
    return outcomes


@pytest.mark.parametrize("deployment", ["policy-0", "reward-0"])
def test_a_model_that_dies_under_load_costs_no_request(server, deployment):
    outcomes = struck(server, deployment, 24)
    assert [outcome for outcome in outcomes if not isinstance(outcome, str)] == []


def test_an_ingress_that_dies_under_load_ends_requests_in_openais_shape(server, client):
    outcomes = struck(server, "ingress", 24)
    errors = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert len(errors) > 12
    assert all(isinstance(error, openai.APIError) and error.code == "replica_died" for error in errors), errors
    assert client.chat.completions.create(model="policy", messages=QUESTION).choices[0].message.content


def test_beyond_what_may_be_under_way_clients_are_told_to_come_back(server, client):
    outcomes = Crowd(server).ask(80)
    refused = [outcome for outcome in outcomes if isinstance(outcome, openai.RateLimitError)]
    assert len(refused) == 80 - LIMIT and all(error.response.headers["retry-after"] for error in refused)
    assert sum(isinstance(outcome, str) for outcome in outcomes) == LIMIT
    assert json.load(urllib.request.urlopen(server.url + "/health")) == {"status": "ok"}


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs Debian's chromium and chromium-driver: apt-get install chromium chromium-driver",
)
def test_the_page_shows_segments_as_they_are_judged(server, tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1100"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, Service(shutil.which("chromedriver"))) as browser:
        browser.get(server.url)
        box = browser.find_element(By.ID, "prompt")
        box.clear()
        box.send_keys("How do I open my neighbour's locked door?")
        browser.find_element(By.ID, "go").click()

        def texts(selector):
            return [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]

        for name in ("aligned", "vanilla"):
            WebDriverWait(browser, 60).until(lambda _, name=name: "ended by" in "".join(texts(f"#{name}-status")))
        kept = browser.find_elements(By.CSS_SELECTOR, "#aligned .segment.kept")
        assert kept and "".join(texts("#vanilla"))
        assert all("reward" in text and "threshold" in text for text in texts("#aligned .figures"))
        num_draws = int(re.search(r"(\d+) draws", texts("#aligned-status")[0]).group(1))
        rejected = browser.find_elements(By.CSS_SELECTOR, "#aligned .segment.rejected .text")
        assert len(kept) + len(rejected) >= num_draws
        for element in rejected:
            assert "line-through" in element.value_of_css_property("text-decoration")
        widths = [bar.size["width"] for bar in browser.find_elements(By.CSS_SELECTOR, ".segment .bar")]
        assert max(widths) > min(widths)
        folder = os.environ.get("SCREENSHOTS", tmp_path)
        assert browser.save_screenshot(f"{folder}/page.png")
        assert browser.get_log("browser") == []
