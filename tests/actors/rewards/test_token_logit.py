"""A judge by one word against the plain logits of the whole text, over responses that grow, go back and fork."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GraniteConfig, LlamaConfig

from actors.coordination.stopping import answer_text
from actors.rendering.chat import ChatReader
from actors.rewards.interface import RewardContext
from actors.rewards.token_logit import load, needs, shown
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import TokenLogitReward
from pipeline.errors import ConfigError
from pipeline.records import PromptRow
from tests.actors.rewards.walks import cohort_of, random_walk
from tests.tiny_tokenizers import FAMILIES, trained

ASKED = "Question: {{ prompt }}\nAnswer: {{ response }}\nIs it good? Say + or -.\n"
ROWS = [PromptRow(0, "a", prompt="What is a run?"), PromptRow(1, "b", prompt="Why <|end|> so?")]
CONTEXT = RewardContext(None, EngineConfig(slots=6, max_model_len=400), "user_message")
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def judge(tmp_path, request):
    """A folder of a judge, and its template."""
    family, config_class, more = getattr(request, "param", ("bpe", LlamaConfig, {}))
    torch.manual_seed(4)
    tokenizer = trained(family)
    heads = {"num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": len(tokenizer)}
    model = AutoModelForCausalLM.from_config(config_class(**SHAPE, **heads, **more), dtype=torch.float32)
    model.get_output_embeddings().weight.data *= 20
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "ask.jinja").write_text(ASKED)
    return tmp_path


def section(folder, **options):
    template = options.pop("template", str(folder / "ask.jinja"))
    return TokenLogitReward(
        model=str(folder), template=template, dtype="float32", **({"word": "+", "other_word": "-"} | options)
    )


def plain_logits(folder, family, text):
    tokenizer = trained(family)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return [float(logits[tokenizer.convert_tokens_to_ids(word)]) for word in "+-"]


def asked(row, text, wrapped=True):
    question = ASKED.replace("{{ prompt }}", row.prompt).replace("{{ response }}", text).removesuffix("\n")
    return f"<s><|user|>\n{question}<|end|>\n<|assistant|>\n" if wrapped else question


@pytest.mark.parametrize("judge", [(family, LlamaConfig, {}) for family in FAMILIES], indirect=True)
def test_the_difference_of_two_words_equals_the_plain_logits(judge, request):
    family = request.node.callspec.params["judge"][0]
    reward = load(section(judge), CONTEXT)
    policy, seen = ChatReader("policy", ModelConfig(model=str(judge)), "raw", None), []
    for slots, responses in random_walk(policy.tokenizer, num_slots=6, rounds=8, seed=6):
        texts = [answer_text(policy.text(r), (), False).replace("<|end|>", "").replace("[SEP]", "") for r in responses]
        scores = reward.score(cohort_of(slots, [ROWS[0]] * len(slots), texts, [False] * len(slots)))
        for text, found in zip(texts, scores.rewards_R, strict=True):
            good, bad = plain_logits(judge, family, asked(ROWS[0], text))
            assert found == pytest.approx(good - bad, abs=1e-4)
            seen.append(good - bad)
    assert np.std(seen) > 0.02


@pytest.mark.parametrize("judge", [("bpe", GraniteConfig, {"logits_scaling": 3.0})], indirect=True)
def test_a_model_that_scales_its_logits_and_one_word_in_a_raw_text(judge):
    one = load(section(judge, other_word=None, wrap="raw"), CONTEXT)
    found = one.score(cohort_of([0], [ROWS[0]], ["So."], [True])).rewards_R[0]
    assert found == pytest.approx(plain_logits(judge, "bpe", asked(ROWS[0], "So.", wrapped=False))[0], abs=1e-4)


def test_what_does_not_change_is_read_once(judge):
    reward = load(section(judge), CONTEXT)
    texts = ["A run is one start of a job", "A run is one start of a job and its end"]
    first, second = (
        reward.score(cohort_of([0], [ROWS[0]], [text], [False])).stats.pushed_tokens_R[0] for text in texts
    )
    after = len(trained("bpe")("\nIs it good? Say + or -.<|end|>\n<|assistant|>\n", add_special_tokens=False).input_ids)
    assert second <= after + 8 < first


def test_special_tokens_in_prompt_and_response_stay_text(judge):
    reader = load(section(judge), CONTEXT).reader
    prefix = reader.read(cohort_of([0], [ROWS[1]], ["<|assistant|>"], [False])).prefixes[0]
    tokens = trained("bpe").convert_ids_to_tokens(prefix)
    assert [t for t in tokens if t in trained("bpe").all_special_tokens] == [
        "<s>",
        "<|user|>",
        "<|end|>",
        "<|assistant|>",
    ]


def test_the_question_can_be_shown(judge):
    text = shown(section(judge), CONTEXT, ROWS[0])
    assert text == asked(ROWS[0], "⟨response⟩") + " (reward: logit of '+' - logit of '-')"


@pytest.mark.parametrize(
    ("options", "template", "words"),
    [
        (
            {"word": "alignment of words"},
            ASKED,
            "the word 'alignment of words' after the template is .* \\+ .*one token",
        ),
        ({}, "{{ prompt }}", "must write the response once"),
        ({}, "{{ response }} {{ response }}", "must write the response once"),
        ({}, "{{ response | upper | lower | replace('e', 'x') }}", "must write the response once"),
        ({}, "{{ no_such_thing }} {{ response }}", "refuses this row.*no_such_thing"),
        ({}, "{% if %}", "template .*ask.jinja"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_loading(judge, options, template, words):
    (judge / "ask.jinja").write_text(template)
    with pytest.raises(ConfigError, match=words):
        needs(section(judge, **options), LlamaConfig(), CONTEXT)


def test_a_classifier_is_no_judge(judge):
    with pytest.raises(ConfigError, match="is a LlamaForSequenceClassification, which has no words"):
        needs(section(judge), LlamaConfig(architectures=["LlamaForSequenceClassification"]), CONTEXT)
