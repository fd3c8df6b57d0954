"""Prompts and responses of transformers models: chat templates, tokenizers, and special tokens that must stay text."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from actors.rendering.prompt_reader import Messages, messages_of
from actors.rendering.text_runs import OpenText, Piece, RunTokenizer
from pipeline.config.decoding import PromptAs
from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError, RowError
from pipeline.records import PromptRow, TokenArray


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """How a conversation is rendered: by a template of one's own, without system messages."""

    template_file: str | None = None
    drop_system: bool = False


class ChatReader:
    """How a transformers model reads, see `PromptReader`.

    Args:
        role: "policy" or "reward", for messages.
        model: whose tokenizer it is.
        prompt_as: whether a text prompt is a user turn or goes in as it is.
        max_model_len: what a prompt must fit; None where that is not known yet.
        style: how a conversation is rendered.

    Raises:
        ConfigError: there is no tokenizer, or the template cannot be used.
    """

    def __init__(
        self,
        role: str,
        model: ModelConfig,
        prompt_as: PromptAs,
        max_model_len: int | None,
        style: ChatStyle = ChatStyle(),
    ) -> None:
        self.role, self.model = role, model.model
        self.tokenizer = load_tokenizer(role, model)
        if style.template_file is not None:
            self.tokenizer.chat_template = Path(style.template_file).expanduser().read_text("utf-8")
        self.is_raw = prompt_as == "raw"
        self.drops_system = style.drop_system
        self.max_characters = (max_model_len or sys.maxsize) * max(map(len, self.tokenizer.get_vocab()))
        self.closing = self._closing()
        self.closing_tokens = _int32(self.tokenizer(self.closing, add_special_tokens=False)["input_ids"])

    @cached_property
    def runs(self) -> RunTokenizer:
        """Tokenises what is not a template alone."""
        return RunTokenizer(self.tokenizer)

    def check(self, reads_text: bool) -> None:
        """See `PromptReader`."""
        if self.tokenizer.chat_template is None and not self.is_raw:
            raise ConfigError(
                f"{self.role}.model {self.model!r} has no chat template; give one of your own (reward.template), or "
                "set prompt_as: raw for text prompts"
            )
        if reads_text:
            self.runs.check(self.model)

    def prompt_tokens(self, row: PromptRow) -> TokenArray:
        """Raises RowError when the template refuses the prompt or it can never fit."""
        self._check_characters(row)
        if row.messages is None and self.is_raw:
            return _int32(self.tokenizer(row.prompt)["input_ids"])
        pieces = self._prompt_pieces(row)
        if len(pieces) == 1:
            return _int32(self.tokenizer(pieces[0].text, add_special_tokens=False)["input_ids"])
        return _int32(self.runs.ids(pieces))

    def opened(self, row: PromptRow) -> OpenText:
        """See `PromptReader`; raises RowError as `prompt_tokens` does."""
        self._check_characters(row)
        if row.messages is None and self.is_raw:
            opened = self.runs.open([Piece(row.prompt or "")])
            return OpenText((*self._leading_specials, *opened.head), opened.tail)
        return self.runs.open(self._prompt_pieces(row))

    def continued(self, texts: Sequence[tuple[OpenText, str, bool]]) -> list[TokenArray]:
        closing = Piece(self.closing)
        pieces = [
            (opened, [Piece(text, True), closing] if closes else [Piece(text, True)]) for opened, text, closes in texts
        ]
        return [_int32(found.ids) for found in self.runs.finish(pieces)]

    def text(self, tokens: TokenArray) -> str:
        return self.tokenizer.decode(tokens.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def shown(self, tokens: TokenArray) -> str:
        return self.tokenizer.decode(tokens.tolist(), clean_up_tokenization_spaces=False)

    def _prompt_pieces(self, row: PromptRow) -> list[Piece]:
        messages = messages_of(row)
        if self.drops_system:
            messages = [message for message in messages if message["role"] != "system"]
        return chat_pieces(
            lambda contents: render_chat(self.tokenizer, with_contents(messages, contents)),
            [message["content"] for message in messages],
            self.runs.has_specials,
        )

    @cached_property
    def _leading_specials(self) -> tuple[int, ...]:
        """What the tokenizer itself puts before a text."""
        found = self.tokenizer("a", return_special_tokens_mask=True)
        return tuple(found["input_ids"][: (found["special_tokens_mask"] + [0]).index(0)])

    def _check_characters(self, row: PromptRow) -> None:
        """Refuse without tokenising what no tokenisation fits: ten million characters take a tokenizer a minute."""
        num_characters = sum(len(message["content"]) for message in messages_of(row))
        if num_characters > self.max_characters:
            raise RowError("prompt_too_long", f"{num_characters} characters cannot fit in engine.max_model_len tokens")

    def _closing(self) -> str:
        """What the template writes after an assistant's answer."""
        if self.tokenizer.chat_template is None:
            return self.tokenizer.eos_token or ""
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "ANSWER"}]
        try:
            return self.tokenizer.apply_chat_template(turns, tokenize=False).rpartition("ANSWER")[2]
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise ConfigError(f"the chat template of {self.model!r} cannot render an answer: {error}") from None


def load_tokenizer(role: str, model: ModelConfig) -> PreTrainedTokenizerBase:
    trusts = model.trusts_code
    try:
        return AutoTokenizer.from_pretrained(model.model, revision=model.revision, trust_remote_code=trusts)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {model.model!r}: no tokenizer: {str(error).splitlines()[0]}") from None


def chat_pieces(
    render: Callable[[list[str]], str], contents: list[str], has_specials: Callable[[str], bool]
) -> list[Piece]:
    """A rendered conversation, in one piece, or with its contents apart where special tokens are written in them.

    Then the template is rendered around placeholders. The text this stands for must be the very text the template gives
    for the real contents; a template that rewrites contents in a way placeholders do not show makes the row an error
    row, never a wrong prompt.
    """
    wanted = render(contents)
    if not any(map(has_specials, contents)):
        return [Piece(wanted)]
    places = [f"CONTENT{i:04d}PLACE" for i in range(len(contents))]
    parts = re.split(r"(CONTENT\d{4}PLACE)", render(places))
    for variant in (contents, [content.strip() for content in contents]):
        content_of = dict(zip(places, variant, strict=True))
        if "".join(content_of.get(part, part) for part in parts) == wanted:
            return [Piece(content_of.get(part, part), part in content_of) for part in parts]
    raise RowError("special_token_in_prompt", "a special token written as text cannot be told apart in this template")


def with_contents(messages: Messages, contents: list[str]) -> Messages:
    """The same messages with other contents."""
    return [message | {"content": content} for message, content in zip(messages, contents, strict=True)]


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    if tokenizer.chat_template is None:
        raise RowError("no_chat_template", "the model has no chat template; set prompt_as: raw and give text prompts")
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except (jinja2.TemplateError, TypeError, ValueError) as error:  # templates compute with what they are given
        raise RowError("template_error", f"the chat template refuses these messages: {error}") from None


def _int32(ids: Any) -> TokenArray:
    return np.array(ids, dtype=np.int32)
