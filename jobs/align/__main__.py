"""The main job: a Parquet of prompts in, a Parquet of aligned responses out.

Config, input and output are checked before Ray or a model library is imported, so a mistake shows at once.
Exit codes: 0 all rows done, 1 the run failed, 2 config or input must be mended, 3 more error rows than
`max_error_rows`; 130 or 143 when interrupted (start the same command again to go on).
"""

import argparse
import sys
import traceback

from jobs.interrupts import Interrupted, raise_on_signals
from pipeline.config.align import AlignConfig
from pipeline.config.loading import described_fields, load_config
from pipeline.dataset.columns import InputColumns, check_columns
from pipeline.dataset.plan import InputPlan, plan_input
from pipeline.errors import ConfigError, InputError, OutputError, StarsError
from pipeline.runs.directory import RunDirectory, fresh_output

TOO_MANY_ERROR_ROWS = 3


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config, options.overrides)
        if options.fresh:
            config = _with_fresh_output(config)
        plan = plan_input(config.input, config.dataset.rows_per_shard, config.max_rows, config.cluster.cells)
        columns = check_columns(plan.schema, config)
        if options.dry_run:
            return _dry_run(config, plan, columns)
        run = RunDirectory.open(config, plan)
    except StarsError as error:
        return _fail(error)
    raise_on_signals()
    try:
        from rich.console import Console

        from actors.batch.run import run_align  # here, because it imports Ray
        from jobs.align.summary import show_summary

        metrics = run_align(config, plan, columns, run, options.retry_errors)
        show_summary(Console(), config, run, metrics)
    except Interrupted as interruption:
        print(f"{interruption}; finished shards are kept, the same command goes on", file=sys.stderr)
        return interruption.exit_code
    except (ConfigError, InputError, OutputError) as error:
        return _fail(error)
    except Exception as error:
        return _fail(error, where=f" (details: {_keep_traceback(run)})")
    num_error_rows, limit = metrics.aligned.totals.num_error_rows, config.max_error_rows
    if limit is not None and num_error_rows > limit:
        print(f"error: {num_error_rows} error rows, more than max_error_rows = {limit}", file=sys.stderr)
        return TOO_MANY_ERROR_ROWS
    return 0


def _dry_run(config: AlignConfig, plan: InputPlan, columns: InputColumns) -> int:
    run = RunDirectory.find(config, plan)
    raise_on_signals()
    try:
        from jobs.align.dry_run import dry_run  # here, because it imports Ray and transformers

        dry_run(config, plan, columns, run)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return interruption.exit_code
    return 0


def _with_fresh_output(config: AlignConfig) -> AlignConfig:
    output = fresh_output(config.output)
    if output != config.output:
        print(f"fresh output: {output} (go on with it by output={output}, without --fresh)", flush=True)
    return config.model_copy(update={"output": output})


def _fail(error: Exception, where: str = "") -> int:
    """Print the one line that matters."""
    if isinstance(error, StarsError):
        print(f"error: {error}{where}", file=sys.stderr)
        return error.exit_code
    print(f"error: {type(error).__name__}: {_last_line(error)}{where}", file=sys.stderr)
    return 1


def _keep_traceback(run: RunDirectory) -> str:
    """Write the traceback beside the run and say where; a disk that is full gets it on stderr instead."""
    try:
        run.write_error_log(traceback.format_exc())
    except OutputError:
        traceback.print_exc()
        return "above"
    return str(run.error_log)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.align",
        description="Align a Parquet of prompts at decoding time.",
        epilog="keys, with their defaults:\n" + "\n".join(described_fields(AlignConfig)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file; see jobs/configs")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--fresh", action="store_true", help="start anew beside an output that exists, in OUTPUT-2, OUTPUT-3, …"
    )
    again.add_argument(
        "--retry-errors", action="store_true", help="do the error rows again, of a finished run too; keep all others"
    )
    again.add_argument(
        "--dry-run",
        action="store_true",
        help="show the input, the first prompt, placement, memory and the cost by a probe; write nothing",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the config, after the file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
