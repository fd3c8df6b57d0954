"""What a reward's model files tell before anything is loaded, in one line; and what its memory is made of."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, LlamaConfig

from actors.rewards.interface import ModelNeeds
from actors.startup.memory import JoinedMemory
from actors.startup.ready_models import check_models
from pipeline.errors import ConfigError
from tests.actors.rendering.test_rendering import embedded_config
from tests.actors.rewards.test_any_tokenizer import save_classifier
from tests.actors.rewards.test_encoder import LABELS, saved
from tests.actors.startup.test_engine_memory import memory
from tests.tiny_models import SHAPE
from tests.tiny_tokenizers import trained


def checked(*overrides):
    return check_models(embedded_config("generation.max_new_tokens=32", "reward.dtype=float32", *overrides))


def refused(folder, words, *overrides):
    with pytest.raises(ConfigError, match=words) as caught:
        checked(*overrides, f"reward.model={folder}")
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.fixture
def classifier(tmp_path):
    save_classifier(tmp_path, trained("bpe"))
    return tmp_path


def test_a_classifier_with_another_tokenizer_passes(classifier):
    facts = checked(f"reward.model={classifier}").model_configs
    assert [model.role for model in facts] == ["policy", "reward"] and facts[1].needs.keeps_slots


@pytest.mark.parametrize(
    ("auto_class", "words"),
    [
        (AutoModelForCausalLM, "is a LlamaForCausalLM, a language model without a reward's head; kind token_logit"),
        (
            AutoModelForTokenClassification,
            "is a LlamaForTokenClassification, a classifier of tokens; that is kind process",
        ),
    ],
)
def test_a_model_of_another_class_is_told_so(tmp_path, auto_class, words):
    auto_class.from_config(LlamaConfig(**SHAPE)).save_pretrained(tmp_path)
    trained("bpe").save_pretrained(tmp_path)
    refused(tmp_path, words)


def test_a_head_that_is_not_in_the_checkpoint_is_told(classifier):
    weights = load_file(classifier / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "score" not in k}, classifier / "model.safetensors", {"format": "pt"}
    )
    refused(classifier, r"no weights for score\.weight: its head would be random")


def test_a_missing_label_and_a_missing_template_are_told(tmp_path):
    save_classifier(tmp_path, trained("bpe"), id2label={0: "bad", 1: "good"})
    refused(tmp_path, "has 2 labels .0 bad, 1 good.; name one with reward.label")
    refused(tmp_path, "no label 'great'; it has 0 bad, 1 good", "reward.label=great")
    (tmp_path / "chat_template.jinja").unlink()
    refused(tmp_path, "no chat template; give one of your own", "reward.label=good")
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0].content }}")
    checked(f"reward.model={tmp_path}", "reward.label=good", f"reward.template={template}")
    template.write_text("{% for %}")
    refused(tmp_path, "cannot render an answer", "reward.label=good", f"reward.template={template}")


def test_an_encoder_is_no_classifier_nor_a_classifier_an_encoder(tmp_path, classifier):
    folder = saved(tmp_path / "bert", "bert", **LABELS)
    refused(folder, r"has no `score` head; an encoder is reward\.kind: encoder", "reward.label=0")
    refused(classifier, r"is a decoder.*reward\.kind: classifier", "reward.kind=encoder")
    refused(folder, "has 3 labels", "reward.kind=encoder")
    facts = checked("reward.kind=encoder", f"reward.model={folder}", "reward.label=POSITIVE").model_configs
    assert not facts[1].needs.keeps_slots, "and its 66 positions bound no prompt"


def test_an_encoder_keeps_no_slots_and_joined_models_share_a_process():
    slots = memory("reward", num_labels=1)
    need = slots.need(8, 64)
    from dataclasses import replace

    without = replace(slots, keeps_slots=False).need(8, 64)
    assert without.slot_bytes == 0 and without.weights_bytes == need.weights_bytes
    assert 0 < without.forward_bytes < need.forward_bytes
    joined = JoinedMemory((slots, slots)).need(8, 64)
    assert joined.total_bytes == 2 * need.total_bytes - need.process_bytes - need.forward_bytes
    assert ModelNeeds("AutoModel").bounds_length and torch.float32.itemsize == 4
