"""Text to tokens and back: what every renderer offers, and the one for fake models."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from actors.engines.fakes import FAKE_END_TOKEN
from pipeline.config.align import AlignConfig
from pipeline.records import PromptRow, TokenArray

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as each model reads it: int32 tokens up to where the response begins."""

    policy_tokens: TokenArray
    reward_tokens: TokenArray


class Renderer(Protocol):
    """`closing_tokens` ends the assistant's turn in the reward model's template."""

    closing_tokens: TokenArray

    def render(self, row: PromptRow) -> RenderedPrompt: ...

    def text(self, response_tokens: TokenArray) -> str: ...

    def tokens(self, text: str) -> TokenArray: ...

    def shown(self, tokens: TokenArray) -> str:
        """Any tokens as a person reads them, special ones included."""
        ...


def make_renderer(config: AlignConfig) -> Renderer:
    """The renderer that fits the config's backend."""
    if config.policy.backend == "fake":
        return ByteRenderer()
    from actors.rendering.chat import ChatRenderer  # imports transformers

    return ChatRenderer(config)


class ByteRenderer:
    """For fake models: a token is a byte of UTF-8."""

    closing_tokens = np.array([FAKE_END_TOKEN], dtype=np.int32)

    def render(self, row: PromptRow) -> RenderedPrompt:
        text = "\n".join(message["content"] for message in messages_of(row))
        tokens = self.tokens(text)
        return RenderedPrompt(tokens, tokens)

    def text(self, response_tokens: TokenArray) -> str:
        return bytes(token for token in response_tokens.tolist() if token < FAKE_END_TOKEN).decode("utf-8", "replace")

    def tokens(self, text: str) -> TokenArray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32)

    def shown(self, tokens: TokenArray) -> str:
        return "".join("⟨end⟩" if token >= FAKE_END_TOKEN else chr(token) for token in tokens.tolist())


def messages_of(row: PromptRow) -> Messages:
    """The conversation of a row; a text prompt is one user turn."""
    return list(row.messages) if row.messages is not None else [{"role": "user", "content": row.prompt or ""}]
