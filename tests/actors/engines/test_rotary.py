"""Rotary frequencies that depend on the length: every row has its own, whatever stands beside it."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, Phi3Config

from actors.engines.pretrained import ready_policy, ready_reward
from pipeline.errors import ConfigError
from tests.actors.engines.walk import Setting, plain_of, policy_difference, reward_difference
from tests.tiny_models import MAX_LEN, SHAPE, engine_config

ORIGINAL = 40
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.2, 1.5, 2.0],
    "long_factor": [3.0, 5.0, 8.0, 20.0],
    "original_max_position_embeddings": ORIGINAL,
}
TOLERANCE = 1e-4


def longrope(auto):
    torch.manual_seed(0)
    config = Phi3Config(**SHAPE, rope_parameters=LONGROPE, original_max_position_embeddings=ORIGINAL, num_labels=1)
    model = auto.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)
    return model


@pytest.mark.parametrize(
    "setting",
    [Setting(6), Setting(2), Setting(6, prefill_chunk=7), Setting(6, "cuda"), Setting(16, "cuda", 7)],
    ids=str,
)
def test_longrope_policies_are_right_at_every_length(setting):
    plain = longrope(AutoModelForCausalLM)
    engine_shape = engine_config(slots=setting.slots, prefill_chunk=setting.prefill_chunk)
    engine = ready_policy(copy.deepcopy(plain), engine_shape, (1,), setting.shapes_of)
    assert policy_difference(engine, plain_of(plain, by_length=True), setting, 30) < TOLERANCE


def test_longrope_rewards_are_right_at_every_length():
    plain = longrope(AutoModelForSequenceClassification)
    engine = ready_reward(copy.deepcopy(plain), engine_config())
    assert reward_difference(engine, plain_of(plain), Setting(6), 30) < TOLERANCE


def test_the_two_sets_of_frequencies_differ():
    """Else the tests above would show nothing."""
    plain = longrope(AutoModelForCausalLM)
    tokens = torch.arange(2, 2 + ORIGINAL + 1)[None]
    with torch.inference_mode():
        whole, cut = plain(tokens).logits[0, ORIGINAL - 1], plain(tokens[:, :-1]).logits[0, -1]
    assert float((whole - cut).abs().max()) > 0.1


def test_dynamic_frequencies_are_refused_beyond_their_positions():
    shape = SHAPE | {"max_position_embeddings": ORIGINAL}
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**shape, rope_parameters=rope), dtype=torch.float32)
    with pytest.raises(ConfigError, match=r"every token beyond 40; engine\.max_model_len = 40 works"):
        ready_policy(copy.deepcopy(model), engine_config(), (1,))
    engine = ready_policy(copy.deepcopy(model), engine_config(max_model_len=ORIGINAL), (1,))
    assert engine.slots.switch is None and ORIGINAL < MAX_LEN
