"""One request to an OpenAI-compatible chat endpoint, and the one place where it is tried again.

Tried again: no connection, no answer in time, 408, 409, 429 and 5xx, after `Retry-After` or 1, 2, 4, … seconds. Not
tried again: any other status, which the same request would meet once more.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from jobs.compare.config import LlmJudge
from pipeline.errors import ModelError

PASSING = frozenset({408, 409, 429, *range(500, 600)})
LONGEST_WAIT_S = 60.0


def ask(judge: LlmJudge, messages: list[dict[str, str]], sleep: Callable[[float], None] = time.sleep) -> str:
    """The model's reply.

    Raises:
        ModelError: no reply after `max_tries`, a status that will not change, or a reply of another shape.
    """
    body = {
        "model": judge.model,
        "messages": messages,
        "temperature": judge.temperature,
        "max_tokens": judge.max_tokens,
    }
    for number in range(judge.max_tries):
        try:
            with urllib.request.urlopen(_request(judge, body), timeout=judge.timeout_s) as response:
                return _content(judge, response.read())
        except urllib.error.HTTPError as error:
            problem, wait_s = f"HTTP {error.code} {_reason(error)}", _retry_after_s(error)
            if error.code not in PASSING:
                raise ModelError(f"judge {judge.model} at {judge.base_url}: {problem}") from None
        except (OSError, TimeoutError) as error:  # URLError is an OSError: refused, reset, unknown host, timed out
            problem, wait_s = str(getattr(error, "reason", error)), None
        if number + 1 < judge.max_tries:
            sleep(min(LONGEST_WAIT_S, 2.0**number if wait_s is None else wait_s))
    raise ModelError(f"judge {judge.model} at {judge.base_url}: no answer in {judge.max_tries} tries: {problem}")


def _request(judge: LlmJudge, body: dict[str, object]) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"}
    if judge.api_key_env:
        headers["Authorization"] = f"Bearer {os.environ[judge.api_key_env]}"
    data = json.dumps(body).encode()
    return urllib.request.Request(f"{judge.base_url}/chat/completions", data, headers)


def _content(judge: LlmJudge, payload: bytes) -> str:
    try:
        return json.loads(payload)["choices"][0]["message"]["content"] or ""
    except (ValueError, KeyError, IndexError, TypeError):
        raise ModelError(f"judge {judge.model} at {judge.base_url}: the answer is no chat completion") from None


def _reason(error: urllib.error.HTTPError) -> str:
    return " ".join(error.read(300).decode("utf-8", "replace").split())


def _retry_after_s(error: urllib.error.HTTPError) -> float | None:
    try:
        return float(error.headers.get("Retry-After", ""))
    except ValueError:
        return None
