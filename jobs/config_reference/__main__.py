"""Write docs/configuration.md: every key of every job's config, its default, the values it takes and what it means.

python -m jobs.config_reference

The page is generated, so edit the field's description in the code, then run this. Exit codes: 0 written, 2 the file
cannot be written.
"""

import argparse
import sys
from pathlib import Path

from jobs.config_reference.reference import configuration_page

PAGE = "docs/configuration.md"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.output.write_text(configuration_page(), encoding="utf-8")
    except OSError as error:
        print(f"error: {options.output} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"written: {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.config_reference", description="Write the reference of every config key."
    )
    parser.add_argument("--output", type=Path, default=Path(PAGE), help=f"the page [{PAGE}]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
