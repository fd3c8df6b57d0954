"""Prompts and responses of transformers models: chat templates, tokenizers, and special tokens that must stay text.

Both models share one tokenizer, so the policy's response tokens are the reward model's too.
"""

import re
import sys
from typing import Any

import jinja2
import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from actors.rendering.renderer import Messages, RenderedPrompt, messages_of
from pipeline.config.align import AlignConfig
from pipeline.errors import ConfigError, RowError
from pipeline.records import PromptRow, TokenArray


class ChatRenderer:
    """For transformers models.

    Raises:
        ConfigError: the tokenizers differ, or a chat template is missing where one is needed.
    """

    def __init__(self, config: AlignConfig) -> None:
        self.policy = load_tokenizer("policy", config.policy.model)
        self.reward = load_tokenizer("reward", config.reward.model)
        self.is_raw = config.prompt_as == "raw"
        if self.policy.get_vocab() != self.reward.get_vocab():
            raise ConfigError(
                f"reward.model {config.reward.model!r} has another tokenizer than policy.model "
                f"{config.policy.model!r}; both must share one vocabulary"
            )
        longest_token = max(map(len, self.policy.get_vocab()))
        self.max_characters = (config.engine.max_model_len or sys.maxsize) * longest_token
        self.closing_tokens = np.array(self._closing_ids(), dtype=np.int32)

    def render(self, row: PromptRow) -> RenderedPrompt:
        """Tokens of one prompt for both models; raises RowError when a template refuses it or it can never fit."""
        self._check_characters(row)
        if row.messages is None and self.is_raw:
            return RenderedPrompt(*(_int32(t(row.prompt)["input_ids"]) for t in (self.policy, self.reward)))
        messages = messages_of(row)
        return RenderedPrompt(_chat_tokens(self.policy, messages), _chat_tokens(self.reward, messages))

    def text(self, response_tokens: TokenArray) -> str:
        """The response without special tokens, exactly as generated."""
        return self.policy.decode(
            response_tokens.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def tokens(self, text: str) -> TokenArray:
        """A response's text as the reward model's tokens; special tokens written in it stay text."""
        return _int32(self.reward(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def shown(self, tokens: TokenArray) -> str:
        """Any tokens as a person reads them, special ones included."""
        return self.policy.decode(tokens.tolist(), clean_up_tokenization_spaces=False)

    def _check_characters(self, row: PromptRow) -> None:
        """Refuse without tokenising what no tokenisation fits: ten million characters take a tokenizer a minute."""
        num_characters = sum(len(message["content"]) for message in messages_of(row))
        if num_characters > self.max_characters:
            raise RowError("prompt_too_long", f"{num_characters} characters cannot fit in engine.max_model_len tokens")

    def _closing_ids(self) -> list[int]:
        """What the reward model's template writes after an assistant's answer."""
        if self.reward.chat_template is None:
            return [] if self.reward.eos_token_id is None else [self.reward.eos_token_id]
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "ANSWER"}]
        text = self.reward.apply_chat_template(turns, tokenize=False)
        return self.reward(text.rpartition("ANSWER")[2], add_special_tokens=False)["input_ids"]


def load_tokenizer(role: str, model: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {model!r}: no tokenizer: {str(error).splitlines()[0]}") from None


def _chat_tokens(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> TokenArray:
    """Render with the generation prompt. Special tokens written as text inside a message stay text."""
    marks = tokenizer.get_added_vocab()
    if any(mark in message["content"] for message in messages for mark in marks):
        return _int32(_escaped_chat_ids(tokenizer, messages))
    return _int32(tokenizer(render_chat(tokenizer, messages), add_special_tokens=False)["input_ids"])


def _escaped_chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """Tokenise the template around placeholders, and each message by itself with special tokens split up.

    The text this stands for must be the very text the template gives for the real messages; a template that rewrites
    contents in a way placeholders do not show makes the row an error row, never a wrong prompt.
    """
    wanted = render_chat(tokenizer, messages)
    places = [f"CONTENT{i:04d}PLACE" for i in range(len(messages))]
    frame = render_chat(tokenizer, [m | {"content": place} for m, place in zip(messages, places, strict=True)])
    pieces = re.split(r"(CONTENT\d{4}PLACE)", frame)
    for contents in ([m["content"] for m in messages], [m["content"].strip() for m in messages]):
        content_of = dict(zip(places, contents, strict=True))
        if "".join(content_of.get(piece, piece) for piece in pieces) == wanted:
            return [t for piece in pieces for t in _piece_ids(tokenizer, piece, content_of.get(piece))]
    raise RowError("special_token_in_prompt", "a special token written as text cannot be told apart in this template")


def _piece_ids(tokenizer: PreTrainedTokenizerBase, piece: str, content: str | None) -> list[int]:
    text, is_content = (piece, False) if content is None else (content, True)
    return tokenizer(text, add_special_tokens=False, split_special_tokens=is_content)["input_ids"]


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    if tokenizer.chat_template is None:
        raise RowError("no_chat_template", "the model has no chat template; set prompt_as: raw and give text prompts")
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except (jinja2.TemplateError, TypeError, ValueError) as error:  # templates compute with what they are given
        raise RowError("template_error", f"the chat template refuses these messages: {error}") from None


def _int32(ids: Any) -> TokenArray:
    return np.array(ids, dtype=np.int32)
