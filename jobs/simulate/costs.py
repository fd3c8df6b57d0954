"""What real model calls cost, measured through a real run's coordinator and actors, as numbers that fakes can charge.

A call's seconds are fitted by non-negative least squares: so much per call, per row, and per token fed to catch up.
The hop is the time that a call spends outside the model: from the coordinator to an idle actor, and back.
"""

import asyncio
import platform
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from actors.cluster.placement import Cell
from actors.coordination.coordinator import SegmentCoordinator
from pipeline.config.align import AlignConfig
from pipeline.protocol import CallStats
from pipeline.records import PromptRow
from pipeline.storage import Location


@dataclass(frozen=True, slots=True)
class RoleCosts:
    """Milliseconds; `median_error` is the median of |fitted − measured| / measured over the calls."""

    call_ms: float
    row_ms: float
    token_ms: float
    num_calls: int
    median_error: float


@dataclass(frozen=True, slots=True)
class Costs:
    """A profile: what was measured, on which hardware, and the result."""

    hardware: str
    policy_model: str
    reward_model: str
    dtype: str
    slots: int
    segment_size: int
    hop_ms: float
    policy: RoleCosts
    reward: RoleCosts

    def save(self, location: Location) -> None:
        location.write_text(TypeAdapter(Costs).dump_json(self, indent=2).decode() + "\n")

    @classmethod
    def load(cls, location: Location) -> "Costs":
        return TypeAdapter(cls).validate_json(location.read_text())

    def sections(self) -> dict[str, dict[str, Any]]:
        """The models' sections of a config whose fakes cost this much."""
        return {"policy": _fake_section(self.policy), "reward": _fake_section(self.reward)}


def _fake_section(costs: RoleCosts) -> dict[str, Any]:
    milliseconds = {"call_ms": costs.call_ms, "row_ms": costs.row_ms, "token_ms": costs.token_ms}
    return {"backend": "fake"} | {f"fake_{name}": value for name, value in milliseconds.items()}


@dataclass(frozen=True, slots=True)
class _Call:
    num_rows: int
    num_fed_tokens: int
    seconds: float
    hop_s: float


class _Recorded:
    """A model actor's handle that keeps a record of every call."""

    def __init__(self, handle: Any, method: str) -> None:
        self.actor_method = getattr(handle, method)
        self.calls: list[_Call] = []
        self.ended_s = 0.0
        setattr(self, method, self)

    def remote(self, cohort: Any) -> "asyncio.Task[Any]":
        return asyncio.get_running_loop().create_task(self._call(cohort, time.time()))

    async def _call(self, cohort: Any, sent_s: float) -> Any:
        answer = await self.actor_method.remote(cohort)
        stats: CallStats = answer.stats
        decoded = int(answer.lengths_R.sum()) if hasattr(answer, "lengths_R") else 0
        waited_s = stats.started_s - max(sent_s, self.ended_s)
        hop_s = max(0.0, waited_s) + time.time() - stats.ended_s
        fed = int(stats.pushed_tokens_R.sum()) - decoded
        self.calls.append(_Call(len(stats.pushed_tokens_R), fed, stats.busy_s, hop_s))
        self.ended_s = stats.ended_s
        return answer


def measure_costs(config: AlignConfig, cell: Cell, rows: list[PromptRow], hardware: str | None) -> Costs:
    """Align the rows on one cell. A first part of them only warms up the models."""
    policy, reward = _Recorded(cell.policies[0], "propose"), _Recorded(cell.rewards[0], "score")
    asyncio.run(_align(config, policy, reward, rows[: len(rows) // 4]))
    policy.calls.clear()
    reward.calls.clear()
    asyncio.run(_align(config, policy, reward, rows[len(rows) // 4 :]))
    assert config.engine.slots is not None
    return Costs(
        hardware=hardware or platform.processor() or platform.machine(),
        policy_model=config.policy.model,
        reward_model=config.reward.title,
        dtype=config.policy.dtype,
        slots=config.engine.slots,
        segment_size=config.strategy.segment_size,
        hop_ms=1000 * float(np.median([call.hop_s for call in policy.calls + reward.calls])),
        policy=_fit(policy.calls),
        reward=_fit(reward.calls),
    )


async def _align(config: AlignConfig, policy: _Recorded, reward: _Recorded, rows: list[PromptRow]) -> None:
    coordinator = SegmentCoordinator(config, [policy], [reward])
    results = await asyncio.gather(*(coordinator.align(row) for row in rows))
    failed = next((result.error for result in results if result.error is not None), None)
    assert failed is None, f"a row failed: {failed}"


def _fit(calls: list[_Call]) -> RoleCosts:
    seconds_C = np.array([call.seconds for call in calls])
    terms_C3 = np.array([(1.0, call.num_rows, call.num_fed_tokens) for call in calls])
    costs_3 = _non_negative_least_squares(terms_C3 / seconds_C[:, None], np.ones(len(calls)))  # relative errors
    errors_C = np.abs(terms_C3 @ costs_3 - seconds_C) / seconds_C
    call_ms, row_ms, token_ms = (round(1000 * float(cost), 5) for cost in costs_3)
    return RoleCosts(call_ms, row_ms, token_ms, len(calls), round(float(np.median(errors_C)), 4))


def _non_negative_least_squares(terms: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Least squares; terms whose cost would be negative are left out one by one."""
    kept = list(range(terms.shape[1]))
    while True:
        solution, *_ = np.linalg.lstsq(terms[:, kept], values, rcond=None)
        if solution.min() >= 0:
            costs = np.zeros(terms.shape[1])
            costs[kept] = solution
            return costs
        kept.pop(int(solution.argmin()))
