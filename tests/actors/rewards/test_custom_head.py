"""Heads that transformers does not know: the repository's own code, a class in a file, a model's own output."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, LlamaConfig

from actors.engines.model_classes import model_class
from actors.rewards.custom_head import load, needs, shown
from actors.rewards.interface import RewardContext
from pipeline.config.decoding import EngineConfig
from pipeline.config.model_rewards import CustomHeadReward
from pipeline.errors import ConfigError
from pipeline.records import PromptRow
from tests.actors.rewards.walks import cohort_of
from tests.tiny_tokenizers import trained

ROW = PromptRow(0, "a", prompt="What is a run?")
CONTEXT = RewardContext(None, EngineConfig(slots=6, max_model_len=200), "user_message")
TEXTS = ["", "A run", "A run is one start", "A run is one start of a job.", "A walk"]
MODEL = '''
import torch
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast


class RewardWithVHead(LlamaPreTrainedModel):
    """As InternLM2's: a body, a head without bias, the value at the last token."""

    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.v_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)[0]
        return SequenceClassifierOutputWithPast(logits=self.v_head(hidden)[:, -1] {after})


class RewardWithMlp(RewardWithVHead):
    """As INF-ORM's: two layers."""

    def __init__(self, config):
        super().__init__(config)
        size = config.hidden_size
        self.v_head = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 1))
        self.post_init()


class TwoLayers(nn.Module):
    """A head alone."""

    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        self.first, self.second = nn.Linear(size, size), nn.Linear(size, 2)

    def forward(self, hidden):
        return self.second(torch.tanh(self.first(hidden)))
'''


@pytest.fixture
def folder(tmp_path, request):
    """A model folder with its own code in it. Parameters: the class, what its forward does after the head."""
    name, after = getattr(request, "param", ("RewardWithVHead", ""))
    (tmp_path / "modeling_reward.py").write_text(MODEL.replace("{after}", after))
    torch.manual_seed(5)
    tokenizer = trained("unigram")
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=256, **shape)
    model = model_class(f"{tmp_path / 'modeling_reward.py'}:{name}")(config)
    model.v_head.apply(lambda part: part.weight.data.mul_(20) if hasattr(part, "weight") else None)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    auto_map = {"auto_map": {"AutoModel": f"modeling_reward.{name}"}, "num_labels": 1}
    (tmp_path / "config.json").write_text(json.dumps(saved | auto_map))
    return tmp_path


def section(folder, **options):
    return CustomHeadReward(model=str(folder), dtype="float32", **options)


def plain(folder, text, closes, last=None, **options):
    """The model's own output for the whole conversation."""
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32, **options).eval()
    tokenizer = trained("unigram")
    whole = f"<s><|user|>\nWhat is a run?<|end|>\n<|assistant|>\n{text}" + ("<|end|>\n" if closes else "")
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"] + ([] if last is None else [last])
    with torch.inference_mode():
        hidden = model.base_model(torch.tensor([ids]))[0][0, -1]
        return float(model(torch.tensor([ids])).logits[0, 0]), hidden


def scored(folder, **options):
    reward = load(section(folder, **options), CONTEXT)
    for text in TEXTS[::-1]:
        reward.score(cohort_of([2], [ROW], [text], [False]))
    finished = [False, True, False, True, False]
    return reward.score(cohort_of(range(5), [ROW] * 5, TEXTS, finished)).rewards_R, finished


BOTH = [("RewardWithVHead", ""), ("RewardWithMlp", "")]


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("folder", BOTH, indirect=True)
def test_the_repositorys_own_head_equals_its_own_forward(folder, attention):
    rewards_R, finished = scored(folder, trust_remote_code=True, attn_implementation=attention)
    expected = [plain(folder, *conversation)[0] for conversation in zip(TEXTS, finished, strict=True)]
    np.testing.assert_allclose(rewards_R, expected, atol=1e-4)
    assert np.std(expected) > 0.05


@pytest.mark.parametrize("folder", BOTH, indirect=True)
def test_a_class_in_a_file_of_ones_own_needs_no_trust(folder, request):
    name = request.node.callspec.params["folder"][0]
    rewards_R, finished = scored(folder, model_class=f"{folder / 'modeling_reward.py'}:{name}")
    expected = [plain(folder, *conversation)[0] for conversation in zip(TEXTS, finished, strict=True)]
    np.testing.assert_allclose(rewards_R, expected, atol=1e-4)


def test_a_head_class_is_put_on_a_plain_body_with_its_weights(folder):
    head = model_class(f"{folder / 'modeling_reward.py'}:TwoLayers")(LlamaConfig(hidden_size=32))
    head.second.weight.data *= 20
    weights = load_file(folder / "model.safetensors")
    weights |= {f"value.{name}": value for name, value in head.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    options = {"head_class": f"{folder / 'modeling_reward.py'}:TwoLayers", "head": "value"}
    rewards_R, finished = scored(folder, **options, label=[1, 0])
    expected = []
    for conversation in zip(TEXTS, finished, strict=True):
        with torch.inference_mode():
            values = head(plain(folder, *conversation)[1])
        expected.append(float(values[1] - values[0]))
    np.testing.assert_allclose(rewards_R, expected, atol=1e-4)
    with pytest.raises(ConfigError, match="gives 2 numbers; name one by its place"):
        load(section(folder, **options), CONTEXT)
    with pytest.raises(ConfigError, match=r"no weights for other\.\*"):
        needs(section(folder, **(options | {"head": "other"})), LlamaConfig(), CONTEXT)


@pytest.mark.parametrize("folder", [("RewardWithVHead", "* 3 + 1")], indirect=True)
def test_a_head_that_is_not_all_is_refused_and_the_models_own_output_can_be_read(folder):
    with pytest.raises(ConfigError, match="gives other numbers here than by itself"):
        load(section(folder, trust_remote_code=True), CONTEXT)
    rewards_R, finished = scored(folder, trust_remote_code=True, output="logits")
    expected = [plain(folder, *conversation)[0] for conversation in zip(TEXTS, finished, strict=True)]
    np.testing.assert_allclose(rewards_R, expected, atol=1e-4)
    with pytest.raises(ConfigError, match="has no 'score'; it has logits"):
        load(section(folder, trust_remote_code=True, output="score"), CONTEXT)


@pytest.mark.parametrize("given", ["option", "config"])
def test_a_reward_token_is_put_last(folder, given):
    token = trained("unigram").convert_tokens_to_ids("[SEP]")
    saved = json.loads((folder / "config.json").read_text())
    if given == "config":
        (folder / "config.json").write_text(json.dumps(saved | {"reward_token_id": token}))
    options = {"last_token": "[SEP]"} if given == "option" else {}
    rewards_R, finished = scored(folder, trust_remote_code=True, **options)
    expected = [plain(folder, *conversation, last=token)[0] for conversation in zip(TEXTS, finished, strict=True)]
    np.testing.assert_allclose(rewards_R, expected, atol=1e-4)
    text = shown(section(folder, trust_remote_code=True, **options), CONTEXT, ROW)
    assert text.endswith("⟨response⟩<|end|>\n[SEP] (turn closed: finished)")
    with pytest.raises(ConfigError, match="'nothing' is no token of"):
        load(section(folder, trust_remote_code=True, last_token="nothing"), CONTEXT)


def test_what_files_tell_is_told_before_loading(folder):
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(ConfigError, match=r"brings code of its own .modeling_reward\.RewardWithVHead"):
        needs(section(folder), config, CONTEXT)
    with pytest.raises(ConfigError, match="has no 'q_head'; it has model, v_head"):
        needs(section(folder, trust_remote_code=True, head="q_head"), config, CONTEXT)
    with pytest.raises(ConfigError, match="no class 'no_such_module:Head'"):
        needs(section(folder, model_class="no_such_module:Head"), config, CONTEXT)
    assert needs(section(folder, trust_remote_code=True), config, CONTEXT).class_name == "AutoModel"
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "v_head" not in k}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"no weights for v_head\.weight: its head would be random"):
        needs(section(folder, trust_remote_code=True), config, CONTEXT)


def test_an_attention_that_slots_cannot_hold_is_refused(folder):
    code = folder / "modeling_reward.py"
    before = '    """As InternLM2'
    code.write_text(code.read_text().replace(before, f"    _supports_attention_backend = False\n\n{before}"))
    with pytest.raises(ConfigError, match=r"brings an attention of its own.*reward\.attn_implementation: eager"):
        load(section(folder, trust_remote_code=True), CONTEXT)
    rewards_R, _ = scored(folder, trust_remote_code=True, attn_implementation="eager")
    assert np.isfinite(rewards_R).all()
