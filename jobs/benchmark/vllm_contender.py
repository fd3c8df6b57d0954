"""vLLM with prefix caching does the policy's part: a separate program for an interpreter that has vllm.

Reads one JSON object per line and answers each with one line: first the settings (answer: the version), then one
workload per line (answer: what it cost). It imports nothing of this project, whose packages that interpreter may lack.
"""

import json
import os
import resource
import sys
import time
from typing import Any, TextIO


def main(commands: TextIO, answers: TextIO) -> None:
    settings = json.loads(commands.readline())
    model, sampling, prompt_type = _load(settings)
    import vllm

    _answer(answers, {"version": vllm.__version__})
    for line in commands:
        _answer(answers, run(json.loads(line), settings, model, sampling, prompt_type))


def _load(settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    import torch
    from vllm import LLM, SamplingParams, TokensPrompt

    on_gpu = torch.cuda.is_available()
    options = {"gpu_memory_utilization": settings["gpu_fraction"]} if on_gpu else {"block_size": 32}
    model = LLM(
        settings["model"],
        dtype=settings["dtype"],
        max_model_len=settings["max_model_len"],
        max_num_seqs=settings["slots"],
        enable_prefix_caching=True,
        skip_tokenizer_init=True,
        enforce_eager=not on_gpu,
        seed=settings["seed"],
        **options,
    )
    sampling = SamplingParams(
        max_tokens=settings["segment_size"],
        temperature=1.0,
        top_k=settings["top_k"],
        ignore_eos=True,
        detokenize=False,
    )
    return model, sampling, TokensPrompt


def run(
    workload: dict[str, Any], settings: dict[str, Any], model: Any, sampling: Any, prompt_type: Any
) -> dict[str, Any]:
    """All rows propose a segment in one `generate`, all are judged, and so on; see `Lockstep`."""
    attempts_NS, size = workload["num_attempts_NS"], settings["segment_size"]
    waiting = list(enumerate(workload["prompts"]))[::-1]
    live: list[list[Any]] = []  # row, prefix, segment, attempt
    totals = dict.fromkeys(("num_prompt", "num_proposed", "num_accepted", "num_pushed", "num_calls"), 0)
    started_s, cpu_started_s, busy_s = time.time(), time.process_time(), 0.0
    while (waiting or live) and time.time() - started_s < settings["time_limit_s"]:
        while waiting and len(live) < settings["slots"]:
            row, prompt = waiting.pop()
            live.append([row, prompt, 0, 0])
            totals["num_prompt"] += len(prompt)
        call_started_s = time.time()
        outputs = model.generate([prompt_type(prompt_token_ids=r[1]) for r in live], sampling, use_tqdm=False)
        busy_s += time.time() - call_started_s
        totals["num_calls"] += 1
        for state, output in zip(live, outputs, strict=True):
            tokens = list(output.outputs[0].token_ids)
            assert len(tokens) == size, "a segment ended early"
            totals["num_proposed"] += size
            totals["num_pushed"] += len(state[1]) - (output.num_cached_tokens or 0) + size - 1
            state[3] += 1
            if state[3] == attempts_NS[state[0]][state[2]]:
                state[1:] = [state[1] + tokens, state[2] + 1, 0]
                totals["num_accepted"] += size
        live = [state for state in live if state[2] < len(attempts_NS[state[0]])]
    times = {"started_s": started_s, "ended_s": time.time(), "busy_s": busy_s}
    return totals | times | {"cpu_s": time.process_time() - cpu_started_s} | _peak()


def _peak() -> dict[str, int]:
    import torch

    device_bytes = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "device_bytes": device_bytes}


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints goes to stderr, so that stdout holds only answers
    main(sys.stdin, channel)
