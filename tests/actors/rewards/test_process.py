"""Process rewards against the plain thing: every mark of the whole text read off the model's own forward."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, LlamaConfig

from actors.rendering.chat import ChatReader
from actors.rewards.interface import RewardContext
from actors.rewards.process import AGGREGATIONS, load, needs, shown
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import ProcessReward
from pipeline.errors import ConfigError
from pipeline.records import PromptRow
from tests.actors.rewards.walks import cohort_of, random_walk
from tests.tiny_tokenizers import FAMILIES, trained

ROW = PromptRow(0, "a", prompt="What is a run?")
CONTEXT = RewardContext(None, EngineConfig(slots=6, max_model_len=400), "user_message")
FRAME = "<s><|user|>\nWhat is a run?<|end|>\n<|assistant|>\n"
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SEP = {"mark": "[SEP]", "step_separator": "."}
SHEPHERD = {"mark": " +-", "joint": "\n", "step_separator": ".", "words": ("+", "-")}
CLASSIFIER, CAUSAL = AutoModelForTokenClassification, AutoModelForCausalLM


def saved(folder, auto_class, family="bpe", **changes):
    torch.manual_seed(6)
    tokenizer = trained(family)
    labels = {"id2label": {0: "bad", 1: "good"}} | changes
    heads = {"num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": len(tokenizer)}
    model = auto_class.from_config(LlamaConfig(**SHAPE, **heads, **labels), dtype=torch.float32)
    top = model.score if hasattr(model, "score") else model.lm_head
    top.weight.data *= 20
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def section(folder, **options):
    return ProcessReward(model=str(folder), dtype="float32", **options)


def steps_of(text, separator="."):
    return [step for step in text.split(separator) if step.strip()] or [""]


def plain(folder, auto_class, ids, places, words=None):
    """Softmax at some places of the model's own forward."""
    model = auto_class.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    logits = logits if words is None else logits[:, list(words)[::-1]]
    return logits.softmax(-1)[places, -1].double().numpy()


def walked(reward, policy, rounds=8):
    """Scores over a walk of responses: (text, reward) of every call, and its cost."""
    for slots, responses in random_walk(policy.tokenizer, num_slots=6, rounds=rounds, seed=7):
        texts = [
            policy.text(tokens).rstrip("\ufffd").replace("<|end|>", "").replace("[SEP]", "") for tokens in responses
        ]
        scores = reward.score(cohort_of(slots, [ROW] * len(slots), texts, [False] * len(slots)))
        assert not scores.faults
        yield from zip(texts, scores.rewards_R.tolist(), strict=True)


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_special_mark_is_read_as_in_the_whole_text(tmp_path, family, attention):
    folder, tokenizer = saved(tmp_path, CLASSIFIER, family), trained(family)
    reward = load(section(folder, **SEP, aggregation="min", attn_implementation=attention), CONTEXT)
    mark, seen = tokenizer.convert_tokens_to_ids("[SEP]"), []
    for text, found in walked(reward, ChatReader("policy", ModelConfig(model=str(folder)), "raw", None)):
        whole = FRAME + "".join(step + "[SEP]" for step in steps_of(text))
        ids = tokenizer(whole, add_special_tokens=False).input_ids
        expected = plain(folder, CLASSIFIER, ids, [i for i, token in enumerate(ids) if token == mark])
        assert found == pytest.approx(expected.min(), abs=1e-4)
        seen.append(found)
    assert np.std(seen) > 0.01


def test_a_mark_of_ordinary_text_is_read_by_two_words(tmp_path):
    folder, tokenizer = saved(tmp_path, CAUSAL), trained("bpe")
    reward = load(section(folder, **SHEPHERD, aggregation="product"), CONTEXT)
    words, seen = [tokenizer.convert_tokens_to_ids(word) for word in "+-"], []
    for text, found in walked(reward, ChatReader("policy", ModelConfig(model=str(folder)), "raw", None)):
        whole, ends = FRAME, []
        for number, step in enumerate(steps_of(text)):
            whole += ("\n" if number else "") + step + " +-"
            ends.append(len(whole) - 1)
        encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        places = [max(i for i, (a, _) in enumerate(encoded.offset_mapping) if a <= end) for end in ends]
        expected = plain(folder, CAUSAL, encoded.input_ids, places, words).prod()
        assert found == pytest.approx(expected, abs=1e-4)
        seen.append(found)
    assert np.std(seen) > 0.01


def test_steps_and_marks_apart_are_tokenised_as_trl_does(tmp_path):
    folder, tokenizer = saved(tmp_path, CLASSIFIER, "bpe"), trained("bpe")
    options = {"mark": "\n\n", "step_separator": "\n\n", "tokenise": "apart", "label": "good", "aggregation": "mean"}
    reward = load(section(folder, **options), CONTEXT)
    text = "First this.\n\nThen that, 漢字.\n\n\nAnd"
    ids, places = tokenizer(FRAME, add_special_tokens=False).input_ids, []
    for step in ("First this.", "Then that, 漢字.", "\nAnd"):
        ids += (
            tokenizer(step, add_special_tokens=False).input_ids + tokenizer("\n\n", add_special_tokens=False).input_ids
        )
        places.append(len(ids) - 1)
    found = reward.score(cohort_of([3], [ROW], [text], [False])).rewards_R[0]
    assert found == pytest.approx(plain(folder, CLASSIFIER, ids, places).mean(), abs=1e-4)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_steps_become_one_number(tmp_path, aggregation):
    folder = saved(tmp_path, CLASSIFIER)
    reward = load(section(folder, **SEP, aggregation=aggregation), CONTEXT)
    tokenizer = trained("bpe")
    ids = tokenizer(f"{FRAME}One[SEP] two[SEP] three[SEP]", add_special_tokens=False).input_ids
    mark = tokenizer.convert_tokens_to_ids("[SEP]")
    steps = plain(folder, CLASSIFIER, ids, [i for i, token in enumerate(ids) if token == mark])
    assert len(steps) == 3
    expected = {"last": steps[2], "min": min(steps), "mean": sum(steps) / 3, "product": steps[0] * steps[1] * steps[2]}
    found = reward.score(cohort_of([0], [ROW], ["One. two. three"], [False])).rewards_R[0]
    assert found == pytest.approx(expected[aggregation], abs=1e-4)


def test_only_what_is_new_is_read_and_a_step_taken_back_costs_nothing(tmp_path):
    reward = load(section(saved(tmp_path, CLASSIFIER), **SEP, aggregation="min"), CONTEXT)

    def scored(text, slot=0):
        scores = reward.score(cohort_of([slot], [ROW], [text], [False]))
        return scores.rewards_R[0], scores.stats.pushed_tokens_R[0]

    first, _ = scored("One thing is here. Two")
    _, pushed = scored("One thing is here. Two things. Then a step that is wrong. And more")
    assert pushed < 30
    again, pushed = scored("One thing is here. Two")
    assert again == first and pushed <= 2, "the first step's score is still there"
    forked, pushed = scored("One thing is here. Two", slot=4)
    assert forked == first and pushed <= 2, "a fork has the scores of what it copied"


def test_a_score_has_the_same_bits_after_any_history(tmp_path):
    folder = saved(tmp_path, CLASSIFIER)
    reward, fresh = (load(section(folder, **SEP, aggregation="mean"), CONTEXT) for _ in range(2))
    for text, found in walked(reward, ChatReader("policy", ModelConfig(model=str(folder)), "raw", None)):
        fresh.engine.body.table.clear()
        assert fresh.score(cohort_of([2], [ROW], [text], [False])).rewards_R[0] == found


def test_a_head_of_one_number_is_a_sigmoid(tmp_path):
    folder = saved(tmp_path, CLASSIFIER, id2label={0: "good"})
    found = load(section(folder, **SEP), CONTEXT).score(cohort_of([0], [ROW], ["One"], [False])).rewards_R[0]
    ids = trained("bpe")(f"{FRAME}One[SEP]", add_special_tokens=False).input_ids
    with torch.inference_mode():
        logits = CLASSIFIER.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0, -1]
    assert found == pytest.approx(float(logits.sigmoid()[0]), abs=1e-4)


def test_what_is_read_can_be_shown(tmp_path):
    text = shown(section(saved(tmp_path, CLASSIFIER), mark="[SEP]"), CONTEXT, ROW)
    assert text.startswith(FRAME + "⟨response⟩, step 1[SEP]⟨response⟩, step 2[SEP] (read after each mark")


def test_what_files_tell_is_told_before_loading(tmp_path):
    classifier, causal = saved(tmp_path / "classifier", CLASSIFIER), saved(tmp_path / "causal", CAUSAL)

    def told(folder, line, **options):
        config = LlamaConfig.from_pretrained(folder)
        with pytest.raises(ConfigError, match=line):
            needs(section(folder, **({"mark": "[SEP]"} | options)), config, CONTEXT)

    told(causal, "is a LlamaForCausalLM, which has no labels; name its good and bad word")
    told(causal, r"reward\.words: 'alignment of words' is \d+ tokens", words=("alignment of words", "-"))
    told(classifier, "no label 'fine'", label="fine")
    told(classifier, "has no 'v_head'; it has model, dropout, score", head="v_head")
    assert needs(section(classifier, mark="[SEP]"), LlamaConfig.from_pretrained(classifier), CONTEXT).keeps_slots
