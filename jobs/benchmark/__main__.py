"""The benchmark: the pipeline, plain generation, references, transformers' batching and vLLM, side by side.

python -m jobs.benchmark size=5M rounds=5 output=outputs/benchmark

The config is checked before Ray or a model library is imported. Exit codes: 0 done, 1 it failed, 2 mend the config.
"""

import argparse
import sys

from jobs.benchmark.config import BenchmarkConfig
from jobs.interrupts import Interrupted
from pipeline.config.loading import described_fields, load_tree
from pipeline.errors import StarsError


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        config = load_tree(BenchmarkConfig, options.config, options.overrides)
        from jobs.benchmark.rounds import run_benchmark  # here, because it imports Ray and transformers

        run_benchmark(config)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return interruption.exit_code
    except StarsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark",
        description="Measure the pipeline beside other ways to decode the same forced segments.",
        epilog="keys, with their defaults:\n" + "\n".join(described_fields(BenchmarkConfig)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the config, after the file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
