"""Text to tokens where some of it must stay text: templates hold special tokens, what people wrote holds none.

A text is cut at its special tokens into runs, and each run is tokenised by itself, but as what it is: text that
stands behind a special token. Invariants, tested: without special tokens in the contents the result is the plain
tokenisation of the whole text, at every border of two pieces; with some, they come out as ordinary text.
"""

import copy
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import AddedToken

from pipeline.errors import ConfigError

PROBE = "Yes, 12 words. 漢字 é\n\nMore"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text. In a content special tokens are text."""

    text: str
    is_content: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A special token, None at the very start, and the text from there to the next one."""

    special: int | None
    text: str


@dataclass(frozen=True, slots=True)
class OpenText:
    """Tokens up to the last special token of a text, and the run that goes on from there."""

    head: tuple[int, ...]
    tail: Run


@dataclass(frozen=True, slots=True)
class TokenisedText:
    """Tokens, and for each piece the place of the token that its last character is in; None for an empty text."""

    ids: list[int]
    ends: tuple[int | None, ...] = ()


class RunTokenizer:
    """Tokenises pieces with one model's tokenizer, of which it has a copy.

    Args:
        tokenizer: of any family; only a fast one tells where a piece ends within a run.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.plain = tokenizer
        self.specials = {str(t): (i, t) for i, t in tokenizer.added_tokens_decoder.items() if t.special and str(t)}
        self.is_fast = tokenizer.is_fast
        marks = sorted(self.specials, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, marks)) or r"(?!)")
        self.specials_by_id: dict[int, AddedToken] = dict(self.specials.values())
        self._leaks = {i for i, _ in self.specials.values()} - {tokenizer.unk_token_id}
        # What no prompt can hold: nobody can write what was drawn at this start.
        self._anchor = f"\ue000{uuid.uuid4().hex}\ue000"

    @cached_property
    def _backend(self) -> Any:
        """The tokenizer without its special tokens, but with one of ours that stands for each of them."""
        anchored = copy.deepcopy(self.plain)
        anchored.add_tokens([AddedToken(self._anchor, normalized=False, special=False)])
        backend = anchored.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return backend

    def check(self, name: str) -> None:
        """Raises ConfigError where runs are not tokenised as the plain tokenizer does."""
        for mark, (token, _) in self.specials.items():
            plain = self.plain(mark + PROBE, add_special_tokens=False)["input_ids"]
            if plain[:1] == [token] and self.ids([Piece(mark), Piece(PROBE, True)]) != plain:
                raise ConfigError(f"the tokenizer of {name!r} cannot tokenise text behind {mark!r} as plain text")

    def has_specials(self, text: str) -> bool:
        """Whether a special token is written in it."""
        return self._special_pattern.search(text) is not None

    def open(self, pieces: Sequence[Piece]) -> OpenText:
        """Tokenise all but the last run, which what comes next may change."""
        runs = self._runs(Run(None, ""), pieces)[0]
        return OpenText(tuple(token for part in self._encode(runs[:-1]) for token in part.ids), runs[-1])

    def ids(self, pieces: Sequence[Piece]) -> list[int]:
        """The tokens of a whole text."""
        return self.finish([(OpenText((), Run(None, "")), pieces)])[0].ids

    def finish(self, texts: Sequence[tuple[OpenText, Sequence[Piece]]], with_ends: bool = False) -> list[TokenisedText]:
        """The tokens of each opened text with what comes after it, all in one call.

        Args:
            with_ends: say where the pieces end; needs a fast tokenizer.
        """
        cut = [self._runs(opened.tail, pieces) for opened, pieces in texts]
        parts = iter(self._encode([run for runs, _ in cut for run in runs], with_ends))
        found = []
        for (opened, _), (runs, ends) in zip(texts, cut, strict=True):
            ids, starts, spans = list(opened.head), [], []
            for _ in runs:
                part = next(parts)
                starts.append(len(ids))
                spans.append(part.spans)
                ids += part.ids
            places = (_place(starts[run], spans[run], end) if ids else None for run, end in ends if with_ends)
            found.append(TokenisedText(ids, tuple(places)))
        return found

    def _runs(self, tail: Run, pieces: Iterable[Piece]) -> tuple[list[Run], list[tuple[int, int]]]:
        """The runs of a text that begins with `tail`, and where each piece ends: in which run, after how much of it."""
        runs, ends = [tail], []
        for piece in pieces:
            at = 0
            for mark in () if piece.is_content else self._special_pattern.finditer(piece.text):
                self._extend(runs, piece.text[at : mark.start()])
                token, flags = self.specials[mark.group()]
                if flags.lstrip:
                    runs[-1] = Run(runs[-1].special, runs[-1].text.rstrip())
                runs.append(Run(token, ""))
                at = mark.end()
            self._extend(runs, piece.text[at:])
            ends.append((len(runs) - 1, len(runs[-1].text)))
        return runs, ends

    def _extend(self, runs: list[Run], text: str) -> None:
        last = runs[-1]
        if last.special is not None and not last.text and self.specials_by_id[last.special].rstrip:
            text = text.lstrip()
        runs[-1] = Run(last.special, last.text + text)

    def _encode(self, runs: Sequence[Run], with_spans: bool = False) -> list["_EncodedRun"]:
        if not self.is_fast:
            assert not with_spans
            return [_EncodedRun.of(run, self._slow_ids(run.text)) for run in runs]
        encode = self._backend.encode_batch if with_spans else self._backend.encode_batch_fast
        found = []
        encodings = encode([self._anchored(run.special, run.text) for run in runs], add_special_tokens=False)
        for run, encoding in zip(runs, encodings, strict=True):
            skipped = run.special is not None
            if self._leaks.isdisjoint(encoding.ids[skipped:]):
                spans = encoding.offsets[skipped:] if with_spans else []
                found.append(_EncodedRun.of(run, encoding.ids[skipped:], spans, skipped * len(self._anchor)))
            else:
                found.append(self._encode_split(run))
        return found

    def _encode_split(self, run: Run) -> "_EncodedRun":
        """A run whose text names a special token that is a word of the vocabulary too: cut inside the name."""
        cuts = [0, *(mark.start() + 1 for mark in self._special_pattern.finditer(run.text)), len(run.text)]
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for first, end in pairwise(cuts):
            text = self._anchor + run.text[first:end]
            encoding = self._backend.encode_batch([text], add_special_tokens=False)[0]
            shift = first - len(self._anchor)
            ids += encoding.ids[1:]
            spans += [(a + shift, b + shift) for a, b in encoding.offsets[1:]]
        return _EncodedRun.of(run, ids, spans)

    def _anchored(self, special: int | None, text: str) -> str:
        return text if special is None else self._anchor + text

    def _slow_ids(self, text: str) -> list[int]:
        return self.plain(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []


@dataclass(frozen=True, slots=True)
class _EncodedRun:
    """A run's tokens, its special token first, and the characters [start, end) of its text that each stands for."""

    ids: list[int]
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, run: Run, ids: list[int], spans: Sequence[tuple[int, int]] = (), skipped: int = 0) -> "_EncodedRun":
        special = [] if run.special is None else [run.special]
        return cls(special + ids, [(0, 0)] * len(special) + [(a - skipped, b - skipped) for a, b in spans])


def _place(start: int, spans: Sequence[tuple[int, int]], end: int) -> int:
    """The last token that begins before `end`, of a run that starts at token `start`."""
    within = [place for place, (first, _) in enumerate(spans) if first < end] if end else [0]
    return start + max(within, default=0)
