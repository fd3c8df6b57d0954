"""Prompts and responses of transformers models: chat templates, tokenizers, and special tokens that must stay text."""

import re
import sys
from typing import Any

import jinja2
import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from actors.rendering.prompt_reader import Messages, messages_of
from pipeline.config.decoding import PromptAs
from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError, RowError
from pipeline.records import PromptRow, TokenArray


class ChatReader:
    """How a transformers model reads, see `PromptReader`.

    Args:
        role: "policy" or "reward", for messages.
        model: whose tokenizer it is.
        prompt_as: whether a text prompt is a user turn or goes in as it is.
        max_model_len: what a prompt must fit; None where that is not known yet.

    Raises:
        ConfigError: there is no tokenizer.
    """

    def __init__(self, role: str, model: ModelConfig, prompt_as: PromptAs, max_model_len: int | None) -> None:
        self.tokenizer = load_tokenizer(role, model)
        self.is_raw = prompt_as == "raw"
        self.max_characters = (max_model_len or sys.maxsize) * max(map(len, self.tokenizer.get_vocab()))
        self.closing_tokens = np.array(self._closing_ids(), dtype=np.int32)

    def prompt_tokens(self, row: PromptRow) -> TokenArray:
        """Raises RowError when the template refuses the prompt or it can never fit."""
        self._check_characters(row)
        if row.messages is None and self.is_raw:
            return _int32(self.tokenizer(row.prompt)["input_ids"])
        return _chat_tokens(self.tokenizer, messages_of(row))

    def text(self, tokens: TokenArray) -> str:
        return self.tokenizer.decode(tokens.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def tokens(self, text: str) -> TokenArray:
        return _int32(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def shown(self, tokens: TokenArray) -> str:
        return self.tokenizer.decode(tokens.tolist(), clean_up_tokenization_spaces=False)

    def _check_characters(self, row: PromptRow) -> None:
        """Refuse without tokenising what no tokenisation fits: ten million characters take a tokenizer a minute."""
        num_characters = sum(len(message["content"]) for message in messages_of(row))
        if num_characters > self.max_characters:
            raise RowError("prompt_too_long", f"{num_characters} characters cannot fit in engine.max_model_len tokens")

    def _closing_ids(self) -> list[int]:
        """What the template writes after an assistant's answer."""
        if self.tokenizer.chat_template is None:
            return [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "ANSWER"}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False)
        return self.tokenizer(text.rpartition("ANSWER")[2], add_special_tokens=False)["input_ids"]


def load_tokenizer(role: str, model: ModelConfig) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(model.model, revision=model.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {model.model!r}: no tokenizer: {str(error).splitlines()[0]}") from None


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
