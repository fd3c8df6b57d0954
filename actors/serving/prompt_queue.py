"""Prompts become tokens once each, in a thread of their own, and are refused where they do not fit.

Invariant: the event loop never tokenises a prompt. The shortest is next, so that a long one holds up nobody for longer
than it takes itself, and of a text that is far too long only the beginning is tokenised. The reader is this thread's
own: what a tokenizer is told about special tokens is state that two threads would change under each other.
"""

import asyncio
import queue
import threading
from dataclasses import dataclass, field, replace
from itertools import count

from actors.rendering.prompt_reader import PromptReader, messages_of
from actors.serving.answer_plan import Plan
from actors.serving.api_errors import ApiError
from actors.serving.server_config import ServeConfig
from pipeline.errors import RowError
from pipeline.records import PromptRow, TokenArray

CHARACTERS_PER_TOKEN = 8  # twice what text has; where more fit, the whole text is tokenised


@dataclass(order=True, slots=True)
class Waiting:
    """A prompt whose tokens somebody waits for."""

    num_characters: int
    number: int
    row: PromptRow = field(compare=False)
    answer: "asyncio.Future[TokenArray]" = field(compare=False)


class PromptQueue:
    """Reads prompts for one event loop.

    Args:
        reader: the policy's way of reading, used by nobody else.
        max_model_len: most tokens that fit.
    """

    def __init__(self, reader: PromptReader, max_model_len: int) -> None:
        self.reader = reader
        self.max_model_len = max_model_len
        self._waiting: queue.PriorityQueue[Waiting] = queue.PriorityQueue()
        self._numbers = count()
        threading.Thread(target=self._serve, name="prompts", daemon=True).start()

    async def tokens(self, row: PromptRow) -> TokenArray:
        """A prompt's tokens up to where the response begins.

        Raises:
            RowError: the template refuses it, or it can never fit.
        """
        answer: asyncio.Future[TokenArray] = asyncio.get_running_loop().create_future()
        num_characters = sum(len(message["content"]) for message in messages_of(row))
        self._waiting.put(Waiting(num_characters, next(self._numbers), row, answer))
        return await answer

    def _serve(self) -> None:
        while True:
            waiting = self._waiting.get()
            if waiting.answer.cancelled():
                continue
            loop, tokens, error = waiting.answer.get_loop(), None, None
            try:
                tokens = self._read(waiting)
            except Exception as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(_set, waiting.answer, tokens, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _read(self, waiting: Waiting) -> TokenArray:
        beginning = CHARACTERS_PER_TOKEN * self.max_model_len
        if waiting.num_characters > beginning:
            text = "".join(message["content"] for message in messages_of(waiting.row))[:beginning]
            if len(self.reader.prompt_tokens(PromptRow(0, None, prompt=text))) > self.max_model_len:
                raise RowError("prompt_too_long", f"the prompt has more than {self.max_model_len} tokens")
        return self.reader.prompt_tokens(waiting.row)


def _set(answer: "asyncio.Future[TokenArray]", tokens: TokenArray | None, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    elif tokens is not None:
        answer.set_result(tokens)


async def with_prompts(plan: Plan, prompts: PromptQueue, config: ServeConfig) -> Plan:
    """The plan with every prompt's tokens; a row that asks for no number of tokens gets what fits of the config's.

    Raises:
        ApiError: 400, a prompt cannot be read or does not fit.
    """
    rows, tokens = list(plan.rows), []
    for first in range(0, len(rows), plan.choices_per_prompt):
        try:
            tokens.append(await prompts.tokens(rows[first]))
        except RowError as error:
            raise prompt_error(error, plan.param, config.engine.max_model_len) from None
        for choice in range(first, first + plan.choices_per_prompt):
            rows[choice] = _fitted(rows[choice], tokens[-1], len(prompts.reader.closing_tokens), plan.param, config)
    return replace(plan, rows=tuple(rows), prompts=tuple(tokens))


def prompt_error(error: RowError, param: str, max_model_len: int | None) -> ApiError:
    """What a client is told about a prompt that cannot be answered."""
    if error.error_type != "prompt_too_long":
        return ApiError(400, error.message, param, error.error_type)
    return context_length_exceeded(max_model_len, f"what you sent as {param} does not fit", param)


def context_length_exceeded(max_model_len: int | None, what: str, param: str) -> ApiError:
    """In the words that clients look for."""
    return ApiError(
        400,
        f"This model's maximum context length is {max_model_len} tokens. However, {what}. "
        f"Please reduce the length of the {param} or the number of tokens.",
        param,
        "context_length_exceeded",
    )


def _fitted(row: PromptRow, prompt: TokenArray, num_closing: int, param: str, config: ServeConfig) -> PromptRow:
    limit = config.engine.max_model_len
    assert limit is not None
    asked, room = row.sampling_overrides.get("max_new_tokens"), limit - len(prompt)
    if asked is None:
        room -= num_closing  # which the reward model reads behind a response
    wanted = asked or config.generation.max_new_tokens
    if room < (asked or 1):
        what = f"you requested {len(prompt) + (asked or 1)} tokens ({len(prompt)} in the {param}"
        raise context_length_exceeded(limit, f"{what}, {asked or 'at least 1'} in the completion)", param)
    if wanted <= room:
        return row
    return replace(row, sampling_overrides=row.sampling_overrides | {"max_new_tokens": room})
