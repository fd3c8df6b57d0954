"""What the figures of a comparison are made from: the runs, what the judges said about them, and how to count."""

from dataclasses import dataclass

from jobs.compare.figures.resampling import Resampler
from jobs.compare.judges.judgements import Judged, Prompts, Runs

REWARD = "reward"  # the reward model that steered, shown beside the judges


@dataclass(frozen=True, slots=True)
class Evidence:
    """`judged` begins with the primary judge and ends with REWARD, the steering reward model's own scores."""

    runs: Runs
    prompts: Prompts
    judged: dict[str, Judged]
    judge_kinds: dict[str, str]
    baseline: str
    num_examples: int
    resampler: Resampler

    @property
    def primary(self) -> Judged:
        return next(iter(self.judged.values()))

    @property
    def reward(self) -> Judged:
        return self.judged[REWARD]
