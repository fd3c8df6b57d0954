"""The check at load: right models pass and draw as before, wrong ones are refused in a line that says what works."""

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from actors.engines import pretrained
from actors.engines.policy_engine import PolicyEngine
from actors.engines.pretrained import ready_policy, ready_reward
from actors.engines.slot_cache import SlotCache
from actors.engines.slot_model import SlotModel
from pipeline.errors import ConfigError
from tests.actors.engines.test_slot_engine import cohort_of
from tests.tiny_models import CONFIGS, SHAPE, VOCABULARY, causal_model, engine_config, reward_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CONFIGS)
def test_right_models_pass(name, dtype):
    for shapes_of in ("cpu", "cuda"):
        ready_policy(causal_model(name).to(dtype), engine_config(), (1,), shapes_of)
    ready_reward(reward_model(name).to(dtype), engine_config(slots=1))


@pytest.mark.parametrize("max_model_len", [2, 3, 4, 5, 9, 23])
def test_short_engines_are_checked_with_short_sequences(max_model_len):
    ready_policy(causal_model("llama"), engine_config(max_model_len=max_model_len), (1,))
    ready_reward(reward_model("llama"), engine_config(max_model_len=max_model_len))


@pytest.mark.parametrize("shapes_of", ["cpu", "cuda"])
def test_the_check_leaves_an_engine_as_new(shapes_of):
    prompts = [np.arange(2, 2 + n, dtype=np.int32) for n in (30, 7, 19, 12)]
    answers = []
    for checked in (False, True):
        model = causal_model("gemma3")
        pack = ready_policy if checked else lambda model, *rest: PolicyEngine(pretrained.packed(model), *rest)
        engine = pack(model, engine_config(), (VOCABULARY + 1,), shapes_of)
        rounds = [engine.propose(cohort_of([4, 1, 0, 5], prompts, [5] * 4, attempt)) for attempt in range(3)]
        answers.append([(r.tokens_RT.tolist(), r.stats.pushed_tokens_R.tolist()) for r in rounds])
    assert answers[0] == answers[1]


def small(name, **flags):
    config = CONFIG_MAPPING[name](**{key: value for key, value in SHAPE.items() if key != "head_dim"} | flags)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)
    return model


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("roberta", {"is_decoder": True}, "roberta (gives other numbers|fails) in slots"),
        ("bert", {}, "bert fails in slots: TypeError"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "gemma3_text gives other numbers in slots"),
        ("openai-gpt", {"n_embd": 32, "n_layer": 3, "n_head": 4}, "openai-gpt attends in a way of its own"),
        ("mamba", {}, r"mamba has layers \(recurrent state\) whose state cannot be rolled back"),
    ],
)
def test_wrong_models_are_refused(name, flags, words):
    with pytest.raises(ConfigError, match=words) as caught:
        ready_policy(small(name, **flags), engine_config(), (1,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("role", ["policy", "reward"])
@pytest.mark.parametrize(
    ("owner", "name", "fault", "row"),
    [
        (SlotCache, "copy_columns", lambda *_: None, "shared|forked"),
        (SlotModel, "reset", lambda *_: None, None),
        (
            SlotCache,
            "begin",
            lambda self, rows, starts, *rest: begin(self, rows, starts.clamp(max=9), *rest),
            "long|shared",
        ),
    ],
    ids=["no fork", "no fault", "wrong place"],
)
def test_faults_of_the_engine_are_found(monkeypatch, role, owner, name, fault, row):
    monkeypatch.setattr(owner, name, fault)
    make = {"policy": lambda: ready_policy(causal_model("llama"), engine_config(), (1,))}
    make["reward"] = lambda: ready_reward(reward_model("llama"), engine_config())
    if row is None:
        make[role]()
        return
    with pytest.raises(ConfigError, match=rf"the ({row}) row is off by .* allowed .* decoders like Llama"):
        make[role]()


begin = SlotCache.begin


def test_numbers_that_are_not_finite_are_told():
    model = causal_model("llama")
    model.lm_head.weight.data[:] = float("inf")
    with pytest.raises(ConfigError, match=r"its own forward gives numbers that are not finite in torch\.float32"):
        ready_policy(model, engine_config(), (1,))
