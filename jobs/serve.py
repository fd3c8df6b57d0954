"""Aligned decoding behind an OpenAI-compatible endpoint, with the config of jobs.align.

python -m jobs.serve --config jobs/configs/embedded.yaml serve.port=8000
serve run jobs.serve:build config=jobs/configs/embedded.yaml strategy.beta=0.1
serve build jobs.serve:app -o serve.yaml        # the config that STARS_CONFIG names, the embedded one if none
"""

import argparse
import os
import sys
import time
from typing import Any

from actors.serving.server_config import ServeConfig
from jobs.command import config_parser, run_command
from pipeline.config.loading import load_tree

DAY_S = 86_400
DEFAULT_CONFIG = "jobs/configs/embedded.yaml"


def main(arguments: list[str] | None = None) -> int:
    description = "Answer requests as jobs.align answers rows, behind an OpenAI-compatible endpoint."
    parser = config_parser("serve", description, ServeConfig, "YAML file, as for jobs.align; see jobs/configs")
    return run_command(parser, _serve, arguments)


def _serve(options: argparse.Namespace) -> None:
    """Serve until interrupted."""
    config = load_tree(ServeConfig, options.config, options.overrides)
    from actors.serving.server import greeting, running_server  # here, because they import Ray and transformers

    started_s = time.monotonic()
    print(f"loading {config.policy.title} …", flush=True)
    with running_server(config) as server:
        for notice in server.notices:
            print(notice, flush=True)
        print(greeting(config, server.url, time.monotonic() - started_s), flush=True)
        while True:
            time.sleep(DAY_S)


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


if __name__ == "__main__":
    sys.exit(main())
