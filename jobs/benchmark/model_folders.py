"""The two model folders that every contender loads: random weights of a named size, or the user's own models.

Invariant: no end token can be drawn, since the policy's generation config names -1; all responses have full length.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig
from transformers.utils.logging import disable_progress_bar

from jobs.benchmark.config import BenchmarkConfig, Size

NO_TOKEN = -1
GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama with grouped-query attention; heads are 64 wide but in the two smallest."""

    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int


SHAPES: dict[Size, Shape] = {
    "tiny": Shape(512, 32, 64, 2, 4, 2),
    "5M": Shape(4096, 256, 688, 4, 8, 2),
    "30M": Shape(8192, 512, 1408, 8, 8, 2),
    "110M": Shape(16384, 768, 2400, 12, 12, 4),
    "1B": Shape(32000, 2048, 5632, 20, 32, 8),
    "7B": Shape(32000, 4096, 14336, 32, 32, 8),
}


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Where the models are. `vocabulary_size` bounds the random prompt tokens."""

    policy: str
    reward: str
    vocabulary_size: int


def make_model_folders(config: BenchmarkConfig, root: Path) -> ModelFolders:
    """Write or link both models under `root`."""
    disable_progress_bar()
    torch.set_num_threads(config.num_threads)
    policy, reward = root / "policy", root / "reward"
    if config.policy.model is None:
        _save_random(AutoModelForCausalLM, config, config.seed, policy)
    else:
        _link(config.policy.model, policy)
    (policy / GENERATION_CONFIG).unlink(missing_ok=True)
    (policy / GENERATION_CONFIG).write_text(json.dumps({"eos_token_id": NO_TOKEN, "pad_token_id": 0}))
    if config.reward.model is None:
        _save_random(AutoModelForSequenceClassification, config, config.seed + 1, reward)
    else:
        _link(config.reward.model, reward)
    sizes = [AutoConfig.from_pretrained(folder).get_text_config().vocab_size for folder in (policy, reward)]
    return ModelFolders(str(policy), str(reward), min(sizes))


def llama_config(shape: Shape, max_position_embeddings: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        max_position_embeddings=max_position_embeddings,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )


def _save_random(
    auto_class: type[AutoModelForCausalLM] | type[AutoModelForSequenceClassification],
    config: BenchmarkConfig,
    seed: int,
    folder: Path,
) -> None:
    torch.manual_seed(seed)
    shape = llama_config(SHAPES[config.size], max(2048, config.max_model_len))
    auto_class.from_config(shape, dtype=getattr(torch, config.dtype)).save_pretrained(folder)


def _link(model: str, folder: Path) -> None:
    """A folder of links to the model's files, because its generation config is replaced."""
    source = Path(model).expanduser()
    source = source if source.is_dir() else Path(snapshot_download(model))
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).symlink_to(path.resolve())
