"""OpenAI's reply objects, whole and in chunks, with our own object `stars` in them."""

import json
import time
from dataclasses import asdict
from typing import Any, Literal

from actors.serving.generation import Generation
from pipeline.records import Judgement, RowResult

Endpoint = Literal["chat", "completion"]
OBJECT = {"chat": ("chat.completion", "chat.completion.chunk"), "completion": ("text_completion", "text_completion")}


class Replies:
    """Everything that is sent about one request.

    Args:
        endpoint: which of the two shapes.
        model: the name the client knows.
        generation: the request.
    """

    def __init__(self, endpoint: Endpoint, model: str, generation: Generation) -> None:
        self.endpoint = endpoint
        self.model = model
        self.generation = generation
        self.created = int(time.time())

    def whole(self) -> dict[str, Any]:
        """The reply to a request that does not stream."""
        choices = [self._whole_choice(i, result) for i, result in sorted(self.generation.results.items())]
        return self._head(0) | {"choices": choices, "usage": self.usage(), "stars": self.stars()}

    def text_chunk(self, choice: int, text: str, stars: dict[str, Any], is_first: bool) -> bytes:
        """New text of a choice."""
        if self.endpoint == "chat":
            body: dict[str, Any] = {
                "delta": {"role": "assistant"} | {"content": text} if is_first else {"content": text}
            }
        else:
            body = {"text": text}
        return self._chunk([{"index": choice, **body, "logprobs": None, "finish_reason": None}], stars)

    def silent_chunk(self, choice: int, stars: dict[str, Any]) -> bytes:
        """News without text."""
        body: dict[str, Any] = {"delta": {}} if self.endpoint == "chat" else {"text": ""}
        return self._chunk([{"index": choice, **body, "logprobs": None, "finish_reason": None}], stars)

    def finish_chunk(self, choice: int) -> bytes:
        """The end of one choice."""
        result = self.generation.results[choice]
        body: dict[str, Any] = {"delta": {}} if self.endpoint == "chat" else {"text": ""}
        ended = [{"index": choice, **body, "logprobs": None, "finish_reason": result.finish_reason}]
        return self._chunk(ended, self._stars_of(choice, result))

    def usage_chunk(self) -> bytes:
        return sse(self._head(1) | {"choices": [], "usage": self.usage()})

    def usage(self) -> dict[str, Any]:
        """Response tokens as users expect them; the discarded ones in the details."""
        results = self.generation.results.values()
        prompt_of = {self.generation.plan.prompt_of(i): r.num_prompt_tokens for i, r in self.generation.results.items()}
        prompt, completion = sum(prompt_of.values()), sum(result.num_response_tokens for result in results)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "completion_tokens_details": {"discarded_tokens": self.generation.discarded.num_tokens},
        }

    def stars(self) -> dict[str, Any]:
        """The first choice's evidence; with several choices, also that of each."""
        each = [self._stars_of(i, result) for i, result in sorted(self.generation.results.items())]
        return each[0] | ({"choices": each} if len(each) > 1 else {})

    def _stars_of(self, choice: int, result: RowResult) -> dict[str, Any]:
        attempts = sum(segment.num_attempts for segment in result.segments)
        accepted = sum(segment.accepted_by == "rule" for segment in result.segments)
        return {
            "id": self.generation.plan.rows[choice].row_id,
            "seed": result.seed,
            "strategy": result.strategy,
            "reward": result.reward,
            "acceptance": accepted / attempts if attempts else None,
            "attempts": attempts or None,
            "segments": [asdict(segment) for segment in result.segments],
            "policy_tokens": result.num_policy_tokens or None,
            "reward_tokens": result.num_reward_tokens or None,
            "cut_off": choice in self.generation.cut_off,
        }

    def _whole_choice(self, index: int, result: RowResult) -> dict[str, Any]:
        message = {"role": "assistant", "content": result.response, "refusal": None}
        body = {"message": message} if self.endpoint == "chat" else {"text": result.response}
        return {"index": index, **body, "logprobs": None, "finish_reason": result.finish_reason}

    def _head(self, which: int) -> dict[str, Any]:
        kind = OBJECT[self.endpoint][which]
        return {"id": self.generation.plan.request_id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, choices: list[dict[str, Any]], stars: dict[str, Any]) -> bytes:
        return sse(self._head(1) | {"choices": choices, "stars": stars})


def judged(judgement: Judgement, text: str) -> dict[str, Any]:
    """What a chunk says about one candidate."""
    return {
        "segment": judgement.segment,
        "attempt": judgement.attempt,
        "kept": judgement.is_kept,
        "text": text,
        "num_tokens": len(judgement.candidate.tokens),
        "reward": judgement.reward,
        "threshold": judgement.threshold,
    }


def sse(body: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, allow_nan=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
