"""The text of a response that grows: what of it is final and may be sent.

Invariants: the deltas of a stream, joined, are the text of the whole response; characters that may still change (the
bytes of half a character, the beginning of a stop sequence) are held back. The response so far is decoded anew each
time, since tokens merge; the work for a segment is linear in its length and in that of the stop sequences.
"""

from collections.abc import Callable

from actors.coordination.stopping import HALF_CHARACTER, text_before_stop
from pipeline.records import TokenArray


class TextStream:
    """One response.

    Args:
        text: decodes tokens.
        stop: stop sequences.
    """

    def __init__(self, text: Callable[[TokenArray], str], stop: tuple[str, ...]) -> None:
        self.text = text
        self.stop = stop
        self.borders = [_borders(sequence) for sequence in stop]
        self.sent = ""

    def grow(self, response_tokens: TokenArray) -> str:
        """The new final text, the response being these tokens so far."""
        return self._send(self._final_part(text_before_stop(self.text(response_tokens), self.stop)))

    def end(self, response: str) -> str:
        """What is left, this being the whole response."""
        return self._send(response)

    def _final_part(self, so_far: str) -> str:
        so_far = so_far.rstrip(HALF_CHARACTER)
        held = (_begun(so_far, sequence, borders) for sequence, borders in zip(self.stop, self.borders, strict=True))
        return so_far[: len(so_far) - max(held, default=0)]

    def _send(self, text: str) -> str:
        delta = text[len(self.sent) :]
        self.sent += delta
        return delta


def _begun(text: str, sequence: str, borders: list[int]) -> int:
    """How many characters of `sequence`, which `text` does not hold, stand at the end of `text`."""
    matched = 0
    for character in text[len(text) - min(len(text), len(sequence) - 1) :]:
        while matched and sequence[matched] != character:
            matched = borders[matched - 1]
        matched += sequence[matched] == character
    return matched


def _borders(sequence: str) -> list[int]:
    """For every beginning of `sequence`, the length of its longest own beginning that is also its end: what is still
    matched where the next character does not fit (Knuth, Morris, Pratt)."""
    borders = [0] * len(sequence)
    for i in range(1, len(sequence)):
        length = borders[i - 1]
        while length and sequence[length] != sequence[i]:
            length = borders[length - 1]
        borders[i] = length + (sequence[length] == sequence[i])
    return borders
