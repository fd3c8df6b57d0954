"""Text to tokens and back: what every way of reading offers."""

from collections.abc import Sequence
from typing import Any, Protocol

from pipeline.records import PromptRow, TokenArray

Messages = list[dict[str, str]]


class PromptReader(Protocol):
    """One model's way of reading. `closing_tokens` ends the assistant's turn in its template."""

    closing_tokens: TokenArray

    def check(self, reads_text: bool) -> None:
        """Raises ConfigError where no prompt can be read, or, if responses come as text, no text."""
        ...

    def prompt_tokens(self, row: PromptRow) -> TokenArray:
        """Tokens up to where the response begins; raises RowError when that cannot be."""
        ...

    def text(self, tokens: TokenArray) -> str:
        """A response's text without special tokens, exactly as generated."""
        ...

    def opened(self, row: PromptRow) -> Any:
        """The prompt, for responses that come as text, see `continued`; raises RowError when that cannot be."""
        ...

    def continued(self, texts: Sequence[tuple[Any, str, bool]]) -> list[TokenArray]:
        """Of opened prompts, each with a response's text and whether the turn is closed after it, the tokens: those of
        the whole text, but that special tokens written in a response stay text."""
        ...

    def shown(self, tokens: TokenArray) -> str:
        """Any tokens as a person reads them, special ones included."""
        ...


def messages_of(row: PromptRow) -> Messages:
    """The conversation of a row; a text prompt is one user turn."""
    return list(row.messages) if row.messages is not None else [{"role": "user", "content": row.prompt or ""}]
