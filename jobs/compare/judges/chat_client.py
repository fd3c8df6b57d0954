"""Requests to an OpenAI-compatible chat endpoint, by the `openai` client (extra `judge`).

The client retries a request after no connection, a time-out, or status 408, 409, 429 or 5xx; it waits for `Retry-After`
or a growing pause. Any other status and a reply of another shape end the judging: a retry would meet them again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.compare.config import LlmJudge
from pipeline.errors import ModelError

Message = dict[str, str]
Ask = Callable[[list[Message]], str]
MAX_REASON_CHARACTERS = 300


@contextmanager
def chat_client(judge: LlmJudge) -> Iterator[Ask]:
    """A function from messages to the model's reply, for several threads.

    It raises ModelError: no answer in `max_tries`, a status that is no success, or a reply that is no completion.
    """
    from openai import APIConnectionError, APIStatusError, Omit, OpenAI

    key = os.environ[judge.api_key_env] if judge.api_key_env else None
    none = {} if key else dict.fromkeys(("Authorization", "OpenAI-Organization", "OpenAI-Project"), Omit())
    where = f"judge {judge.model} at {judge.base_url}"
    options = {"timeout": judge.timeout_s, "max_retries": judge.max_tries - 1}
    with OpenAI(base_url=judge.base_url, api_key=key or "none", **options) as client:

        def ask(messages: list[Message]) -> str:
            try:
                completion = client.chat.completions.create(
                    model=judge.model,
                    messages=messages,
                    temperature=judge.temperature,
                    max_tokens=judge.max_tokens,
                    extra_headers=none,
                )
                content = completion.choices[0].message.content or ""
            except APIStatusError as error:
                reason = " ".join(error.response.text.split())[:MAX_REASON_CHARACTERS]
                raise ModelError(f"{where}: HTTP {error.status_code} {reason}") from None
            except APIConnectionError as error:
                cause = error.__cause__ or error
                raise ModelError(f"{where}: no answer in {judge.max_tries} tries: {cause}") from None
            except (ValueError, AttributeError, IndexError, TypeError):  # JSON of another shape, or no JSON
                raise ModelError(f"{where}: the answer is no chat completion") from None
            if not isinstance(content, str):
                raise ModelError(f"{where}: the answer is no chat completion")
            return content

        yield ask
