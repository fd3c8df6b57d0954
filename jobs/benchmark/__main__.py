"""The benchmark: the pipeline, plain generation, references, transformers' batching and vLLM, side by side.

python -m jobs.benchmark size=5M rounds=5 output=outputs/benchmark

The config is checked before Ray or a model library is imported.
"""

import argparse
import sys

from jobs.benchmark.config import BenchmarkConfig
from jobs.command import config_parser, run_command
from pipeline.config.loading import load_tree


def main(arguments: list[str] | None = None) -> int:
    description = "Measure the pipeline beside other ways to decode the same forced segments."
    return run_command(config_parser("benchmark", description, BenchmarkConfig), _benchmark, arguments)


def _benchmark(options: argparse.Namespace) -> None:
    config = load_tree(BenchmarkConfig, options.config, options.overrides)
    from jobs.benchmark.rounds import run_benchmark  # here, because it imports Ray and transformers

    run_benchmark(config)


if __name__ == "__main__":
    sys.exit(main())
