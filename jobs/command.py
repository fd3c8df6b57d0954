"""What all jobs share of a command line: their options, how they end, and the one line they print when they fail.

Exit codes: see EXIT_CODES; a job may return one of its own. An error that is no StarsError is a defect and shows its
traceback.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from pydantic import BaseModel

from jobs.interrupts import Interrupted, raise_on_signals
from pipeline.config.loading import described_fields
from pipeline.errors import StarsError

EXIT_CODES = (
    "exit codes: 0 done; 1 failed; 2 the arguments, the config or the input must be corrected; 130 or 143 interrupted"
)


def command_parser(job: str, description: str) -> argparse.ArgumentParser:
    """The parser of `python -m jobs.JOB`; line breaks in `description` are kept."""
    return argparse.ArgumentParser(
        prog=f"python -m jobs.{job}",
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_parser(
    job: str, description: str, root: type[BaseModel], file_help: str = "YAML file", more_keys: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A parser with `--config FILE` and `key=value`. Its help lists every key of `root`, and then `more_keys`."""
    parser = command_parser(job, description)
    parser.epilog = "\n".join(["keys of the config:", *described_fields(root), *more_keys, "", EXIT_CODES])
    parser.add_argument("--config", metavar="FILE", help=file_help)
    add_overrides(parser, "set a key of the config; wins over the file")
    return parser


def add_overrides(parser: argparse.ArgumentParser, text: str = "set a key of the job's config") -> None:
    """Let `key=value` stand anywhere among the options."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=text)


def run_command(
    parser: argparse.ArgumentParser,
    job: Callable[[argparse.Namespace], int | None],
    arguments: Sequence[str] | None,
    resume_hint: str = "",
) -> int:
    """Parse `arguments` (None: those of the process), run `job` and return the exit code.

    SIGINT and SIGTERM end the job as an exception; `resume_hint` then says what the user can do.
    """
    options = parser.parse_intermixed_args(arguments)
    try:
        with raise_on_signals():
            return job(options) or 0
    except Interrupted as interruption:
        print("; ".join(filter(None, [str(interruption), resume_hint])), file=sys.stderr)
        return interruption.exit_code
    except StarsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
