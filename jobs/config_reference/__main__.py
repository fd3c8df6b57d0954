"""Write docs/configuration.md: every key of every job's config, its default, the values it takes and what it means.

python -m jobs.config_reference

The page is generated, so edit the field's description in the code, then run this.
"""

import argparse
import sys
from pathlib import Path

from jobs.command import command_parser, run_command
from pipeline.errors import OutputError

PAGE = "docs/configuration.md"


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser("config_reference", "Write the reference of every config key.")
    parser.add_argument("--output", type=Path, default=Path(PAGE), help=f"the page [{PAGE}]")
    return run_command(parser, _write_reference, arguments)


def _write_reference(options: argparse.Namespace) -> None:
    from jobs.config_reference.reference import configuration_page  # here, because it imports the config of every job

    try:
        options.output.write_text(configuration_page(), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{options.output} cannot be written: {error.strerror}") from None
    print(f"written: {options.output}")


if __name__ == "__main__":
    sys.exit(main())
