"""How fake models read: a token is a byte of UTF-8."""

import numpy as np

from actors.engines.fakes import FAKE_END_TOKEN
from actors.rendering.prompt_reader import messages_of
from pipeline.records import PromptRow, TokenArray


class ByteReader:
    """For fake models, see `PromptReader`."""

    closing_tokens = np.array([FAKE_END_TOKEN], dtype=np.int32)

    def prompt_tokens(self, row: PromptRow) -> TokenArray:
        return self.tokens("\n".join(message["content"] for message in messages_of(row)))

    def text(self, tokens: TokenArray) -> str:
        return bytes(token for token in tokens.tolist() if token < FAKE_END_TOKEN).decode("utf-8", "replace")

    def tokens(self, text: str) -> TokenArray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32)

    def shown(self, tokens: TokenArray) -> str:
        return "".join("⟨end⟩" if token >= FAKE_END_TOKEN else chr(token) for token in tokens.tolist())
