"""Aligned decoding behind an OpenAI-compatible endpoint, with the config of jobs.align.

    python -m jobs.serve --config jobs/configs/embedded.yaml serve.port=8000
    serve run jobs.serve:build config=jobs/configs/embedded.yaml strategy.beta=0.1
    serve build jobs.serve:app -o serve.yaml        # the config that STARS_CONFIG names, the embedded one if none

Exit codes: 0 or 130 stopped, 1 the server failed, 2 the config must be mended.
"""

import argparse
import os
import sys
from typing import Any

from actors.serving.server_config import ServeConfig
from jobs.interrupts import Interrupted, raise_on_signals
from pipeline.config.loading import described_fields, load_tree
from pipeline.errors import StarsError

DEFAULT_CONFIG = "jobs/configs/embedded.yaml"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        config = load_tree(ServeConfig, options.config, options.overrides)
        raise_on_signals()
        from actors.serving.server import run_server  # here, because it imports Ray and transformers

        run_server(config)
    except Interrupted as interruption:
        return interruption.exit_code
    except StarsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def build(arguments: dict[str, str]) -> Any:
    """For `serve run`: the application of a config. `config` names the file, every other argument overrides a key."""
    from actors.cluster.session import join_cluster
    from actors.serving.deployments import build_application
    from actors.serving.server import prepare_environment

    overrides = [f"{key}={value}" for key, value in arguments.items() if key != "config"]
    config = load_tree(
        ServeConfig, arguments.get("config") or os.environ.get("STARS_CONFIG", DEFAULT_CONFIG), overrides
    )
    prepare_environment()
    join_cluster()
    return build_application(config)


def __getattr__(name: str) -> Any:
    """`app`, built when it is asked for: `serve build` takes no arguments."""
    if name == "app":
        return build({})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.serve",
        description="Answer requests as jobs.align answers rows, behind an OpenAI-compatible endpoint.",
        epilog="keys, with their defaults:\n" + "\n".join(described_fields(ServeConfig)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file, as for jobs.align; see jobs/configs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the config, after the file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
