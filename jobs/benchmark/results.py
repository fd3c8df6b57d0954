"""The report of a benchmark: every round of every contender, the machine, and the ratios; `benchmark.json` is this."""

import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import TypeAdapter

from jobs.benchmark.config import BenchmarkConfig
from jobs.benchmark.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class ContenderReport:
    """One contender's measured rounds; where it could not run or failed, there are none and `failure` says why."""

    name: str
    rounds: tuple[Measurement, ...]
    accepted_tokens_per_s: Spread | None
    failure: str | None = None

    @classmethod
    def of(cls, name: str, rounds: list[Measurement], failure: str | None) -> "ContenderReport":
        spread = Spread.of([m.accepted_tokens_per_s for m in rounds]) if rounds else None
        return cls(name, tuple(rounds), spread, failure)

    def median(self, figure: Callable[[Measurement], float | None]) -> float | None:
        """Median of a figure over the rounds; None where it does not exist."""
        values = [value for m in self.rounds if (value := figure(m)) is not None]
        return statistics.median(values) if values else None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of two contenders, round by round, so that a slow minute of the machine affects both."""

    name: str
    value: Spread


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were measured on. `load` is the load average before the start: what other processes used."""

    load: float
    processor: str
    num_cpus: int
    gpu: str | None
    python: str
    torch: str
    transformers: str
    ray: str
    vllm: str | None


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    config: BenchmarkConfig
    machine: Machine
    contenders: tuple[ContenderReport, ...]
    ratios: tuple[Ratio, ...]

    def save(self, path: Path) -> None:
        path.write_bytes(TypeAdapter(BenchmarkReport).dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path) -> "BenchmarkReport":
        return TypeAdapter(cls).validate_json(path.read_bytes())


def find_ratios(contenders: list[ContenderReport], acceptance: float) -> list[Ratio]:
    """The headline ratios; those of contenders that did not run are left out.

    The alignment tax is what is kept of plain generation: accepted tokens/s over acceptance x plain tokens/s, with the
    round's own acceptance, which differs from `acceptance` as coins do.
    """
    by_name = {contender.name: contender.rounds for contender in contenders}
    pipelines = [name for name in by_name if name.startswith("pipeline")]
    ratios: list[Ratio] = []

    def add(name: str, ours: str, theirs: str, figure: Callable[[Measurement, Measurement], float]) -> None:
        pairs = list(zip(by_name.get(ours, ()), by_name.get(theirs, ()), strict=False))
        if pairs:
            ratios.append(Ratio(name, Spread.of([figure(a, b) for a, b in pairs])))

    for name in pipelines:
        for other in ("recompute", "recompute_batched", "generate_per_segment", "generate_per_segment_batched"):
            add(f"{name} / {other}", name, other, _speed_ratio)
        add(f"{name} / ({acceptance:g} x plain), the alignment tax", name, "plain", _kept_of_plain)
    for other in ("vllm", "generate_batch"):
        add(f"policy_part / {other}", "policy_part", other, _speed_ratio)
    for name in pipelines:
        add(f"{name}: Ray and coordinator, share of wall time", name, name, lambda m, _: 1 - m.busier_fraction)
        add(
            f"{name}: coordinator CPU, share of wall time",
            name,
            name,
            lambda m, _: (m.coordinator_cpu_s or 0) / m.wall_s,
        )
    return ratios


def _speed_ratio(ours: Measurement, theirs: Measurement) -> float:
    return ours.accepted_tokens_per_s / theirs.accepted_tokens_per_s


def _kept_of_plain(ours: Measurement, plain: Measurement) -> float:
    return ours.accepted_tokens_per_s / (ours.acceptance * plain.accepted_tokens_per_s)


def this_machine(vllm: str | None, load: float) -> Machine:
    """The machine that this runs on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        load=load,
        processor=_processor(),
        num_cpus=usable,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=version("transformers"),
        ray=version("ray"),
        vllm=vllm,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
