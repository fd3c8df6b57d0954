"""What the processes of a cell say to each other: cohorts of rows to a model, and its answers.

Everything is numpy, because numpy crosses Ray at half the cost of torch tensors. Suffixes: R rows, T tokens.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pipeline.records import PromptRow, TokenArray

MAX_DEATHS = 3  # of a model in a row, or silences, without an answer between them, until its calls are given up


@dataclass(frozen=True, slots=True)
class ProposeCohort:
    """What the policy gets in one call: R rows, each with its slot, its whole token prefix and its draw key.

    `prefix_tokens` concatenates the R prefixes (prompt + response so far), `prefix_lengths_R` cuts them.
    `stop_entropy_R` and `stop_after_R` are the rows' entropy stops, inf for a row without; None when no row has one.
    """

    slots_R: npt.NDArray[np.int32]
    prefix_tokens: TokenArray
    prefix_lengths_R: npt.NDArray[np.int32]
    num_tokens_R: npt.NDArray[np.int32]
    row_keys_R: npt.NDArray[np.int64]
    draw_keys_R3: npt.NDArray[np.int64]
    temperature_R: npt.NDArray[np.float32]
    top_p_R: npt.NDArray[np.float32]
    top_k_R: npt.NDArray[np.int32]
    stop_entropy_R: npt.NDArray[np.float32] | None = None
    stop_after_R: npt.NDArray[np.int32] | None = None

    @property
    def last_tokens_R(self) -> TokenArray:
        """The last token of every prefix."""
        return self.prefix_tokens[np.cumsum(self.prefix_lengths_R) - 1]


@dataclass(frozen=True, slots=True)
class ScoreCohort:
    """What a reward gets in one call: R conversations, each with the slot that its prefix may be cached in.

    `rows` are the prompts, with the input columns that the reward asked for. `response_tokens` concatenates the R
    responses so far, in the policy's tokens and without what ended them; `response_lengths_R` cuts them. `texts` are
    the same as text where the reward reads text. `room_R` is how many tokens a response may still grow by.
    """

    slots_R: npt.NDArray[np.int32]
    rows: tuple[PromptRow, ...]
    response_tokens: TokenArray
    response_lengths_R: npt.NDArray[np.int32]
    finished_R: npt.NDArray[np.bool_]
    room_R: npt.NDArray[np.int32]
    texts: tuple[str, ...] | None = None

    @classmethod
    def of_texts(cls, rows: Sequence[PromptRow], texts: Sequence[str], finished: Sequence[bool]) -> "ScoreCohort":
        """Responses that exist already, in slots of their own."""
        nothing = np.zeros(len(rows), np.int32)
        slots_R = np.arange(len(rows), dtype=np.int32)
        finished_R = np.array(finished, np.bool_)
        return cls(slots_R, tuple(rows), np.zeros(0, np.int32), nothing, finished_R, nothing, tuple(texts))

    def __len__(self) -> int:
        return len(self.rows)

    def conversations(self) -> Iterator[tuple[PromptRow, TokenArray, str | None]]:
        """Each row's prompt, response tokens and response text."""
        responses = split_prefixes(self.response_tokens, self.response_lengths_R)
        return zip(self.rows, responses, self.texts or [None] * len(self), strict=True)


@dataclass(frozen=True, slots=True)
class CallStats:
    """What one model call cost. `pushed_tokens_R` counts tokens fed through the model, row by row; the two
    instants are `time.time()` on the model's machine. Of the time between them, `prefill_s` brought caches up to
    their prefixes and `sampling_s` drew tokens; the rest is the policy's decoding. Calls that a model worked on at the
    same time share these and `busy_s` out among them, so that sums over calls are true. `can_be_joined` says that a
    call which comes while others are under way is worked on beside them."""

    pushed_tokens_R: npt.NDArray[np.int32]
    started_s: float
    ended_s: float
    prefill_s: float = 0.0
    sampling_s: float = 0.0
    shared_busy_s: float | None = None
    can_be_joined: bool = False

    @classmethod
    def of_prefill(cls, pushed_tokens_R: npt.NDArray[np.int32], started_s: float) -> "CallStats":
        """A call that ends now and did nothing but read."""
        ended_s = time.time()
        return cls(pushed_tokens_R, started_s, ended_s, prefill_s=ended_s - started_s)

    def of_rows(self, pushed_tokens_R: npt.NDArray[np.int32]) -> "CallStats":
        """The same call with other rows' counts."""
        return replace(self, pushed_tokens_R=pushed_tokens_R)

    @property
    def busy_s(self) -> float:
        """The model's time: what lies between the instants, or this call's share of it."""
        return self.ended_s - self.started_s if self.shared_busy_s is None else self.shared_busy_s


@dataclass(frozen=True, slots=True)
class Proposals:
    """The policy's answer: int32 [R, T] tokens, right-padded; the first `lengths_R` of each row count.
    `invalid_R` marks rows whose logits were not finite; None stands for none."""

    tokens_RT: npt.NDArray[np.int32]
    lengths_R: npt.NDArray[np.int32]
    finished_R: npt.NDArray[np.bool_]
    stats: CallStats
    invalid_R: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """The reward's answer: one float64 per row; `faults` are the rows that could not be scored, by their place: the
    kind of fault and a sentence about it. A fault never becomes a number."""

    rewards_R: npt.NDArray[np.float64]
    stats: CallStats
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)


def split_prefixes(tokens: TokenArray, lengths_R: npt.NDArray[np.int32]) -> list[TokenArray]:
    """Cut concatenated prefixes back into one array per row."""
    return np.split(tokens, np.cumsum(lengths_R)[:-1])
