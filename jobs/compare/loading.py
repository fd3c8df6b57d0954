"""From the config of a comparison to its runs and judges, all checked before anything heavy loads.

Every (contender, seed) is an ordinary run of the main job, with its own config, plan and run directory.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from actors.batch.deciding_sources import DECIDING_SOURCES
from jobs.compare.config import JUDGE_KINDS, CompareConfig, ContenderConfig, JudgeConfig, LlmJudge
from pipeline.config.align import AlignConfig
from pipeline.config.loading import load_tree, nearest, validate
from pipeline.dataset.columns import InputColumns, check_columns
from pipeline.dataset.plan import InputPlan, plan_input
from pipeline.errors import ConfigError, InputError
from pipeline.runs.directory import RunDirectory
from pipeline.runs.outputs import finished_run

OURS = ("output", "seed")  # keys of `jobs.align` that a comparison sets itself


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to be finished by this comparison, if it is not yet."""

    config: AlignConfig
    plan: InputPlan
    columns: InputColumns
    directory: RunDirectory


@dataclass(frozen=True, slots=True)
class Contender:
    """A name, its outputs in the order of its seeds, and the runs that write them, if they do not exist yet."""

    name: str
    outputs: tuple[str, ...]
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A config with everything in it resolved. Nothing is written before it exists."""

    config: CompareConfig
    contenders: tuple[Contender, ...]
    judges: dict[str, JudgeConfig]


def load_comparison(path: str | None, overrides: list[str]) -> Comparison:
    """Read, resolve and check a comparison; open its run directories.

    Raises:
        ConfigError, InputError, OutputError: what the user must correct first.
    """
    config = load_tree(CompareConfig, path, overrides)
    if find_spec("matplotlib") is None:
        raise ConfigError("the report's pictures need matplotlib: pip install -e '.[plots]'")
    judges = {name: _judge(config.output, name, tree) for name, tree in config.judges.items()}
    for name, contender in config.contenders.items():
        for output in contender.output or ():
            _refuse_unfinished(name, output)
    aligns = {name: _align_configs(config, name) for name in config.contenders}
    planned = {name: _planned(configs) for name, configs in aligns.items()}
    contenders = tuple(
        Contender(
            name,
            contender.output or tuple(align.output for align in aligns[name]),
            tuple(
                PlannedRun(*parts, RunDirectory.open(parts[0], parts[1], DECIDING_SOURCES)) for parts in planned[name]
            ),
        )
        for name, contender in config.contenders.items()
    )
    return Comparison(config, contenders, judges)


def _refuse_unfinished(name: str, output: str) -> None:
    try:
        finished_run(output)
    except InputError as error:
        raise InputError(f"contenders.{name}: {error}") from None


def run_output(config: CompareConfig, name: str, seed: int) -> str:
    return f"{config.output.rstrip('/')}/runs/{name}-{seed}"


def _align_configs(config: CompareConfig, name: str) -> list[AlignConfig]:
    """The contender's config for each seed; none where its outputs exist already."""
    contender = config.contenders[name]
    if contender.output is not None:
        return []
    taken = [key for key in OURS if key in config.base]
    if taken:
        raise ConfigError(f"base.{taken[0]}: set by the comparison itself; see `output` and `seeds`")
    tree = _merged(config.base, contender)

    def prefix(section: str) -> str:
        is_base = section in config.base and getattr(contender, section, None) is None
        return "base." if is_base else f"contenders.{name}."

    return [
        validate(AlignConfig, tree | {"output": run_output(config, name, seed), "seed": seed}, prefix)
        for seed in config.seeds
    ]


def _merged(base: dict[str, Any], contender: ContenderConfig) -> dict[str, Any]:
    """The base, overridden by the contender's keys; a strategy of another name replaces that section."""
    tree = dict(base)
    for section, keys in (("policy", contender.policy), ("generation", contender.generation)):
        if keys:
            tree[section] = {**(base.get(section) or {}), **keys}
    if contender.strategy is not None:
        before = base.get("strategy") or {}
        is_same = contender.strategy.get("name", before.get("name")) == before.get("name")
        tree["strategy"] = {**(before if is_same else {}), **contender.strategy}
    return tree


def _planned(configs: list[AlignConfig]) -> list[tuple[AlignConfig, InputPlan, InputColumns]]:
    """Seeds of one contender share their input, so its footers are read once."""
    if not configs:
        return []
    first = configs[0]
    plan = plan_input(first.input, first.dataset.rows_per_shard, first.max_rows, first.cluster.cells)
    columns = check_columns(plan.schema, first)
    return [(config, plan, columns) for config in configs]


def _judge(output: str, name: str, tree: dict[str, Any]) -> JudgeConfig:
    kind = tree.get("kind")
    if kind not in JUDGE_KINDS:
        hint = nearest(kind, list(JUDGE_KINDS)) if isinstance(kind, str) else ""
        raise ConfigError(f"judges.{name}.kind: must be one of {', '.join(JUDGE_KINDS)} (given: {kind!r}{hint})")
    judge = validate(JUDGE_KINDS[kind], tree, lambda section: f"judges.{name}.")
    if kind != "embedded" and "://" in output:
        raise ConfigError(f"output: judges.{name} keeps its verdicts there, so it must be a local folder")
    if isinstance(judge, LlmJudge):
        if judge.api_key_env and not os.environ.get(judge.api_key_env):
            raise ConfigError(f"judges.{name}.api_key_env: the environment has no {judge.api_key_env}")
        if find_spec("openai") is None:
            raise ConfigError(f"judges.{name}: a judge of kind llm needs openai: pip install -e '.[judge]'")
    return judge
