"""One training run with TRL: a policy folder and pairs in, a trained model out.

Losses, collators and defaults are TRL's own, except what a small model on CPUs needs: no checkpointing of activations,
fp32, and nothing saved during training.
"""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from jobs.train_baselines.config import BaselinesConfig, Method, Point

WARMUP_FRACTION = 0.1


def train(method: Method, config: BaselinesConfig, point: Point, pairs: Dataset) -> PreTrainedModel:
    """Train the config's policy at one point of the grid; the seed fixes the order of the pairs."""
    model = AutoModelForCausalLM.from_pretrained(config.policy, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(config.policy)
    pairs = pairs.select(range(min(point.num_pairs, len(pairs))))
    pairs = pairs.map(with_marks, fn_kwargs={"end": tokenizer.eos_token})
    with tempfile.TemporaryDirectory(prefix="stars-baseline-") as folder:
        settings = _settings(config, point, folder)
        if method == "sft":
            chosen = pairs.select_columns(["prompt", "chosen", "length"]).rename_column("chosen", "completion")
            trainer = SFTTrainer(model, SFTConfig(**settings), train_dataset=chosen, processing_class=tokenizer)
        else:
            arguments = DPOConfig(**settings, beta=point.beta)
            trainer = DPOTrainer(model, args=arguments, train_dataset=pairs, processing_class=tokenizer)
            trainer.train_dataset = trainer.train_dataset.map(without_added_end)
        trainer.train()
    return model.eval()


def with_marks(pair: dict[str, Any], end: str) -> dict[str, int | bool]:
    """Its length in characters, so that batches are of like length and little is padding; and which sides are text that
    does not end the response."""
    prompt, chosen, rejected = (_num_characters(pair[name]) for name in ("prompt", "chosen", "rejected"))
    is_open = {
        f"{side}_is_open": isinstance(pair[side], str) and not pair[side].endswith(end)
        for side in ("chosen", "rejected")
    }
    return {"length": prompt + max(chosen, rejected)} | is_open


def without_added_end(pair: dict[str, Any]) -> dict[str, list[int]]:
    """TRL ends every text with the end token; a segment that does not end the response must go without it."""
    sides = ("chosen", "rejected")
    return {f"{side}_ids": pair[f"{side}_ids"][: -1 if pair[f"{side}_is_open"] else None] for side in sides}


def _num_characters(text: str | list[dict[str, str]]) -> int:
    return len(text) if isinstance(text, str) else sum(len(message["content"]) for message in text)


def _settings(config: BaselinesConfig, point: Point, folder: str) -> dict[str, Any]:
    limit = AutoConfig.from_pretrained(config.policy).get_text_config().max_position_embeddings
    return {
        "output_dir": folder,
        "per_device_train_batch_size": config.batch_size,
        "learning_rate": point.learning_rate,
        "num_train_epochs": point.epochs,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARMUP_FRACTION,
        "max_length": limit,
        "seed": config.seed,
        "bf16": False,
        "activation_checkpointing": False,
        "use_cpu": True,
        "save_strategy": "no",
        "train_sampling_strategy": "group_by_length",
        "remove_unused_columns": False,  # else the lengths are removed before the sampler needs them
        "logging_steps": 50,
        "report_to": "none",
        "disable_tqdm": True,
    }
