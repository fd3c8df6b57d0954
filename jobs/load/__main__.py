"""Load a running server with concurrent streams and show the latencies of its clients.

python -m jobs.load --url http://127.0.0.1:8000 --streams 1 4 16 64
"""

import argparse
import asyncio
import os
import sys

from jobs.command import command_parser, run_command

PROMPTS = "pipeline/embedded/assets/prompts/heldout.parquet"


def main(arguments: list[str] | None = None) -> int:
    return run_command(_parser(), _load, arguments)


def _load(options: argparse.Namespace) -> None:
    import pyarrow.parquet as pq
    from rich.console import Console

    from jobs.load.streams import load_table, run_load

    prompts = pq.read_table(options.prompts, columns=["prompt"])["prompt"].drop_null().to_pylist()
    key, figures = os.environ.get(options.api_key_env, "none"), []
    for num_streams in options.streams:
        num_requests = num_streams * options.requests_per_stream
        figures.append(asyncio.run(run_load(options.url, prompts, num_streams, num_requests, key)))
    Console().print(load_table(figures))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("load", __doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="URL of the server [http://127.0.0.1:8000]")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 64], help="clients at once [1 4 16 64]")
    parser.add_argument("--requests-per-stream", type=int, default=6, help="requests that each client sends [6]")
    parser.add_argument("--prompts", default=PROMPTS, help=f"Parquet file with a column prompt [{PROMPTS}]")
    parser.add_argument(
        "--api-key-env", default="STARS_API_KEY", help="environment variable with the key, if any [STARS_API_KEY]"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
