"""The benchmark on a terminal: speed and tokens, where the time went, and the ratios."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from jobs.benchmark.measurement import Measurement
from jobs.benchmark.results import BenchmarkReport, ContenderReport
from pipeline.runs.usage import RoleUsage

Figure = Callable[[Measurement], float | None]
NOTHING = "–"
BUSY_LOAD = 0.75


def show_report(console: Console, report: BenchmarkReport) -> None:
    """Print the tables, at any width, on a terminal or not."""
    console.print(_headline(report), highlight=False, soft_wrap=True)
    if report.machine.load > BUSY_LOAD:
        console.print(
            f"Other processes used this machine (load {report.machine.load:.1f} at the start): figures are too low, "
            "most of all those of contenders with several threads.",
            style="yellow",
            soft_wrap=True,
        )
    for contender in report.contenders:
        if contender.failure:
            console.print(f"{contender.name}: {contender.failure}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    for title, table in (
        ("Accepted tokens/s, and tokens pushed through each model per accepted token", _speed(report)),
        (
            "Shares of wall time; CPU: all processes, 200% are two cores; waiting: 1 - the busier model",
            _time(report),
        ),
        ("Peak memory of each process, MB", _memory(report)),
        ("Ratios, round by round", _ratios(report)),
    ):
        console.print(title, style="bold")
        console.print(table)
        console.print()


def _headline(report: BenchmarkReport) -> str:
    config, machine = report.config, report.machine
    return (
        f"{config.policy.model or f'random {config.size}'}, {config.dtype}, {config.num_prompts} prompts of "
        f"{config.prompt_tokens_min}–{config.prompt_tokens_max} tokens, responses of {config.max_new_tokens}, "
        f"B = {config.segment_size}, acceptance {config.acceptance:g}; {machine.gpu or machine.processor}, "
        f"{config.num_threads} threads, torch {machine.torch}; medians of {config.rounds} rounds"
    )


def _speed(report: BenchmarkReport) -> Table:
    table = _table()
    for title in ("tokens/s", "min", "max", "policy", "x ideal", "reward", "x ideal", "accepted"):
        table.add_column(title, justify="right")
    for contender in report.contenders:
        speed = contender.accepted_tokens_per_s
        if speed is None:
            table.add_row(contender.name, NOTHING)
            continue
        cells = [f"{value:,.1f}" for value in (speed.median, speed.min, speed.max)]
        cells += [_number(contender, figure, "{:.2f}") for figure in _PUSHED]
        table.add_row(contender.name, *cells, _number(contender, lambda m: m.num_accepted_tokens, "{:,.0f}"))
    return table


_PUSHED: tuple[Figure, ...] = (
    lambda m: m.policy.num_tokens / m.num_accepted_tokens,
    lambda m: m.policy_over_ideal,
    lambda m: m.reward.num_tokens / m.num_accepted_tokens if m.reward else None,
    lambda m: m.reward_over_ideal,
)


def _busy(role: RoleUsage | None, m: Measurement) -> float | None:
    return role.busy_s / m.wall_s if role else None


_SHARES: dict[str, Figure] = {
    "prefill": lambda m: m.policy.prefill_s / m.wall_s,
    "decode": lambda m: m.decode_s / m.wall_s,
    "sampling": lambda m: m.policy.sampling_s / m.wall_s,
    "policy": lambda m: _busy(m.policy, m),
    "scoring": lambda m: _busy(m.reward, m),
    "waiting": lambda m: 1 - m.busier_fraction if m.coordinator_cpu_s is not None else None,
    "coordination": lambda m: m.coordinator_cpu_s / m.wall_s if m.coordinator_cpu_s is not None else None,
    "CPU": lambda m: m.cpu_s / m.wall_s,
    "occupancy": lambda m: m.slot_occupancy,
}


def _time(report: BenchmarkReport) -> Table:
    table = _table()
    for title in _SHARES:
        table.add_column(title, justify="right")
    for contender in report.contenders:
        if contender.rounds:
            table.add_row(contender.name, *(_number(contender, figure, "{:.1%}") for figure in _SHARES.values()))
    return table


def _memory(report: BenchmarkReport) -> Table:
    table = _table()
    table.add_column("")
    for contender in report.contenders:
        if contender.rounds:
            table.add_row(contender.name, _peaks(contender))
    return table


def _peaks(contender: ContenderReport) -> str:
    """Host memory of each process, and the GPU's where there is one."""
    cells = []
    for process in contender.rounds[-1].processes:
        device = f" + {process.device_bytes / 1e6:,.0f} GPU" if process.device_bytes else ""
        cells.append(f"{process.process} {process.host_bytes / 1e6:,.0f}{device}")
    return ", ".join(cells)


def _ratios(report: BenchmarkReport) -> Table:
    table = _table()
    for title in ("median", "min", "max"):
        table.add_column(title, justify="right")
    for ratio in report.ratios:
        table.add_row(ratio.name, *(f"{v:.3g}" for v in (ratio.value.median, ratio.value.min, ratio.value.max)))
    return table


def _number(contender: ContenderReport, figure: Figure, form: str) -> str:
    value = contender.median(figure)
    return NOTHING if value is None else form.format(value)


def _table() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    return table
