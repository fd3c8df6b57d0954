"""What a preference pair is, made of the candidates that a run kept, and TRL's two formats for it.

segment     what was kept at a place of the response against what was rejected at the same place; the prompt of the pair
            is prompt + response so far, as text: no chat template continues in the middle of a turn
response    the row's response against every rejected candidate that ended a response; only responses that ended with an
            end token, because TRL ends what it is given

Invariants: in every pair both rewards are known, the chosen one is the higher, and the texts differ. A soft rule
sometimes accepts a lower reward than one it rejected: such pairs are left out and counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

Level = Literal["segment", "response"]
Messages = list[dict[str, str]]
Row = dict[str, Any]

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True, slots=True)
class Completion:
    """One side of a pair; `finished` says that it ended with an end token."""

    text: str
    finished: bool
    reward: float


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Both completions continue prompt + `response_so_far`."""

    row_id: str
    messages: Messages
    response_so_far: str
    chosen: Completion
    rejected: Completion

    @property
    def is_ordered(self) -> bool:
        """Whether the rewards agree with the pair."""
        return self.chosen.reward > self.rejected.reward and self.chosen.text != self.rejected.text


def segment_pairs(row: Row, messages: Messages) -> Iterator[PreferencePair]:
    """Every rejected candidate with the one that was kept in its place."""
    places = {(c["segment"], c["response_so_far"]): c for c in _judged(row) if c["is_kept"]}
    for candidate in _judged(row):
        place = (candidate["segment"], candidate["response_so_far"])
        if not candidate["is_kept"] and place in places:
            kept, rejected = (Completion(c["text"], c["finished"], c["reward"]) for c in (places[place], candidate))
            yield PreferencePair(str(row["id"]), messages, candidate["response_so_far"], kept, rejected)


def response_pairs(row: Row, messages: Messages) -> Iterator[PreferencePair]:
    """Every rejected candidate that ends a response, with the row's response."""
    if row["finish_reason"] != "stop":
        return
    chosen = Completion(row["response"], True, row["reward"])
    for candidate in _judged(row):
        if not candidate["is_kept"] and candidate["finished"]:
            text = candidate["response_so_far"] + candidate["text"]
            rejected = Completion(text, True, candidate["reward"])
            yield PreferencePair(str(row["id"]), messages, "", chosen, rejected)


PAIRS: dict[Level, Callable[[Row, Messages], Iterator[PreferencePair]]] = {
    "segment": segment_pairs,
    "response": response_pairs,
}


def _judged(row: Row) -> list[Row]:
    return [candidate for candidate in row["candidates"] or [] if candidate["reward"] is not None]


@dataclass(frozen=True, slots=True)
class TextFormat:
    """TRL's standard format. `prompt_text` renders a conversation as the policy reads it; a completion that is finished
    ends with the end token's text."""

    prompt_text: Callable[[Messages], str]
    end_token: str

    @property
    def schema(self) -> pa.Schema:
        return _schema(pa.string(), pa.string())

    def record(self, pair: PreferencePair) -> Row:
        prompt = self.prompt_text(pair.messages) + pair.response_so_far
        return _record(pair, prompt, self._completion(pair.chosen), self._completion(pair.rejected))

    def _completion(self, completion: Completion) -> str:
        return completion.text + (self.end_token if completion.finished else "")


@dataclass(frozen=True, slots=True)
class ConversationalFormat:
    """TRL's conversational format, for whole responses."""

    @property
    def schema(self) -> pa.Schema:
        return _schema(_MESSAGES, _MESSAGES)

    def record(self, pair: PreferencePair) -> Row:
        return _record(pair, pair.messages, *(_assistant_turn(side.text) for side in (pair.chosen, pair.rejected)))


PairFormat = TextFormat | ConversationalFormat


def _schema(prompt: pa.DataType, completion: pa.DataType) -> pa.Schema:
    rewards = [("chosen_reward", pa.float64()), ("rejected_reward", pa.float64())]
    return pa.schema(
        [("id", pa.string()), ("prompt", prompt), ("chosen", completion), ("rejected", completion), *rewards]
    )


def _record(pair: PreferencePair, prompt: Any, chosen: Any, rejected: Any) -> Row:
    return {
        "id": pair.row_id,
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "chosen_reward": pair.chosen.reward,
        "rejected_reward": pair.rejected.reward,
    }


def _assistant_turn(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]
