"""How fake models read: a token is a byte of UTF-8."""

from collections.abc import Sequence

import numpy as np

from actors.engines.fakes import FAKE_END_TOKEN
from actors.rendering.prompt_reader import messages_of
from pipeline.records import PromptRow, TokenArray


class ByteReader:
    """For fake models, see `PromptReader`."""

    closing_tokens = np.array([FAKE_END_TOKEN], dtype=np.int32)

    def check(self, reads_text: bool) -> None:
        """Bytes can be read."""

    def prompt_tokens(self, row: PromptRow) -> TokenArray:
        return _bytes("\n".join(message["content"] for message in messages_of(row)))

    opened = prompt_tokens

    def continued(self, texts: Sequence[tuple[TokenArray, str, bool]]) -> list[TokenArray]:
        ends = {True: self.closing_tokens, False: self.closing_tokens[:0]}
        return [np.concatenate([prompt, _bytes(text), ends[closes]]) for prompt, text, closes in texts]

    def text(self, tokens: TokenArray) -> str:
        return bytes(token for token in tokens.tolist() if token < FAKE_END_TOKEN).decode("utf-8", "replace")

    def shown(self, tokens: TokenArray) -> str:
        return "".join("⟨end⟩" if token >= FAKE_END_TOKEN else chr(token) for token in tokens.tolist())


def _bytes(text: str) -> TokenArray:
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32)
