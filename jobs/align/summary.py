"""What a run prints at its end: what it gave, what it cost, and two responses to look at."""

from itertools import islice
from math import inf

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.batch.progress import format_seconds
from pipeline.config.align import AlignConfig
from pipeline.runs.baseline import read_pairs, read_responses
from pipeline.runs.directory import RunDirectory
from pipeline.runs.metrics import Comparison, RunMetrics, StageMetrics
from pipeline.runs.usage import RoleUsage

NUM_EXAMPLES = 2
EXAMPLES_LOOKED_AT = 50
MAX_EXAMPLE_CHARACTERS = 700
MEMORY_TOLERANCE = 1.15


def show_summary(console: Console, config: AlignConfig, run: RunDirectory, metrics: RunMetrics) -> None:
    """Print the figures, the examples and where the output is, at any width, on a terminal or not."""
    console.print()
    console.print(_figures(metrics))
    for example in _examples(config, run, metrics):
        console.print()
        console.print(example)
    console.print()
    console.print("Output", style="bold", end="  ")
    console.print(str(run.root), highlight=False, soft_wrap=True)
    console.print("Read it", style="bold", end=" ")
    console.print(f"pandas.read_parquet({str(run.root)!r})", highlight=False, markup=False, soft_wrap=True)
    console.print("Figures", style="bold", end=" ")
    console.print(str(run.metrics_file), highlight=False, soft_wrap=True)


def _figures(metrics: RunMetrics) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False, title=_title(metrics), title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _lines(metrics):
        table.add_row(label, Text(value))
    return table


def _title(metrics: RunMetrics) -> str:
    totals = metrics.aligned.totals
    return f"{totals.num_rows:,} prompts, {metrics.aligned.strategy}, {format_seconds(metrics.wall_s)}"


def _lines(metrics: RunMetrics) -> list[tuple[str, str]]:
    stage, totals = metrics.aligned, metrics.aligned.totals
    lines = [("responses", f"{totals.num_good_rows:,}, and {totals.num_error_rows:,} error rows")]
    if totals.error_rows_by_type:
        lines.append(("error rows", ", ".join(f"{n:,} {kind}" for kind, n in totals.error_rows_by_type.items())))
    if stage.mean_reward is not None:
        lines.append(("mean reward", _reward_line(stage.mean_reward, totals.num_good_rows, metrics.comparison)))
    if metrics.comparison is not None and metrics.comparison.win_rate is not None:
        lines.append(("win-rate", _win_line(metrics.comparison)))
    if stage.acceptance_rate is not None:
        lines.append(("acceptance", f"{stage.acceptance_rate:.1%} of {totals.num_attempts:,} proposed segments"))
        lines.append(("fallback", f"{stage.fallback_rate or 0:.1%} of {totals.num_segments:,} kept segments"))
    if stage.response_tokens_per_row is not None:
        lines.append(("tokens", _token_line(stage)))
    if stage.policy.num_calls:
        lines.append(("models", _model_line(stage)))
        lines.append(("speed", f"{stage.response_tokens_per_s:,.0f} accepted tokens/s, {stage.rows_per_s:,.1f} rows/s"))
    if stage.advice is not None:
        lines.append(("next GPU", stage.advice.sentence))
    lines += [("memory", _memory_line(role, m)) for role, m in _too_large(stage)]
    return lines


def _too_large(stage: StageMetrics) -> list[tuple[str, RoleUsage]]:
    """Models that held more memory than expected."""
    roles = [("policy", stage.policy), ("reward model", stage.reward)]
    return [(role, m) for role, m in roles if (m.peak_bytes or 0) > MEMORY_TOLERANCE * (m.expected_peak_bytes or inf)]


def _memory_line(role: str, metrics: RoleUsage) -> str:
    peak_gb, expected_gb = (metrics.peak_bytes or 0) / 1e9, (metrics.expected_peak_bytes or 0) / 1e9
    return f"the {role} held {peak_gb:.1f} GB, more than the expected {expected_gb:.1f} GB"


def _reward_line(mean_reward: float, num_rows: int, comparison: Comparison | None) -> str:
    if comparison is None or not comparison.num_prompts:
        return f"{mean_reward:.3f}"
    others = "" if comparison.num_prompts == num_rows else f"; {mean_reward:.3f} on all {num_rows:,}"
    return (
        f"{comparison.mean_reward:.3f} against {comparison.baseline_mean_reward:.3f} by vanilla, "
        f"on the same {comparison.num_prompts:,} prompts{others}"
    )


def _win_line(comparison: Comparison) -> str:
    return (
        f"{comparison.win_rate:.1%} ± {comparison.win_rate_standard_error:.1%} against vanilla by the judge, "
        f"on {comparison.num_prompts:,} prompts"
    )


def _token_line(stage: StageMetrics) -> str:
    through_reward = f", {stage.reward_tokens_per_row:.1f} through the reward model" if stage.reward.num_tokens else ""
    return (
        f"{stage.response_tokens_per_row:.1f} kept per response; {stage.policy_tokens_per_row:.1f} through the policy"
        f"{through_reward}, prompt included"
    )


def _model_line(stage: StageMetrics) -> str:
    policy, reward = stage.policy, stage.reward
    return (
        f"policy busy {policy.busy_fraction:.0%} of the time ({policy.mean_cohort_size:.1f} rows a call), "
        f"reward {reward.busy_fraction:.0%} ({reward.mean_cohort_size:.1f})"
    )


def _examples(config: AlignConfig, run: RunDirectory, metrics: RunMetrics) -> list[Table]:
    if metrics.comparison is None:
        answers = islice(read_responses(config, run.output(run.aligned)), NUM_EXAMPLES)
        return [_example(a.prompt, [(metrics.aligned.strategy, a.response, a.reward)]) for a in answers]
    pairs = list(islice(read_pairs(config, run.output(run.aligned), run.output(run.baseline)), EXAMPLES_LOOKED_AT))
    pairs.sort(key=lambda pair: pair.response == pair.baseline_response)  # stable: the first that differ, first
    return [
        _example(
            p.prompt,
            [("vanilla", p.baseline_response, p.baseline_reward), (metrics.aligned.strategy, p.response, p.reward)],
        )
        for p in pairs[:NUM_EXAMPLES]
    ]


def _example(prompt: str, answers: list[tuple[str, str, float]]) -> Table:
    table = Table(title=Text(f"› {_shortened(prompt)}", style="bold"), title_justify="left", expand=True)
    for name, _, reward in answers:
        table.add_column(f"{name}, reward {reward:.2f}", ratio=1, overflow="fold")
    table.add_row(*(Text(_shortened(response)) for _, response, _ in answers))
    return table


def _shortened(text: str) -> str:
    clean = "".join(c if c.isprintable() or c == "\n" else "�" for c in text.strip())
    return clean if len(clean) <= MAX_EXAMPLE_CHARACTERS else clean[:MAX_EXAMPLE_CHARACTERS] + " …"
