"""The whole job in bfloat16, the dtype that models have unless a config says otherwise."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipeline.config.model import ModelConfig
from tests.actors.batch.test_run import read
from tests.embedded import run_embedded

REWARD = "pipeline/embedded/assets/reward"
TOLERANCE = 2**-4  # four steps of bfloat16's 8 bits between 2 and 4, where the largest rewards lie


@torch.inference_mode()
def plain_reward(model, tokenizer, row):
    """The reward of a row's conversation by one forward without a cache, and the length of its response in tokens."""
    question = row["messages"] or [{"role": "user", "content": row["prompt"]}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    end = "<|end|>" if row["finish_reason"] == "stop" else ""
    tokens = tokenizer(prompt + row["response"] + end, add_special_tokens=False, return_tensors="pt").input_ids
    num_response = tokens.shape[1] - len(tokenizer(prompt, add_special_tokens=False).input_ids)
    return float(model.score(model.model(tokens).last_hidden_state[0, -1])), num_response


@pytest.mark.ray
def test_a_run_in_bfloat16_has_the_rewards_of_plain_forwards(ray_cluster, tmp_path, embedded_output):
    assert ModelConfig(backend="fake").dtype == "bfloat16"
    run_embedded(tmp_path / "out", "policy.dtype=bfloat16", "reward.dtype=bfloat16")
    rows = read(tmp_path / "out").to_pylist()
    assert [row["error_type"] for row in rows] == 24 * [None]
    model = AutoModelForSequenceClassification.from_pretrained(REWARD, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(REWARD)
    num_compared = 0
    for row in rows:
        assert float(torch.tensor(row["reward"]).bfloat16()) == row["reward"], "computed in another dtype"
        expected, num_tokens = plain_reward(model, tokenizer, row)
        if num_tokens == row["num_response_tokens"]:  # else the policy drew other tokens for its text
            num_compared += 1
            assert abs(row["reward"] - expected) < TOLERANCE, (row["id"], row["reward"], expected)
    assert num_compared >= 12
    in_fp32 = read(embedded_output).to_pylist()
    assert sum(a["response"] == b["response"] for a, b in zip(rows, in_fp32, strict=True)) >= 12
