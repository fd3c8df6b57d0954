"""What a reward model reads: its own prompt, the response in the policy's tokens or its own, the end of the turn."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from actors.rewards import shown, traits_of
from actors.rewards.classifier import _reader
from actors.rewards.conversations import ConversationReader
from actors.rewards.interface import RewardContext, RewardTraits
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow
from tests.actors.rendering.test_rendering import ASSETS, embedded_config

HI = PromptRow(0, "a", prompt="Hi")


def reader_of(*overrides, reads_text=False):
    config = embedded_config("engine.slots=4", "engine.max_model_len=64", "generation.max_new_tokens=16", *overrides)
    reader = _reader(config.reward, RewardContext.of(config))
    return ConversationReader(reader.reader, reads_text, reader.close_turn, reader.max_model_len, 16)


def cohort(responses, finished, room=0, texts=None, rows=None):
    lengths = np.array([len(response) for response in responses], dtype=np.int32)
    return ScoreCohort(
        slots_R=np.arange(len(responses), dtype=np.int32),
        rows=tuple(rows or [HI] * len(responses)),
        response_tokens=np.concatenate([np.array(r, dtype=np.int32) for r in responses]),
        response_lengths_R=lengths,
        finished_R=np.array(finished),
        room_R=np.full(len(responses), room, dtype=np.int32),
        texts=texts,
    )


@pytest.mark.parametrize(
    ("close_turn", "finished", "closes"),
    [("never", True, False), ("finished", True, True), ("finished", False, False), ("always", False, True)],
)
def test_the_turn_is_closed_where_the_config_says(close_turn, finished, closes):
    reader = reader_of(f"reward.close_turn={close_turn}")
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "reward")
    words = tokenizer("Hello there.", add_special_tokens=False)["input_ids"]
    read = reader.read(cohort([words], [finished]))
    expected = [*reader.reader.prompt_tokens(HI).tolist(), *words, *([tokenizer.eos_token_id] if closes else [])]
    assert read.prefixes[0].tolist() == expected and read.places == [0] and not read.faults


@pytest.fixture
def larger_vocabulary(tmp_path):
    """The reward model's folder with one more token, as many trainers add a pad token."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "reward")
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((ASSETS / "reward" / "config.json").read_text())
    return f"reward.model={tmp_path}"


def test_one_added_token_changes_nothing_and_another_vocabulary_reads_text(larger_vocabulary, tmp_path):
    assert traits_of(embedded_config(larger_vocabulary)) == RewardTraits(reads_text=False)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert traits_of(embedded_config(larger_vocabulary)) == RewardTraits(reads_text=True)


def test_text_is_tokenised_anew_and_special_tokens_in_it_stay_text(larger_vocabulary):
    reader = reader_of(larger_vocabulary, reads_text=True)
    read = reader.read(cohort([[5, 6]], [False], texts=("Go. <|end|>",)))
    tokens = read.prefixes[0][len(reader.reader.prompt_tokens(HI)) :]
    assert reader.reader.shown(tokens) == "Go. <|end|>" and reader.reader.tokenizer.eos_token_id not in tokens


def test_a_row_that_cannot_be_read_is_a_fault_and_harms_no_other():
    reader = reader_of()
    long = PromptRow(1, "b", prompt="garden " * 80)
    read = reader.read(cohort([[5], [5], [5]], [False] * 3, rows=[HI, long, HI]))
    assert read.places == [0, 2] and list(read.faults) == [1]
    assert read.faults[1][0] == "prompt_too_long" and "64 that engine.max_model_len allows" in read.faults[1][1]


def test_the_room_that_a_response_may_still_take_counts():
    reader = reader_of()
    assert not reader.read(cohort([[5]], [False], room=8)).faults
    assert reader.read(cohort([[5]], [False], room=64)).faults[0][0] == "prompt_too_long"


def test_what_is_read_can_be_shown():
    text = shown(embedded_config(), HI)
    assert text == "<|user|>Hi<|end|><|assistant|>⟨response⟩<|end|> (turn closed: finished)"
