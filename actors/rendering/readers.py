"""Choice of reader, by the model's backend."""

from actors.engines.backends import Role
from actors.rendering.bytes import ByteReader
from actors.rendering.prompt_reader import PromptReader
from pipeline.config.decoding import PromptAs
from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import RewardModel


def make_reader(role: Role, model: ModelConfig, prompt_as: PromptAs, max_model_len: int | None) -> PromptReader:
    """The reader of one model, as its section says; raises ConfigError when it has no tokenizer."""
    if model.backend == "fake":
        return ByteReader()
    from actors.rendering.chat import ChatReader, ChatStyle  # imports transformers

    style = ChatStyle()
    if isinstance(model, RewardModel):
        style = ChatStyle(model.template, model.drop_system)
    return ChatReader(role, model, prompt_as, max_model_len, style)


def share_vocabulary(policy: ModelConfig, reward: RewardModel) -> bool:
    """Whether every token of the policy is the same token of the reward model, which may have more.

    Raises:
        ConfigError: one has no tokenizer.
    """
    if "fake" in (policy.backend, reward.backend) or (policy.model, policy.revision) == (reward.model, reward.revision):
        return True
    from actors.rendering.chat import load_tokenizer  # imports transformers

    ours = load_tokenizer("policy", policy).get_vocab()
    theirs = load_tokenizer("reward", reward).get_vocab()
    return ours.items() <= theirs.items()
