"""A dry run: what a run would read, send to its models, occupy of the cluster and cost.

Invariant: it writes to the console only. What would stop the run stops the dry run, with the same line.
"""

from contextlib import suppress
from dataclasses import replace

from rich.console import Console

from actors.batch.progress import format_seconds
from actors.cluster.gpu_reservation import Reservation, cluster_gpus
from actors.cluster.gpu_shares import share_gpus, sum_shown
from actors.cluster.session import cluster
from actors.rendering.readers import make_reader
from actors.rewards import shown
from actors.startup.engine_shape import MemoryPool
from actors.startup.ready_models import PlacedModels, check_models, loaded_models, placed_models
from jobs.align.probe import PROBE_ROWS, Probe, is_at_hand, read_head, run_probe
from pipeline.config.align import AlignConfig
from pipeline.config.cluster import ClusterConfig
from pipeline.config.decoding import Decoding, EngineConfig
from pipeline.dataset.columns import InputColumns
from pipeline.dataset.plan import InputPlan
from pipeline.dataset.shards import committed_shards
from pipeline.errors import RowError
from pipeline.records import PromptRow
from pipeline.runs.directory import RunDirectory

MAX_SHOWN_CHARACTERS = 2000


def dry_run(config: AlignConfig, plan: InputPlan, columns: InputColumns, run: RunDirectory) -> None:
    """Print all of it.

    Raises:
        StarsError: what a run would fail with.
    """
    console, plan = Console(soft_wrap=True, highlight=False, markup=False), run.kept_plan(plan)
    rows = read_head(plan, columns, config.reward.columns, 2 * PROBE_ROWS)
    _show(console, "Input", _input_lines(config, plan, columns))
    _show(console, "Output", [_output_line(plan, run)])
    config = run.kept_config(config)
    checked = check_models(config)
    _show(console, "Prompt", _prompt_lines(config, rows))
    with cluster():
        _show(console, "Placement", _placement_lines(config.cluster, config.want_gpus))
        with placed_models(checked) as placed:
            config = config.loaded_as(placed.decoding)
            _show(console, "Memory", _memory_lines(config.engine, placed.pools))
            why_not = _why_not_probed(config, rows)
            if why_not is not None:
                _show(console, "Cost", [f"not probed: {why_not}"])
                return
            with loaded_models(_one_cell(placed)) as models:
                probe = run_probe(config, models.cells[0], rows, plan.num_rows)
            _show(console, "Cost", _cost_lines(config, probe, placed.reservation))


def _why_not_probed(config: Decoding, rows: list[PromptRow]) -> str | None:
    absent = [m.model for m in (config.policy, *config.reward.models) if not is_at_hand(m)]
    if absent:
        return f"{' and '.join(absent)} would have to be fetched first"
    if config.reward.is_remote:
        return f"it would ask {config.reward.title}, which may cost money"
    return None if rows else "no rows"


def _one_cell(placed: PlacedModels) -> PlacedModels:
    cluster = placed.decoding.cluster.model_copy(update={"cells": 1})
    return replace(placed, decoding=placed.decoding.model_copy(update={"cluster": cluster}))


def _show(console: Console, title: str, lines: list[str]) -> None:
    console.print(title, style="bold")
    for line in lines:
        console.print("\n".join(f"  {part}" for part in line.split("\n")))


def _input_lines(config: AlignConfig, plan: InputPlan, columns: InputColumns) -> list[str]:
    found = {
        "prompt": columns.prompt,
        "messages": columns.messages,
        "id": "none, so file and row position" if columns.adds_id else columns.id,
        "sampling_params": columns.sampling_params,
    }
    others = [name for name in plan.schema.names if name not in found.values()]
    return [
        f"{config.input}: {len(plan.files):,} files, {plan.num_rows:,} rows, {plan.num_shards:,} shards of "
        f"{plan.rows_per_shard:,} rows",
        "columns found: " + ", ".join(f"{use} = {name}" for use, name in found.items() if name is not None),
        f"columns that pass through: {', '.join(others) or 'none'}",
    ]


def _output_line(plan: InputPlan, run: RunDirectory) -> str:
    if run.is_finished:
        return f"{run.root}: finished, nothing to do"
    num_committed = plan.num_shards if "aligned" in run.manifest.gathered else len(committed_shards(run.aligned.shards))
    return f"{run.root}: {num_committed:,} of {plan.num_shards:,} shards are committed"


def _prompt_lines(config: Decoding, rows: list[PromptRow]) -> list[str]:
    """The first row that can be read, as each model reads it."""
    reader = make_reader("policy", config.policy, config.prompt_as, config.engine.max_model_len)
    for row in rows:
        if row.error_type is None:
            with suppress(RowError):
                tokens, reward_text = reader.prompt_tokens(row), shown(config, row)
                return [
                    f"of row {row.row_id}, to the policy, {len(tokens)} tokens:",
                    _shortened(reader.shown(tokens)),
                    "to the reward:",
                    _shortened(reward_text),
                ]
    return [f"none of the first {len(rows)} rows can be read"]


def _placement_lines(cluster: ClusterConfig, want_gpus: tuple[bool, bool]) -> list[str]:
    shares = share_gpus(cluster, cluster_gpus(), want_gpus)
    bundles = shares.bundles(cluster)
    if not bundles:
        return ["no GPUs: models on CPUs, the cells dealt to the nodes in turn"]
    shown = " + ".join(f"{gpus:g}" for gpus in bundles)
    return [
        sum_shown(cluster, shares),
        f"{cluster.cells} placement groups (PACK) of {shown} GPUs; the cluster has {cluster_gpus():g} now",
    ]


def _memory_lines(engine: EngineConfig, pools: list[MemoryPool]) -> list[str]:
    slots, length = engine.slots, engine.max_model_len
    assert slots is not None and length is not None
    lines = [f"{slots} slots of {length:,} tokens"]
    return [*lines, *(pool.sum_shown(slots, length) for pool in pools)]


def _cost_lines(config: AlignConfig, probe: Probe, reservation: Reservation) -> list[str]:
    cluster, shares = config.cluster, reservation.shares
    kept, policy, reward = (probe.tokens(f"num_{name}_tokens") for name in ("response", "policy", "reward"))
    lines = [
        f"by the first {len(probe.results)} rows, for all {probe.num_rows:,} of {config.strategy.name}: {kept:,} "
        f"response tokens, {policy:,} through the policy, {reward:,} through the reward model",
        f"policy busy {_hours(probe.model_s('policy'))}, reward model {_hours(probe.model_s('reward'))}, in calls of "
        f"{probe.cohort_rows['policy']:.0f} and {probe.cohort_rows['reward']:.0f} rows",
        f"about {_hours(probe.wall_s(cluster))} in {cluster.cells} cells, "
        f"{probe.gpu_hours(cluster, shares):,.2f} GPU hours; loading, reading and writing not counted",
    ]
    if config.baseline_rows and config.strategy.name != "vanilla":
        lines.append(f"the plain responses of {min(config.baseline_rows, probe.num_rows):,} rows come on top")
    errors = [f"{count} {kind}" for kind, count in probe.error_types.items()]
    return [*lines, f"error rows among them: {', '.join(errors)}"] if errors else lines


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 36_000 else format_seconds(seconds)


def _shortened(text: str) -> str:
    rest = len(text) - MAX_SHOWN_CHARACTERS
    return text if rest <= 0 else f"{text[:MAX_SHOWN_CHARACTERS]} … ({rest:,} characters more)"
