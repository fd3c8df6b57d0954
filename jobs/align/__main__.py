"""The main job: a Parquet of prompts in, a Parquet of aligned responses out.

Config, input and output are checked before Ray or a model library is imported, so a mistake shows at once.
Exit codes: those of `jobs.command`, and 3 for more error rows than `max_error_rows`.
"""

import argparse
import sys
import traceback

from actors.batch.deciding_sources import DECIDING_SOURCES
from jobs.command import config_parser, run_command
from pipeline.config.align import AlignConfig
from pipeline.config.loading import load_config
from pipeline.dataset.columns import InputColumns, check_columns
from pipeline.dataset.plan import InputPlan, plan_input
from pipeline.errors import ConfigError, InputError, OutputError, StarsError
from pipeline.runs.directory import RunDirectory, fresh_output
from pipeline.runs.metrics import RunMetrics

TOO_MANY_ERROR_ROWS = 3


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _align, arguments, "committed shards are kept; run the same command to resume")


def _align(options: argparse.Namespace) -> int:
    config = load_config(options.config, options.overrides)
    if options.fresh:
        config = _with_fresh_output(config)
    plan = plan_input(config.input, config.dataset.rows_per_shard, config.max_rows, config.cluster.cells)
    columns = check_columns(plan.schema, config)
    if options.dry_run:
        from jobs.align.dry_run import dry_run  # here, because it imports Ray and transformers

        dry_run(config, plan, columns, RunDirectory.find(config, plan, DECIDING_SOURCES))
        return 0
    run = RunDirectory.open(config, plan, DECIDING_SOURCES)
    num_error_rows = _run(config, plan, columns, run, options.retry_errors).aligned.totals.num_error_rows
    if config.max_error_rows is not None and num_error_rows > config.max_error_rows:
        print(
            f"error: {num_error_rows} error rows, more than max_error_rows = {config.max_error_rows}", file=sys.stderr
        )
        return TOO_MANY_ERROR_ROWS
    return 0


def _run(
    config: AlignConfig, plan: InputPlan, columns: InputColumns, run: RunDirectory, retry_errors: bool
) -> RunMetrics:
    """Everything that fails here leaves its traceback in the run directory, except what the user must correct."""
    try:
        from rich.console import Console

        from actors.batch.run import run_align  # here, because it imports Ray
        from jobs.align.summary import show_summary

        metrics = run_align(config, plan, columns, run, retry_errors)
        show_summary(Console(), config, run, metrics)
        return metrics
    except (ConfigError, InputError, OutputError):
        raise
    except Exception as error:
        raise StarsError(f"{_one_line(error)} (details: {_keep_traceback(run)})") from error


def _with_fresh_output(config: AlignConfig) -> AlignConfig:
    output = fresh_output(config.output)
    if output != config.output:
        print(f"fresh output: {output} (resume it with output={output}, without --fresh)", flush=True)
    return config.model_copy(update={"output": output})


def _one_line(error: Exception) -> str:
    """Our own messages are one line; the last line of another error says what happened."""
    if isinstance(error, StarsError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def _keep_traceback(run: RunDirectory) -> str:
    """Write the traceback beside the run and say where; if the disk is full, print it instead."""
    try:
        run.write_error_log(traceback.format_exc())
    except OutputError:
        traceback.print_exc()
        return "above"
    return str(run.error_log)


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(
        "align", "Align a Parquet of prompts at decoding time.", AlignConfig, "YAML file; see jobs/configs"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--fresh", action="store_true", help="if the output exists, start a new one beside it: OUTPUT-2, OUTPUT-3, …"
    )
    mode.add_argument(
        "--retry-errors", action="store_true", help="retry the error rows, of a finished run too; keep all other rows"
    )
    mode.add_argument(
        "--dry-run",
        action="store_true",
        help="show the input, the first prompt, placement, memory and, from a probe, the cost; write nothing",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
