"""What every contender does in a round: the same prompts and the same coins, drawn before anything runs.

A coin is the acceptance uniform of the pipeline's own draws. Rewards do not matter here, so the pipeline accepts
exactly the attempts that the coins tell the other contenders to accept.

Axes: N prompts, S segments of a response, R rows in lockstep.
"""

import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from jobs.benchmark.config import BenchmarkConfig
from pipeline.draws import acceptance_uniform, row_key
from pipeline.records import DrawKey, TokenArray


@dataclass(frozen=True, slots=True)
class Workload:
    """The prompts of one round, and how many attempts each segment of each response takes, int64 [N, S]."""

    prompts: tuple[TokenArray, ...]
    row_ids: tuple[str, ...]
    num_attempts_NS: npt.NDArray[np.int64]
    segment_size: int

    @classmethod
    def of(cls, config: BenchmarkConfig, vocabulary_size: int, round_number: int, stream: str) -> "Workload":
        """Draw a round's workload.

        Args:
            stream: prompts of two streams share no tokens, so that no cache carries over; lengths and coins are alike.
        """
        generator = np.random.default_rng([config.seed, round_number, zlib.crc32(stream.encode())])
        lengths_N = np.linspace(config.prompt_tokens_min, config.prompt_tokens_max, config.num_prompts).round()
        np.random.default_rng([config.seed, round_number]).shuffle(lengths_N)
        prompts = tuple(generator.integers(0, vocabulary_size, int(n), dtype=np.int32) for n in lengths_N)
        row_ids = tuple(f"{round_number}-{row}" for row in range(config.num_prompts))
        keys = [row_key(config.seed, row_id) for row_id in row_ids]
        num_attempts_NS = np.array([[_attempts(key, s, config) for s in range(config.num_segments)] for key in keys])
        return cls(prompts, row_ids, num_attempts_NS, config.segment_size)

    def head(self, num_prompts: int) -> "Workload":
        """The same with fewer prompts."""
        return replace(
            self,
            prompts=self.prompts[:num_prompts],
            row_ids=self.row_ids[:num_prompts],
            num_attempts_NS=self.num_attempts_NS[:num_prompts],
        )

    def without_rejections(self) -> "Workload":
        """Plain generation: every first attempt is kept."""
        return replace(self, num_attempts_NS=np.ones_like(self.num_attempts_NS))


def _attempts(key: int, segment: int, config: BenchmarkConfig) -> int:
    attempt = 0
    while acceptance_uniform(key, DrawKey(segment, attempt)) >= config.acceptance:
        attempt += 1
    return attempt + 1


@dataclass(slots=True)
class LiveRow:
    """A row in progress: its number in the workload, its slot, and how far it is."""

    row: int
    slot: int
    prefix: TokenArray
    segment: int = 0
    attempt: int = 0


class Lockstep:
    """All rows propose one segment, all are judged, and so on; a finished row's slot is taken by the next prompt.

    Args:
        width: most rows at once.
    """

    def __init__(self, workload: Workload, width: int) -> None:
        self.workload = workload
        self.waiting = deque(range(len(workload.prompts)))
        self.free_slots = list(range(width - 1, -1, -1))
        self.live: list[LiveRow] = []
        self.num_prompt_tokens = 0
        self.num_proposed_tokens = 0
        self.num_accepted_tokens = 0
        self._refill()

    def judge(self, segments: Sequence[TokenArray]) -> None:
        """Accept or reject one proposed segment of each live row, as the coins say."""
        for live, tokens in zip(self.live, segments, strict=True):
            assert len(tokens) == self.workload.segment_size, "a segment ended early: the benchmark's coins do not fit"
            self.num_proposed_tokens += len(tokens)
            live.attempt += 1
            if live.attempt == self.workload.num_attempts_NS[live.row, live.segment]:
                live.prefix = np.concatenate([live.prefix, tokens]).astype(np.int32)
                live.segment, live.attempt = live.segment + 1, 0
                self.num_accepted_tokens += len(tokens)
        num_segments = self.workload.num_attempts_NS.shape[1]
        self.free_slots += [live.slot for live in self.live if live.segment == num_segments]
        self.live = [live for live in self.live if live.segment < num_segments]
        self._refill()

    def _refill(self) -> None:
        while self.waiting and self.free_slots:
            row = self.waiting.popleft()
            self.live.append(LiveRow(row, self.free_slots.pop(), self.workload.prompts[row]))
            self.num_prompt_tokens += len(self.workload.prompts[row])
