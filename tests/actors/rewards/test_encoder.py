"""Encoders against the plain pipeline: tokenizer(question, answer), the model, the label."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
)

from actors.rewards.encoder import load, shown
from actors.rewards.interface import RewardContext
from pipeline.config.decoding import EngineConfig
from pipeline.config.model_rewards import EncoderReward
from pipeline.errors import ConfigError
from pipeline.records import PromptRow
from tests.actors.rewards.walks import TEXTS, cohort_of
from tests.tiny_tokenizers import pair_tokenizer

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
LIMITS = {"max_position_embeddings": 66}
DEBERTA = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
ENCODERS = {
    "bert": (lambda **size: BertConfig(**SHAPE, **LIMITS, **size), "wordpiece"),
    "distilbert": (
        lambda **size: DistilBertConfig(dim=32, hidden_dim=48, n_layers=2, n_heads=4, **LIMITS, **size),
        "wordpiece",
    ),
    "roberta": (lambda **size: RobertaConfig(**SHAPE, **LIMITS, **size), "bpe"),
    "modernbert": (lambda **size: ModernBertConfig(**SHAPE, **LIMITS, local_attention=16, **size), "bpe"),
    "deberta": (lambda **size: DebertaV2Config(**SHAPE, **LIMITS, **DEBERTA, **size), "unigram"),
    "electra": (lambda **size: ElectraConfig(**SHAPE, **LIMITS, embedding_size=16, **size), "wordpiece"),
}
LABELS = {"id2label": {0: "NEGATIVE", 1: "POSITIVE", 2: "NEUTRAL"}}
CHAT = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"})
ROWS = [
    PromptRow(0, "a", prompt="What is a run?"),
    PromptRow(1, "b", messages=CHAT),
    PromptRow(2, "c", prompt="é 漢 " * 40),
]


def saved(folder, name, **changes):
    torch.manual_seed(2)
    make, family = ENCODERS[name]
    tokenizer = pair_tokenizer(family)
    config = make(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **changes)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data *= 8 if parameter.dim() > 1 else 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def loaded(folder, **options):
    section = EncoderReward(model=folder, dtype="float32", **options)
    return load(section, RewardContext(None, EngineConfig(slots=8, max_model_len=64), "user_message"))


def plain_logits(folder, *texts, **options):
    """What anyone would write."""
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = tokenizer(*([text] for text in texts), truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs).logits[0].tolist(), inputs["input_ids"][0].tolist()


def conversations():
    """Questions short and long, answers that grow until they do not fit."""
    answers = [text[:count] for text in TEXTS for count in (0, 9, 60, 400)]
    for place, answer in enumerate(answers):
        yield ROWS[place % 3], answer.replace("<|end|>", "").replace("[SEP]", "")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ENCODERS)
def test_scores_equal_the_plain_pipeline(tmp_path, name, side):
    folder = saved(tmp_path, name, **LABELS)
    reward = loaded(folder, label="POSITIVE", truncation=side, max_tokens=64)
    rows, answers = zip(*conversations(), strict=True)
    scores = reward.score(cohort_of(range(len(rows)), rows, answers, [True] * len(rows)))
    question = {0: "What is a run?", 1: "system: Be kind.\nuser: Why?", 2: "é 漢 " * 40}
    expected, lengths = [], []
    for row, answer in zip(rows, answers, strict=True):
        logits, ids = plain_logits(folder, question[row.row_index], answer, truncation_side=side)
        expected.append(logits[1])
        lengths.append(len(ids))
    np.testing.assert_allclose(scores.rewards_R, expected, atol=1e-4, rtol=0)
    assert scores.stats.pushed_tokens_R.tolist() == lengths and max(lengths) == 64 and min(lengths) < 20
    assert np.std(expected) > 0.01 and not scores.faults


@pytest.mark.parametrize("name", ENCODERS)
def test_a_score_has_the_same_bits_whatever_rows_stand_beside_it(tmp_path, name):
    reward = loaded(saved(tmp_path, name, **LABELS), label=["POSITIVE", "NEGATIVE"])
    rows, answers = zip(*conversations(), strict=True)
    whole = reward.score(cohort_of(range(len(rows)), rows, answers, [True] * len(rows))).rewards_R
    for places in ([4], [0, 1], [7, 2, 9], list(range(11, -1, -1))):
        part = cohort_of(places, [rows[i] for i in places], [answers[i] for i in places], [False] * len(places))
        assert reward.score(part).rewards_R.tolist() == whole[places].tolist()


def test_the_end_of_a_long_answer_counts(tmp_path):
    folder = saved(tmp_path, "bert", **LABELS)
    long = "one two three four five six seven eight nine ten " * 20
    cohort = cohort_of([0, 1], [ROWS[0]] * 2, [long, long + "and now another end"], [False] * 2)
    assert len(set(loaded(folder, label=0).score(cohort).rewards_R.tolist())) == 2
    assert len(set(loaded(folder, label=0, truncation="right").score(cohort).rewards_R.tolist())) == 1
    refused = loaded(folder, label=0, truncation="refuse").score(cohort)
    assert set(refused.faults) == {0, 1} and refused.faults[0][0] == "prompt_too_long"
    assert np.isnan(refused.rewards_R).all()


@pytest.mark.parametrize(("name", "label"), [("distilbert", ["POSITIVE", "NEGATIVE"]), ("deberta", [1, 0])])
def test_two_labels_are_their_log_odds(tmp_path, name, label):
    folder = saved(tmp_path, name, **LABELS)
    logits, _ = plain_logits(folder, ROWS[0].prompt, "Fine.")
    scores = loaded(folder, label=label).score(cohort_of([0], [ROWS[0]], ["Fine."], [True]))
    assert scores.rewards_R[0] == pytest.approx(logits[1] - logits[0], abs=1e-4)


def test_a_template_makes_one_text(tmp_path):
    folder, template = saved(tmp_path / "model", "distilbert", **LABELS), tmp_path / "text.jinja"
    template.write_text("{{ messages[-1].content }} -> {{ answer }}")
    scores = loaded(folder, label=1, template=str(template)).score(cohort_of([0], [ROWS[1]], ["Fine."], [True]))
    assert scores.rewards_R[0] == pytest.approx(plain_logits(folder, "Why? -> Fine.")[0][1], abs=1e-4)
    template.write_text("{{ nothing }}")
    scores = loaded(folder, label=1, template=str(template)).score(cohort_of([0], [ROWS[1]], ["Fine."], [True]))
    assert scores.faults[0][0] == "template_error" and "nothing" in scores.faults[0][1]


@pytest.mark.parametrize("name", ["bert", "roberta", "deberta"])
def test_special_tokens_that_people_write_stay_text(tmp_path, name):
    reader = loaded(saved(tmp_path, name, **LABELS), label=0).reader
    evil, plain = "a [SEP] b <s> c [CLS]", "a b c"
    pairs, _ = reader.read(cohort_of([0, 1], [PromptRow(0, "a", prompt=evil), ROWS[0]], [evil, plain], [True] * 2))
    counts = [sum(token in reader._specials for token in pairs[place].ids) for place in (0, 1)]
    assert counts[0] == counts[1] >= 3 and len(pairs[0].ids) > len(pairs[1].ids)


def test_what_an_encoder_reads_can_be_shown(tmp_path):
    section = EncoderReward(model=saved(tmp_path, "bert", **LABELS), label=0)
    text = shown(section, RewardContext(None, EngineConfig(), "user_message"), ROWS[0])
    assert text == "[CLS] what is a run? [SEP] ⟨response⟩ [SEP] (at most 66 tokens, truncation: left)"


def test_a_decoder_is_told_its_kind(tmp_path):
    tokenizer = pair_tokenizer("bpe")
    heads = {"num_key_value_heads": 2, "pad_token_id": 0, "num_labels": 1, "vocab_size": len(tokenizer)}
    AutoModelForSequenceClassification.from_config(LlamaConfig(**SHAPE, **heads)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"is a decoder.*reward\.kind: classifier"):
        loaded(str(tmp_path))
