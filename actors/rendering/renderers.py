"""Choice of reader and renderer, by the models' backend."""

from actors.engines.backends import Role
from actors.rendering.bytes import ByteReader
from actors.rendering.renderer import PromptReader, RenderedPrompt, Renderer
from pipeline.config.decoding import Decoding, ModelConfig, PromptAs
from pipeline.records import PromptRow, TokenArray


def make_reader(role: Role, model: ModelConfig, prompt_as: PromptAs, max_model_len: int | None) -> PromptReader:
    """The reader of one model; raises ConfigError when it has no tokenizer."""
    if model.backend == "fake":
        return ByteReader()
    from actors.rendering.chat import ChatReader  # imports transformers

    return ChatReader(role, model.model, prompt_as, max_model_len)


def make_renderer(config: Decoding) -> Renderer:
    """The renderer of a config's two models.

    Raises:
        ConfigError: the tokenizers differ, or there is none.
    """
    asked = (config.prompt_as, config.engine.max_model_len)
    policy, reward = make_reader("policy", config.policy, *asked), make_reader("reward", config.reward, *asked)
    if not config.are_fake:
        from actors.rendering.chat import check_same_vocabulary

        check_same_vocabulary(config.policy.model, config.reward.model, policy, reward)
    return TwoReaders(policy, reward)


class TwoReaders:
    """Renders a prompt for both models; a response's tokens are the same for both."""

    def __init__(self, policy: PromptReader, reward: PromptReader) -> None:
        self.policy = policy
        self.reward = reward
        self.closing_tokens = reward.closing_tokens

    def render(self, row: PromptRow) -> RenderedPrompt:
        """Tokens of one prompt for both models; raises RowError when a template refuses it or it can never fit."""
        return RenderedPrompt(self.policy.prompt_tokens(row), self.reward.prompt_tokens(row))

    def text(self, response_tokens: TokenArray) -> str:
        return self.policy.text(response_tokens)

    def shown(self, tokens: TokenArray) -> str:
        return self.policy.shown(tokens)
