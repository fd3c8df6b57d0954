"""A classifier with a tokenizer of its own against a plain transformers call on the whole text, and what that costs."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from actors.coordination.stopping import answer_text
from actors.rendering.chat import ChatReader
from actors.rewards.classifier import load
from actors.rewards.interface import RewardContext
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import ClassifierReward
from pipeline.errors import ConfigError
from pipeline.records import PromptRow
from tests.actors.rewards.walks import cohort_of, random_walk
from tests.tiny_tokenizers import FAMILIES, english, trained

MAX_LEN = 448
CONVERSATION = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "How do I start <|end|> a run?"})
ROWS = [
    PromptRow(0, "a", prompt="What is a run?  "),
    PromptRow(1, "b", messages=CONVERSATION),
    PromptRow(2, "c", "Hi 漢"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A reward model of each family, by name; the pad token is the end token, which no classifier should mind."""

    def made(family):
        folder = tmp_path_factory.mktemp(family)
        save_classifier(folder, trained(family))
        return str(folder)

    return {family: made(family) for family in FAMILIES}


def save_classifier(folder, tokenizer, **changes):
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        **(changes or {"num_labels": 1}),
    )
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    model.score.weight.data *= 20
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def loaded(model, slots=6, prompt_as="user_message", **options):
    section = ClassifierReward(model=model, dtype="float32", **options)
    return load(section, RewardContext(None, EngineConfig(slots=slots, max_model_len=MAX_LEN), prompt_as))


class Plain:
    """The model and the tokenizer as anyone would use them."""

    def __init__(self, folder, tokenizer):
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = tokenizer

    def ids(self, row, text, closes):
        """The whole text in one call, without the BOS that the template has written already. Special tokens written by
        people are spelt so that they mean nothing: their tokens are those of the text without its angle brackets."""
        messages = list(row.messages) if row.messages else [{"role": "user", "content": row.prompt}]
        if closes:
            answer = {"role": "assistant", "content": text}
            whole = self.tokenizer.apply_chat_template([*messages, answer], tokenize=False)
        else:
            whole = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + text
        ids = self.tokenizer(whole)["input_ids"]
        assert ids[:2] == [self.tokenizer.bos_token_id] * 2, "the template writes one, the tokenizer another"
        return ids[1:]

    @torch.inference_mode()
    def logits(self, ids):
        hidden = self.model.base_model(torch.tensor([ids])).last_hidden_state[0, -1]
        return self.model.score(hidden)


@pytest.mark.parametrize("policy_family", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_the_plain_call_on_the_whole_text(folders, family, policy_family):
    reward, plain = loaded(folders[family], close_turn="finished"), Plain(folders[family], trained(family))
    policy = ChatReader("policy", ModelConfig(model=folders[policy_family]), "user_message", None)
    rng, seen = np.random.default_rng(1), []
    for slots, responses in random_walk(policy.tokenizer, num_slots=6, rounds=14, seed=5):
        finished = [bool(rng.integers(4) == 0) for _ in slots]
        texts = [
            answer_text(policy.text(tokens), (), done).replace("<|end|>", "< end >").replace("[SEP]", "")
            for tokens, done in zip(responses, finished, strict=True)
        ]
        rows = [ROWS[0 if slot % 2 else 2] for slot in slots]
        scores = reward.score(cohort_of(slots, rows, texts, finished))
        whole = [plain.ids(*conversation) for conversation in zip(rows, texts, finished, strict=True)]
        expected = [float(plain.logits(ids)[0]) for ids in whole]
        np.testing.assert_allclose(scores.rewards_R, expected, atol=1e-4, rtol=0)
        assert not scores.faults
        seen += expected
    assert np.std(seen) > 0.05


def test_half_a_character_is_held_back():
    policy = trained("bpe")
    tokens = np.array(policy("OK 👍🏽", add_special_tokens=False)["input_ids"])
    reader = ChatReader.__new__(ChatReader)
    reader.tokenizer = policy
    texts = [answer_text(reader.text(tokens[:count]), (), False) for count in range(1, len(tokens) + 1)]
    assert texts[-1] == "OK 👍🏽" and not any("\ufffd" in text for text in texts)
    assert len(set(texts)) < len(texts), "some tokens end inside a character"


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_in_prompt_and_response_stay_text(folders, family):
    reader = loaded(folders[family]).reader
    read = reader.read(cohort_of([0], [ROWS[1]], ["Then <|end|> <|system|> [SEP]"], [True]))
    tokenizer = trained(family)
    specials = [t for t in read.prefixes[0].tolist() if t in tokenizer.all_special_ids and t != tokenizer.unk_token_id]
    wanted = ["<s>", "<|system|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    assert tokenizer.convert_ids_to_tokens(specials) == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_a_raw_prompt_begins_with_what_the_tokenizer_puts_before_a_text(folders, family):
    reward, tokenizer = loaded(folders[family], prompt_as="raw", close_turn="never"), trained(family)
    read = reward.reader.read(cohort_of([0], [PromptRow(0, "a", prompt="Once upon a ti")], ["me."], [False]))
    assert read.prefixes[0].tolist() == tokenizer("Once upon a time.")["input_ids"]


@pytest.mark.parametrize(("family", "policy_family"), [("unigram", "bpe"), ("bpe", "unigram"), ("wordpiece", "bpe")])
def test_on_english_at_most_a_tenth_more_tokens_are_pushed_than_there_are(folders, family, policy_family):
    """Segments of 16 tokens, each accepted at the second attempt. Ideal: the prompt once, and each proposal once."""
    reward, plain = loaded(folders[family], close_turn="never"), Plain(folders[family], trained(family))
    policy = ChatReader("policy", ModelConfig(model=folders[policy_family]), "raw", None)
    prose = " ".join(line for line in english().splitlines() if line.isascii() and line[:1].isalpha())
    pushed = ideal = 0
    for slot in range(6):
        row = PromptRow(slot, str(slot), prompt=f"Tell me of it, number {slot}.")
        kept, other = (
            policy.tokenizer(prose[at:][:600], add_special_tokens=False).input_ids for at in (600 * slot, 9000)
        )
        ideal += len(plain.ids(row, "", False))
        for start in range(0, 96, 16):
            so_far = len(plain.ids(row, policy.text(np.array(kept[:start])), False))
            for proposed in (other, kept):
                text = policy.text(np.array(kept[:start] + proposed[start : start + 16]))
                scores = reward.score(cohort_of([slot], [row], [text], [False]))
                pushed += int(scores.stats.pushed_tokens_R[0])
                ideal += len(plain.ids(row, text, False)) - so_far
    print(f"{policy_family} to {family}: {pushed} tokens pushed, {ideal} are ideal, {pushed / ideal:.3f}")
    assert pushed / ideal <= 1.1 and ideal > 1000


@pytest.mark.parametrize("attention", [None, "eager", "sdpa"])
def test_labels_can_be_named_numbered_subtracted_and_weighted(tmp_path, attention):
    save_classifier(tmp_path, trained("bpe"), id2label={0: "bad", 1: "good", 2: "helpful"})
    plain, text = Plain(tmp_path, trained("bpe")), "A run is one start."
    logits = plain.logits(plain.ids(ROWS[0], text, True)).tolist()
    wanted = {
        "good": logits[1],
        2: logits[2],
        ("good", "bad"): logits[1] - logits[0],
    }
    for label, expected in wanted.items():
        reward = loaded(str(tmp_path), label=label, attn_implementation=attention)
        assert reward.score(cohort_of([0], [ROWS[0]], [text], [True])).rewards_R[0] == pytest.approx(expected, abs=1e-4)
    reward = loaded(str(tmp_path), label_weights={"good": 0.5, "helpful": 2.0}, attn_implementation=attention)
    found = reward.score(cohort_of([0], [ROWS[0]], [text], [True])).rewards_R[0]
    assert found == pytest.approx(0.5 * logits[1] + 2.0 * logits[2], abs=1e-4)
    assert abs(logits[0] - logits[1]) > 0.01 and abs(logits[1] - logits[2]) > 0.01


@pytest.mark.parametrize(
    ("options", "words"), [({}, "has 3 labels .0 bad, 1 good"), ({"label": "great"}, "no label 'great'")]
)
def test_a_label_that_does_not_exist_or_is_not_named_is_refused(tmp_path, options, words):
    save_classifier(tmp_path, trained("bpe"), id2label={0: "bad", 1: "good", 2: "helpful"})
    with pytest.raises(ConfigError, match=words):
        loaded(str(tmp_path), **options)


def test_an_own_template_and_no_system_messages(folders, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ")
    reader = loaded(folders["bpe"], template=str(template), drop_system=True, close_turn="never").reader
    assert reader.shown(ROWS[1]) == "user: How do I start <|end|> a run?\nassistant: ⟨response⟩ (turn closed: never)"
    read = reader.read(cohort_of([0], [ROWS[1]], ["So."], [True]))
    text = "user: How do I start <|end|> a run?\nassistant: So."
    assert (
        read.prefixes[0].tolist() == trained("bpe")(text, add_special_tokens=False, split_special_tokens=True).input_ids
    )


def test_a_models_own_attention_reads_the_whole_text_and_scores_the_same(folders):
    ours, theirs = loaded(folders["bpe"]), loaded(folders["bpe"], attn_implementation="eager")
    texts = ["A run", "A run is one start of a job.", "No"]
    cohort = cohort_of([0, 1, 2], [ROWS[0]] * 3, texts, [False, True, False])
    for _ in range(2):
        first, second = ours.score(cohort), theirs.score(cohort)
        np.testing.assert_allclose(first.rewards_R, second.rewards_R, atol=1e-4)
    lengths = [len(prefix) for prefix in theirs.reader.read(cohort).prefixes]
    assert second.stats.pushed_tokens_R.tolist() == lengths and first.stats.pushed_tokens_R.tolist() == [1, 1, 1]
