"""The driver's side of `vllm_contender`: a program in another interpreter, one line of JSON each way per round."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from jobs.benchmark.config import BenchmarkConfig
from jobs.benchmark.measurement import Measurement, ProcessUsage
from jobs.benchmark.workload import Workload
from pipeline.errors import ModelError
from pipeline.runs.usage import RoleUsage

SCRIPT = Path(__file__).with_name("vllm_contender.py")


class VllmProcess:
    """vLLM in its own process, loaded once.

    Args:
        log: file for what vLLM prints.

    Raises:
        ModelError: it did not start.
    """

    def __init__(self, config: BenchmarkConfig, model_folder: str, interpreter: str, log: Path) -> None:
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [interpreter, str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=_environment(config),
            )
        settings = {
            "model": model_folder,
            "dtype": config.dtype,
            "max_model_len": config.max_model_len,
            "slots": config.slots,
            "segment_size": config.segment_size,
            "top_k": config.top_k,
            "seed": config.seed % 2**31,
            "gpu_fraction": config.vllm_gpu_fraction,
            "time_limit_s": config.time_limit_s,
        }
        self.version: str = self._ask(settings)["version"]

    def run(self, workload: Workload) -> Measurement:
        """One round."""
        prompts = [prompt.tolist() for prompt in workload.prompts]
        answer = self._ask({"prompts": prompts, "num_attempts_NS": workload.num_attempts_NS.tolist()})
        usage = RoleUsage(
            num_calls=answer["num_calls"],
            num_rows=answer["num_proposed"] // workload.segment_size,
            num_tokens=answer["num_pushed"],
            busy_s=answer["busy_s"],
            actor_s=answer["ended_s"] - answer["started_s"],
            last_ended_s=answer["ended_s"],
        )
        return Measurement(
            wall_s=answer["ended_s"] - answer["started_s"],
            cpu_s=answer["cpu_s"],
            num_prompt_tokens=answer["num_prompt"],
            num_accepted_tokens=answer["num_accepted"],
            num_judged_tokens=answer["num_proposed"],
            num_proposed_tokens=answer["num_proposed"],
            num_scored_tokens=0,
            policy=usage,
            reward=None,
            processes=(ProcessUsage("policy", answer["host_bytes"], answer["device_bytes"]),),
        )

    def close(self) -> None:
        """End the process: it leaves at the end of its input."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.close()
            raise ModelError(f"vLLM ended with exit code {self.process.returncode}; see {self.log}")
        return json.loads(answer)


def vllm_interpreter(config: BenchmarkConfig) -> str | None:
    """The interpreter to run vLLM with, or None where there is none."""
    if config.vllm_python is not None:
        return config.vllm_python
    return sys.executable if importlib.util.find_spec("vllm") else None


def _environment(config: BenchmarkConfig) -> dict[str, str]:
    """As many threads as the pipeline's policy, no telemetry, everything in one process."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "OMP_NUM_THREADS": str(config.policy_threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": str(config.vllm_cache_gb),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONSAFEPATH": "1",  # else this folder comes first on its path
    }
