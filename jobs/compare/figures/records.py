"""The figures of a comparison: everything the report shows, as numbers; `compare.json` is exactly this.

A figure is a mean over prompts with its 95 % interval (`jobs.compare.figures.resampling`).
"""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from jobs.compare.figures.resampling import Estimate
from pipeline.storage import Location


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """One judge on one contender; the baseline ties with itself. `score` and `difference` are null for judges of pairs.

    `difference` is the mean over prompts of score minus the baseline's score; `by_seed` holds the mean score of each
    seed, or for a judge of pairs the win-rate of each pair of seeds.
    """

    score: Estimate | None
    win_rate: Estimate | None
    tie_fraction: float | None
    difference: Estimate | None
    by_seed: tuple[float | None, ...]
    num_unjudged: int


@dataclass(frozen=True, slots=True)
class SegmentFigures:
    """What happened at one segment index: over `num_segments` kept segments that end, in the mean, after
    `position_tokens` of the response. Reward and threshold are means, null where the strategy has none."""

    index: int
    num_segments: int
    num_attempts: int
    num_fallbacks: int
    position_tokens: float
    reward: float | None
    threshold: float | None

    @property
    def acceptance_rate(self) -> float:
        """Accepted by rule, per proposed segment."""
        return (self.num_segments - self.num_fallbacks) / self.num_attempts


@dataclass(frozen=True, slots=True)
class ContenderFigures:
    """One contender. Costs are means per response; tokens are those pushed through a model, prompt included.

    A family is a strategy and, where policies differ, the policy under it. What follows from responses is null where it
    has none. `reward_judge_correlation` is Spearman's over its responses, `hacked_fraction` that of pairs in which the
    reward model prefers its response and the primary judge the baseline's. `behind_best` is the best contender's
    quality minus this one's, prompt by prompt.
    """

    name: str
    family: str
    strategy: dict[str, Any]
    policy: str
    outputs: tuple[str, ...]
    seeds: tuple[int, ...]
    shares_draws_with_baseline: bool
    num_responses: int
    num_error_rows: int
    error_rows_by_type: dict[str, int]
    judges: dict[str, JudgeFigures]
    policy_tokens: Estimate | None
    reward_tokens: Estimate | None
    policy_calls: Estimate | None
    reward_calls: Estimate | None
    response_tokens: Estimate | None
    stopped_fraction: float | None
    acceptance_rate: float | None
    fallback_fraction: float | None
    segments: tuple[SegmentFigures, ...]
    reward_judge_correlation: float | None
    hacked_fraction: float | None
    behind_best: Estimate | None = None
    on_frontier: bool = False

    def quality(self, judge: str) -> Estimate | None:
        """What this judge ranks by: the score, or the win-rate where it only knows pairs."""
        figures = self.judges[judge]
        return figures.score or figures.win_rate


@dataclass(frozen=True, slots=True)
class EqualCompute:
    """A contender compared with what a rival family gives at the same policy tokens per response.

    `rival` names the one or two runs that a coin per prompt mixes to exactly that cost. `gain` is the contender's
    quality minus theirs. With `rival_is_cheaper` no run of the family costs as much: its best run is the rival.
    """

    contender: str
    family: str
    rival: tuple[str, ...]
    rival_share: float
    gain: Estimate
    rival_is_cheaper: bool


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A prompt on which the reward model prefers the contender's response and the judge the baseline's. Scores are null
    from a judge of pairs."""

    contender: str
    prompt_id: str
    prompt: str
    response: str
    reward: float
    score: float | None
    baseline_response: str
    baseline_reward: float
    baseline_score: float | None


@dataclass(frozen=True, slots=True)
class CompareFigures:
    """The whole comparison. `primary_judge` decides the verdict; `win_matrix` is its win-rate of row over column, null
    for a judge of pairs."""

    baseline: str
    primary_judge: str
    judge_kinds: dict[str, str]
    num_prompts: int
    bootstrap_draws: int
    bootstrap_seed: int
    contenders: tuple[ContenderFigures, ...]
    win_matrix: dict[str, dict[str, float | None]] | None
    equal_compute: tuple[EqualCompute, ...]
    disagreements: tuple[Disagreement, ...]

    def contender(self, name: str) -> ContenderFigures:
        return next(c for c in self.contenders if c.name == name)

    def save(self, location: Location) -> None:
        location.write_text(TypeAdapter(CompareFigures).dump_json(self, indent=1).decode() + "\n")

    @classmethod
    def load(cls, location: Location) -> "CompareFigures":
        return TypeAdapter(cls).validate_json(location.read_text())
