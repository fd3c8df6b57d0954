"""Checkpoints as they come: what lacks weights, or holds more than would be used, is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config

from actors.engines.pretrained import load_policy, load_reward
from pipeline.config.model import ModelConfig, check_model_path
from pipeline.config.rewards import ClassifierReward
from pipeline.errors import ConfigError
from tests.tiny_models import CONFIGS, causal_model, engine_config, reward_model


def policy(folder):
    return load_policy(ModelConfig(model=str(folder), dtype="float32"), engine_config())


def reward(folder):
    return load_reward(ClassifierReward(model=str(folder), dtype="float32"), engine_config())


def test_a_policy_without_its_head_is_refused_by_the_weights_it_lacks(tmp_path):
    AutoModel.from_config(CONFIGS["llama"]()).save_pretrained(tmp_path / "base")
    reward_model("llama").save_pretrained(tmp_path / "reward")
    for folder in ("base", "reward"):
        with pytest.raises(ConfigError, match=rf"policy\.model '.*{folder}' lacks .* random: lm_head\.weight; it must"):
            policy(tmp_path / folder)


def test_a_reward_without_its_head_is_refused_by_the_weights_it_lacks(tmp_path):
    config = CONFIGS["llama"]()
    config.num_labels = 1
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks weights that would be random: score\.weight; it must be a sequence"):
        reward(tmp_path)


def test_a_head_of_another_shape_is_no_head(tmp_path):
    reward_model("llama").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"score.weight": torch.ones(3, 32)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks weights that would be random: score\.weight; it must"):
        reward(tmp_path)


def test_many_lacking_weights_are_counted(tmp_path):
    causal_model("llama").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.1." not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"model\.layers\.1\.[\w.]+, [\w.]+, [\w.]+ and 6 more; it must be a causal"):
        policy(tmp_path)


def test_tied_weights_and_harmless_buffers_are_no_missing_weights(tmp_path):
    config = GPT2Config(**CONFIGS["gpt2"]().to_dict() | {"tie_word_embeddings": True})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert policy(tmp_path).slots.vocabulary_size == config.vocab_size


def test_adapters_are_refused_alone_and_beside_the_weights(tmp_path):
    causal_model("llama").save_pretrained(tmp_path / "both")
    (tmp_path / "alone").mkdir()
    for folder in ("both", "alone"):
        (tmp_path / folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
        with pytest.raises(ValueError, match=r"an adapter \(adapter_config\.json\).*into 'org/base'.*merge_and_unload"):
            check_model_path(str(tmp_path / folder))
    (tmp_path / "both" / "adapter_config.json").unlink()
    (tmp_path / "both" / "adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors.*into its base model"):
        check_model_path(str(tmp_path / "both"))


def test_gguf_is_refused_by_name(tmp_path):
    (tmp_path / "model-Q4.gguf").touch()
    for model in (tmp_path / "model-Q4.gguf", tmp_path):
        with pytest.raises(ValueError, match=r"GGUF weights, which cannot be read; give .* safetensors"):
            check_model_path(str(model))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="GGUF"):
        check_model_path(str(tmp_path))
