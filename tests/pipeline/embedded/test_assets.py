"""The shipped embedded models and prompts load, agree with each other, and stay small."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import pipeline.embedded
from pipeline.embedded.prompts import NUM_PROMPTS, PROMPT_SCHEMA, prompt_rows

ASSETS = Path(pipeline.embedded.__file__).parent / "assets"
MAX_BYTES = 9_000_000
MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "How do I cook the rye bread?"}]


def test_assets_are_small():
    assert 6_000_000 < sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) <= MAX_BYTES


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_prompt_files_are_those_of_the_default_seed(split: str):
    table = pq.read_table(ASSETS / "prompts" / f"{split}.parquet")
    assert table.schema.equals(PROMPT_SCHEMA)
    assert table.num_rows == NUM_PROMPTS[split]
    assert table.slice(0, 200).to_pylist() == prompt_rows(split, 200, seed=0)


def test_both_models_share_one_tokenizer_and_its_special_tokens():
    policy, reward = (AutoTokenizer.from_pretrained(ASSETS / name) for name in ("policy", "reward"))
    assert policy.get_vocab() == reward.get_vocab()
    assert len(policy) == 1536
    assert (policy.eos_token, policy.pad_token, policy.bos_token) == ("<|end|>", "<|pad|>", None)
    rendered = policy.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|system|>Be kind.<|end|><|user|>How do I cook the rye bread?<|end|><|assistant|>"
    assert rendered == reward.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    closed = policy.apply_chat_template([*MESSAGES, {"role": "assistant", "content": "No."}], tokenize=False)
    assert closed == f"{rendered}No.<|end|>"
    tokens = policy.encode(rendered)
    assert tokens[-1] == policy.convert_tokens_to_ids("<|assistant|>")
    assert tokens.count(policy.eos_token_id) == 2
    for text in ("Ça va ?\n 漢字 🙂  two spaces", "it 's . , nothing cleaned up"):
        assert policy.decode(policy.encode(text)) == text


def test_policy_answers_and_ends():
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "policy")
    policy = AutoModelForCausalLM.from_pretrained(ASSETS / "policy").eval()
    assert policy.generation_config.eos_token_id == policy.config.eos_token_id == tokenizer.eos_token_id
    assert policy.config.pad_token_id == tokenizer.pad_token_id
    prompt = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    tokens = policy.generate(**prompt, max_new_tokens=128, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokens[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(tokens, skip_special_tokens=True).endswith(".")


def test_reward_model_ranks_kind_above_rude_answers_and_prefixes():
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "reward")
    reward = AutoModelForSequenceClassification.from_pretrained(ASSETS / "reward").eval()
    prompt = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    kind, rude = "I am glad to help you cook the rye bread.", "Only a fool would ask such a thing."
    scores = []
    for text in (f"{kind}<|end|>", kind, f"{rude}<|end|>", rude):
        tokens = torch.tensor([tokenizer.encode(prompt + text)])
        scores.append(reward(tokens).logits.item())
    assert scores[0] > scores[2] + 1
    assert scores[1] > scores[3] + 1
