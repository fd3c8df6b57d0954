"""A load generator: many clients send requests to a running server over HTTP, each client one after the other.

Latencies are measured at the client: from sending a request to its first accepted segment, between two segments, and to
the end. Every request is streamed, because streaming costs the server more.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice

import aiohttp
import numpy as np
from rich.table import Table

from pipeline.errors import ModelError

TIMEOUT_S = 600.0


@dataclass(slots=True)
class Answer:
    """What one request took: seconds to each kept segment, and in total."""

    segments_s: list[float] = field(default_factory=list)
    total_s: float = 0.0
    num_tokens: int = 0
    status: int = 200


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """One load: `num_streams` streams at once for `wall_s`."""

    num_streams: int
    wall_s: float
    answers: list[Answer]

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 200]

    def row(self) -> list[str]:
        """The table's cells."""
        first = [answer.segments_s[0] for answer in self.good if answer.segments_s]
        steps = [step for answer in self.good for step in np.diff(answer.segments_s)]
        totals = [answer.total_s for answer in self.good]
        tokens = sum(answer.num_tokens for answer in self.good)
        ratio = max(totals) / float(np.median(totals)) if totals else float("nan")
        failed = len(self.answers) - len(self.good)
        return [
            str(self.num_streams),
            f"{len(self.good)}" + (f" (+{failed} failed)" if failed else ""),
            *(_p50_p99(values) for values in (first, steps, totals)),
            f"{ratio:.1f}",
            f"{tokens / self.wall_s:,.0f}",
        ]


def load_table(figures: list[LoadFigures]) -> Table:
    """One row per load."""
    table = Table(title="seconds: p50 / p99")
    for name in ("streams", "answers", "first segment", "per segment", "answer", "max/median", "accepted tokens/s"):
        table.add_column(name, justify="right")
    for one in figures:
        table.add_row(*one.row())
    return table


async def run_load(url: str, prompts: list[str], num_streams: int, num_requests: int, api_key: str) -> LoadFigures:
    """Send `num_requests` requests, `num_streams` at a time.

    Raises:
        ModelError: no server answers there.
    """
    questions = islice(cycle(enumerate(prompts)), num_requests)
    limits = aiohttp.TCPConnector(limit=num_streams)
    headers, timeout = {"Authorization": f"Bearer {api_key}"}, aiohttp.ClientTimeout(TIMEOUT_S)
    async with aiohttp.ClientSession(connector=limits, headers=headers, timeout=timeout) as session:
        started_s = time.monotonic()
        try:
            streams = [_stream(session, url, questions) for _ in range(num_streams)]
            answers = [answer for answered in await asyncio.gather(*streams) for answer in answered]
        except aiohttp.ClientConnectorError as error:
            raise ModelError(f"no server answers at {url}: {error.strerror}") from None
        return LoadFigures(num_streams, time.monotonic() - started_s, answers)


async def _stream(session: aiohttp.ClientSession, url: str, questions: Iterator[tuple[int, str]]) -> list[Answer]:
    """One client: sends the next request as soon as it has its answer."""
    return [await _ask(session, url, number, prompt) for number, prompt in questions]


async def _ask(session: aiohttp.ClientSession, url: str, number: int, prompt: str) -> Answer:
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "stars": {"id": f"load-{number}"},
    }
    answer, started_s = Answer(), time.monotonic()
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        answer.status = reply.status
        async for line in reply.content:
            if answer.status == 200 and line.startswith(b"data: {"):
                _read(answer, json.loads(line[6:]), time.monotonic() - started_s)
    answer.total_s = time.monotonic() - started_s
    return answer


def _read(answer: Answer, event: dict, now_s: float) -> None:
    if "error" in event:
        answer.status = 500
    elif event.get("usage"):
        answer.num_tokens = event["usage"]["completion_tokens"]
    elif event["stars"].get("kept"):
        answer.segments_s.append(now_s)


def _p50_p99(values: list[float]) -> str:
    return "–" if not values else f"{np.percentile(values, 50):.2f} / {np.percentile(values, 99):.2f}"
