"""The carriers between components. One word has one meaning throughout the project.

prompt      what the response answers, rendered and tokenised once
response    the tokens chosen so far, without the prompt
segment     a short continuation of the response, `segment_size` tokens unless it finished earlier
candidate   a proposed segment (or, in best-of-n, a whole response) that is not chosen yet
lane        one stream of proposals of a row; best-of-n holds n of them, STARS holds one
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

TokenArray = npt.NDArray[np.int32]
FinishReason = Literal["stop", "length", "error"]
AcceptedBy = Literal["rule", "fallback"]


@dataclass(frozen=True, slots=True)
class DrawKey:
    """Names one proposal of one row; with the row's own key it determines every random draw (contract 3)."""

    segment: int
    attempt: int
    lane: int = 0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are drawn: temperature 0 is greedy, `top_k` 0 and `top_p` 1 leave the distribution whole.
    A response ends where its text holds one of `stop`."""

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EntropyStop:
    """Ends a segment before its first token whose next-token entropy (of the raw softmax, in nats) is at least
    `threshold`, but not before it has `min_tokens`."""

    threshold: float
    min_tokens: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One candidate continuation. `tokens` is int32 [T]; when `finished` its last token is an end token."""

    tokens: TokenArray
    finished: bool


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """What became of one segment of a response: the evidence a reader needs to check the algorithm. Without a threshold
    (None) the best of all attempts is kept."""

    num_tokens: int
    reward: float
    threshold: float | None
    acceptance_probability: float | None
    num_attempts: int
    accepted_by: AcceptedBy


@dataclass(frozen=True, slots=True)
class Response:
    """The outcome of a strategy for one row. `tokens` is int32 [T] and includes the end token when there is one.

    `candidates` holds the (tokens, reward) of every whole response a best-of strategy chose among; `prompt_reward` is
    r(x, ""), None where the strategy did not ask for it.
    """

    tokens: TokenArray
    finished: bool
    reward: float
    segments: tuple[SegmentRecord, ...] = ()
    candidates: tuple[tuple[TokenArray, float], ...] = ()
    prompt_reward: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a strategy decided about one candidate for the place after `response_tokens`, int32 [T].

    `reward` and `threshold` are None where the strategy did not ask. A rejected candidate that the fallback keeps is
    told of twice. `segment` and `attempt` are those of its draw.
    """

    segment: int
    attempt: int
    response_tokens: TokenArray
    candidate: Segment
    reward: float | None
    threshold: float | None
    is_kept: bool


Report = Callable[[Judgement], None]


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """A judged candidate as text, for the output: `response_so_far` + `text` is what the reward was given for.
    `segment` and `attempt` are those of its draw; `finished` says that it ended with an end token."""

    segment: int
    attempt: int
    response_so_far: str
    text: str
    finished: bool
    reward: float | None
    threshold: float | None
    is_kept: bool


class Propose(Protocol):
    """Draws one candidate continuation of the response so far: at most `num_tokens`, fewer at an end token.

    `lane` names the cache to use and changes no draw; two requests of a row that overlap must name different lanes.
    With a `stop` the segment may end earlier.
    """

    def __call__(
        self,
        response_tokens: TokenArray,
        num_tokens: int,
        key: DrawKey,
        lane: int = 0,
        stop: EntropyStop | None = None,
    ) -> Awaitable[Segment]: ...


class Score(Protocol):
    """Reward of prompt + response so far. `lane` names the cache to use, as for `Propose`."""

    def __call__(self, response_tokens: TokenArray, finished: bool, lane: int = 0) -> Awaitable[float]: ...


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One input row after the checks of `pipeline.dataset.rows`.

    Exactly one of `prompt`, `messages` and `error` is set. `row_index` is the row's place in the whole input;
    `sampling_overrides` holds the row's own `sampling_params`, already checked, a `seed` among them if it has one;
    `columns` the input columns that the reward asked for.
    """

    row_index: int
    row_id: str | None
    prompt: str | None = None
    messages: tuple[dict[str, str], ...] | None = None
    sampling_overrides: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    error_type: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RowResult:
    """One output row's new columns (contract 4). With `error_type` set there is no response, reward or segment;
    the token and call counts are what the row had cost until then."""

    strategy: str
    seed: int
    finish_reason: FinishReason
    response: str | None = None
    reward: float | None = None
    prompt_reward: float | None = None
    num_prompt_tokens: int = 0
    num_response_tokens: int = 0
    num_policy_tokens: int = 0
    num_reward_tokens: int = 0
    num_policy_calls: int = 0
    num_reward_calls: int = 0
    segments: tuple[SegmentRecord, ...] = ()
    responses: tuple[str, ...] | None = None
    rewards: tuple[float, ...] | None = None
    candidates: tuple[CandidateRecord, ...] = ()
    error_type: str | None = None
    error: str | None = None
