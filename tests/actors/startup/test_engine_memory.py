"""Memory: the arithmetic by hand, the shapes derived from it, and a model that fills its slots beside what it said."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

from actors.models.process_memory import free_host_bytes, peak_bytes
from actors.rewards.interface import ModelNeeds
from actors.startup.engine_shape import MemoryPool, ShapeBounds, expected_peaks, fit_engine
from actors.startup.memory import PROCESS_BYTES
from actors.startup.model_sizes import model_memory
from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError
from tests.configs import fake_config
from tests.tiny_models import CONFIGS, VOCABULARY

# Tiny llama, fp32: embedding and head; per layer q, o of 32 × 32, k, v of 32 × 16, three of 32 × 48, two norms; a norm.
LLAMA_PARAMETERS = 2 * 61 * 32 + 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32) + 32
ROTARY_BYTES = 2 * 4 * 4  # two buffers of four fp32 frequencies
FLOAT32 = ModelConfig(backend="fake", dtype="float32")


def memory(role="policy", device="cpu", **changes):
    needs = ModelNeeds("AutoModelForCausalLM" if role == "policy" else "AutoModelForSequenceClassification")
    return model_memory(role, FLOAT32, LlamaConfig(**(CONFIGS["llama"]().to_dict() | changes)), device, needs)


def test_weights_and_slots_by_hand():
    need = memory().need(slots=6, max_model_len=90)
    assert need.weights_bytes == 4 * LLAMA_PARAMETERS + ROTARY_BYTES
    assert need.slot_bytes == 2 * 3 * 2 * 8 * (96 + 1) * 4 + 90 * 4, "keys and values, 96 columns and the dump; a table"
    assert need.process_bytes == PROCESS_BYTES["cpu"] and need.num_slots == 6
    assert need.total_bytes == need.process_bytes + need.weights_bytes + 6 * need.slot_bytes + need.forward_bytes


def test_a_shared_head_has_a_packed_copy_on_a_cpu_only():
    tied = memory(tie_word_embeddings=True), memory(device="cuda", tie_word_embeddings=True)
    assert tied[0].weights_bytes - tied[1].weights_bytes == VOCABULARY * 32 * 4
    assert memory().weights_bytes == tied[0].weights_bytes


def test_a_gpu_has_its_own_shapes():
    need = memory(device="cuda").need(slots=17, max_model_len=300)
    assert need.num_slots == 32 and need.slot_bytes == 2 * 3 * 2 * 8 * (512 + 1) * 4


def bounds(config, limit):
    return ShapeBounds(config.strategy.num_lanes, config.generation.max_new_tokens, limit)


def pools(slots, max_model_len):
    """Both models on one machine that has just enough for this shape."""
    models = {role: memory(role, max_position_embeddings=4096) for role in ("policy", "reward")}
    total_bytes = sum(model.need(slots, max_model_len).total_bytes for model in models.values())
    return [MemoryPool(models, int(total_bytes / 0.9) + 1)]


@pytest.mark.parametrize(
    ("engine", "room", "shape"),
    [
        ({}, (64, 4096), (64, 4096)),
        ({}, (200, 4096), (64, 4096)),
        ({}, (23, 4096), (23, 4096)),
        ({}, (16, 2048), (16, 2048)),
        ({}, (5, 25), (5, 32)),
        ({"slots": 40}, (40, 1024), (40, 1024)),
        ({"max_model_len": 1024}, (9, 1024), (9, 1024)),
        ({"slots": 5, "max_model_len": 50}, (5, 50), (5, 50)),
        ({"strategy": {"name": "best_of_n", "n": 70}}, (100, 4096), (70, 4096)),
    ],
    ids=str,
)
def test_what_is_left_out_follows_from_free_memory(engine, room, shape):
    strategy = {"strategy": engine["strategy"]} if "strategy" in engine else {}
    config = fake_config(engine={k: v for k, v in engine.items() if k != "strategy"}, **strategy)
    found_pools = pools(*room)
    found = fit_engine(config.engine, bounds(config, config.engine.max_model_len or 4096), found_pools)
    slots, max_model_len = found.slots, found.max_model_len
    assert slots == shape[0]
    assert abs(max_model_len - shape[1]) <= 16, "the columns come in sixteens"
    assert found_pools[0].fits(slots, max_model_len)
    assert set(expected_peaks(found, found_pools)) == {"policy", "reward"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"engine": {"slots": 64, "max_model_len": 4096}}, r"engine\.slots = 64 × engine\.max_model_len = 4096 cannot"),
        ({"engine": {"slots": 4096}}, r"engine\.slots = 4096 × engine\.max_model_len = 25 cannot fit: policy 0\.6 GB"),
        ({"strategy": {"name": "best_of_n", "n": 5000}}, r"slots = 5000 × engine\.max_model_len = 25 cannot fit"),
    ],
    ids=str,
)
def test_what_cannot_fit_is_refused_with_the_sum(sections, words):
    with pytest.raises(ConfigError, match=words) as caught:
        config = fake_config(**sections)
        fit_engine(config.engine, bounds(config, 4096), pools(20, 300))
    assert "\n" not in str(caught.value)
    for part in ("process +", "weights +", "MB slots +", "forward =", "reward", "together", "90 % of"):
        assert part in str(caught.value)


def test_fakes_need_no_memory():
    assert fit_engine(fake_config().engine, bounds(fake_config(), 4096), []).slots == 64


def test_a_container_has_no_more_than_its_limit(tmp_path):
    import ray  # noqa: F401  brings psutil where none is installed

    whole = free_host_bytes(tmp_path)
    assert whole > 1e8 and peak_bytes() > 1e7
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 4000\ninactive_file 300\nactive_file 200\n")
    assert free_host_bytes(tmp_path) > 1e8
    (tmp_path / "memory.max").write_text("9000\n")
    assert free_host_bytes(tmp_path) == 9000 - 5000 + 500


@pytest.mark.parametrize(
    ("role", "auto"), [("policy", AutoModelForCausalLM), ("reward", AutoModelForSequenceClassification)]
)
def test_a_model_that_fills_its_slots_holds_what_the_arithmetic_said(tmp_path, role, auto):
    shape = {"vocab_size": 8192, "hidden_size": 384, "intermediate_size": 768, "num_hidden_layers": 10}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 6, "max_position_embeddings": 512, "num_labels": 1}
    config = LlamaConfig(**shape, **heads, eos_token_id=1, pad_token_id=0, bos_token_id=None)
    auto.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
    command = [sys.executable, "-m", "tests.actors.startup.filled_model", role, str(tmp_path), "96", "256"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    held_bytes, expected_bytes = map(int, ended.stdout.split()[-2:])
    assert held_bytes == pytest.approx(expected_bytes, rel=0.15)
    assert held_bytes > 1.2e9, "the slots are most of it"
    print(role, held_bytes, expected_bytes, held_bytes / expected_bytes)
