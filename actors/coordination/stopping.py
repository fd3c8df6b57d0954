"""Stop sequences: texts that end a response and do not belong to it.

A stop sequence may span segments and need not meet the borders of tokens, so it is looked for
in the text of the whole response. The token that completes it is the response's last, as an end token would be.
"""

from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from pipeline.records import Segment, TokenArray

Text = Callable[[TokenArray], str]
HALF_CHARACTER = "\ufffd"  # what a tokenizer writes for bytes that are not yet, or no longer, a whole character


def text_before_stop(text: str, stop: tuple[str, ...]) -> str:
    """What comes before the first stop sequence."""
    places = [place for sequence in stop if (place := text.find(sequence)) >= 0]
    return text[: min(places)] if places else text


def answer_text(text: str, stop: tuple[str, ...], finished: bool) -> str:
    """What a reward reads of a response's text: nothing of a stop sequence, and no half character at its end."""
    before = text_before_stop(text, stop)
    return before if finished else before.rstrip(HALF_CHARACTER)


def end_at_stop(segment: Segment, response_tokens: TokenArray, stop: tuple[str, ...], text: Text) -> Segment:
    """The segment up to the token that completes a stop sequence, finished there; as it is where none is complete."""

    def is_stopped(num_tokens: int) -> bool:
        so_far = text(np.concatenate([response_tokens, segment.tokens[:num_tokens]]))
        return any(sequence in so_far for sequence in stop)

    if not stop or not is_stopped(len(segment.tokens)):
        return segment
    num_tokens = bisect_left(range(len(segment.tokens)), True, lo=1, key=is_stopped)  # decoding is what costs
    return Segment(segment.tokens[:num_tokens], finished=True)


def tokens_of_answer(response_tokens: TokenArray, stop: tuple[str, ...], text: Text) -> TokenArray:
    """A finished response without what ended it: its end token, or the tokens that hold part of a stop sequence."""
    answer = response_tokens[:-1]
    if not stop:
        return answer
    whole = text(response_tokens)
    end = len(text_before_stop(whole, stop))
    while end < len(whole) and len(text(answer)) > end:
        answer = answer[:-1]
    return answer
