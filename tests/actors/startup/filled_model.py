"""A process of its own that fills every slot of a model and prints what it held and what the arithmetic said.

python -m tests.actors.startup.filled_model ROLE FOLDER SLOTS MAX_MODEL_LEN
"""

import sys

import numpy as np
import ray  # noqa: F401  part of every model actor's process
from transformers import AutoConfig

from actors.engines.backends import load_engine
from actors.models.policy import PolicyActor
from actors.models.process_memory import peak_bytes
from actors.rewards.interface import ModelNeeds
from actors.startup.model_sizes import model_memory
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import ClassifierReward
from pipeline.protocol import ProposeCohort

SEGMENT_TOKENS = 2


class RewardEngineActor:
    """What a reward actor holds of a classifier, without its tokenizer."""

    def __init__(self, config, engine):
        self.score = load_engine("reward", config, engine).score

    def peak_memory_bytes(self):
        return peak_bytes()


def fill(role, folder, slots, max_model_len):
    engine = EngineConfig(slots=slots, max_model_len=max_model_len)
    section = ModelConfig if role == "policy" else ClassifierReward
    config = section(model=folder, dtype="float32")
    actor = PolicyActor(config, engine) if role == "policy" else RewardEngineActor(config, engine)
    length = max_model_len - SEGMENT_TOKENS * (role == "policy")
    tokens_RL = np.random.default_rng(0).integers(2, 1000, (slots, length)).astype(np.int32)
    rows, lengths_R = np.arange(slots, dtype=np.int32), np.full(slots, length, dtype=np.int32)
    if role == "reward":
        actor.score(rows, list(tokens_RL))
    else:
        ones_R = np.ones(slots, dtype=np.float32)
        keys = rows.astype(np.int64), np.zeros((slots, 3), dtype=np.int64)
        whole = np.full(slots, SEGMENT_TOKENS, dtype=np.int32)
        actor.propose(
            ProposeCohort(rows, tokens_RL.ravel(), lengths_R, whole, *keys, ones_R, ones_R, np.zeros_like(rows))
        )
    assert peak_bytes() == actor.peak_memory_bytes()
    name = "AutoModelForCausalLM" if role == "policy" else "AutoModelForSequenceClassification"
    needs = ModelNeeds(name)
    return actor.peak_memory_bytes(), model_memory(role, config, AutoConfig.from_pretrained(folder), "cpu", needs)


if __name__ == "__main__":
    role, folder, *shape = sys.argv[1:]
    slots, max_model_len = map(int, shape)
    held_bytes, memory = fill(role, folder, slots, max_model_len)
    print(held_bytes, memory.need(slots, max_model_len).peak_bytes)
