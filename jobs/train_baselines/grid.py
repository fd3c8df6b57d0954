"""Baseline training in order: pairs, then every point of each method's grid, validated; the best is kept.

Invariant: a baseline's folder is a complete policy (weights, tokenizer, chat template, generation config) and appears
atomically.
"""

import json
import math
import shutil
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from jobs.train_baselines.config import BaselinesConfig, Method
from jobs.train_baselines.gold_pairs import gold_pairs
from jobs.train_baselines.trl_training import train
from jobs.train_embedded.rollouts import sample_rollouts
from pipeline.embedded.judge import gold_score
from pipeline.errors import InputError

VALIDATION_TEMPERATURE = 1.0
VALIDATION_SEED = 1_000_003  # added to the seed, so that no validation prompt is drawn as a training prompt is
PAIR_COLUMNS = {"prompt", "chosen", "rejected"}


def train_baselines(config: BaselinesConfig) -> None:
    """Write `output`/sft, `output`/dpo, the pairs that were drawn, and baselines.json: what was tried, and how well.

    Raises:
        InputError: the file of pairs is not in TRL's format.
    """
    torch.set_num_threads(config.num_threads)
    datasets.disable_progress_bars()
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    pairs = _pairs(config, output)
    tried: dict[str, Any] = {"config": config.model_dump(mode="json"), "num_pairs": len(pairs)}
    tried["start"] = _gold(Path(config.policy), config)
    print(f"start: gold {tried['start']['gold']:.3f} on {config.validation_prompts} validation prompts", flush=True)
    for method in config.methods:
        tried[method] = _best_of_grid(method, config, pairs, output)
        (output / "baselines.json").write_text(json.dumps(tried, indent=2) + "\n")
    print(f"written: {', '.join(str(output / method) for method in config.methods)}, {output / 'baselines.json'}")


def _pairs(config: BaselinesConfig, output: Path) -> datasets.Dataset:
    if config.pairs is not None:
        kind = "json" if config.pairs.endswith(".jsonl") else "parquet"
        with tempfile.TemporaryDirectory(prefix="stars-pairs-") as cache:
            read = datasets.load_dataset(
                kind, data_files=config.pairs, split="train", cache_dir=cache, keep_in_memory=True
            )
        if not read.num_rows or not PAIR_COLUMNS.issubset(read.column_names):
            raise InputError(f"pairs {config.pairs!r} holds no rows with the columns {', '.join(sorted(PAIR_COLUMNS))}")
        return read.select_columns(sorted(PAIR_COLUMNS))
    started = time.monotonic()
    policy, tokenizer = load_policy(Path(config.policy))
    drawn = datasets.Dataset.from_list(gold_pairs(policy, tokenizer, config.num_pairs, config.seed))
    drawn.to_parquet(output / "pairs.parquet")
    print(f"{len(drawn)} pairs drawn in {time.monotonic() - started:.0f} s", flush=True)
    return drawn


def _best_of_grid(
    method: Method, config: BaselinesConfig, pairs: datasets.Dataset, output: Path
) -> list[dict[str, Any]]:
    """Train every point, keep the folder of the best; what was tried, in order."""
    tried: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=output) as work:
        for number, point in enumerate(config.grid(method)):
            started, folder = time.monotonic(), Path(work) / str(number)
            train(method, config, point, pairs).save_pretrained(folder)
            AutoTokenizer.from_pretrained(config.policy).save_pretrained(folder)
            train_s = time.monotonic() - started
            entry = point.model_dump(exclude_none=True) | {"train_s": round(train_s, 1)} | _gold(folder, config)
            print(f"{method}: {entry}", flush=True)
            tried.append(entry)
            best = max(range(len(tried)), key=lambda i: tried[i]["gold"])
        shutil.move(Path(work) / str(best), output / method)
    return [entry | {"is_kept": number == best} for number, entry in enumerate(tried)]


def _gold(folder: Path, config: BaselinesConfig) -> dict[str, float]:
    """Mean gold score, its standard error and the mean length of plain answers to validation prompts."""
    policy, tokenizer = load_policy(folder)
    rollouts = sample_rollouts(policy, tokenizer, 1, VALIDATION_SEED + config.seed, VALIDATION_TEMPERATURE)
    scores, lengths = [], []
    for rollout in islice(rollouts, config.validation_prompts):
        text = tokenizer.decode(rollout.responses[0], skip_special_tokens=True)
        scores.append(gold_score(rollout.conversation.prompt, text))
        lengths.append(len(rollout.responses[0]))
    error = statistics.pstdev(scores) / math.sqrt(len(scores))
    return {"gold": round(statistics.fmean(scores), 4), "gold_se": round(error, 4), "tokens": statistics.fmean(lengths)}


def load_policy(folder: Path) -> tuple[Any, PreTrainedTokenizerFast]:
    """A policy of its own for the slot engine, which changes how the model attends."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).requires_grad_(False).eval()
    return model, AutoTokenizer.from_pretrained(folder)
