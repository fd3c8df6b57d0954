"""The text of a response that grows: what of it is final and may be sent.

Invariant: the deltas of a stream, joined, are the text of the whole response. The response so far is decoded anew each
time, since tokens merge; characters that may still change (the bytes of half a character, the beginning of a stop
sequence) are held back.
"""

from collections.abc import Callable

from actors.coordination.stopping import text_before_stop
from pipeline.records import TokenArray

HALF_CHARACTER = "\ufffd"


class TextStream:
    """One response.

    Args:
        text: decodes tokens.
        stop: stop sequences.
    """

    def __init__(self, text: Callable[[TokenArray], str], stop: tuple[str, ...]) -> None:
        self.text = text
        self.stop = stop
        self.sent = ""

    def grow(self, response_tokens: TokenArray) -> str:
        """The new final text, the response being these tokens so far."""
        return self._send(self._final_part(text_before_stop(self.text(response_tokens), self.stop)))

    def end(self, response: str) -> str:
        """What is left, this being the whole response."""
        return self._send(response)

    def _final_part(self, so_far: str) -> str:
        so_far = so_far.rstrip(HALF_CHARACTER)
        for sequence in self.stop:
            for length in range(len(sequence) - 1, 0, -1):
                if so_far.endswith(sequence[:length]):
                    so_far = so_far[: len(so_far) - length]
                    break
        return so_far

    def _send(self, text: str) -> str:
        delta = text[len(self.sent) :]
        self.sent += delta
        return delta
