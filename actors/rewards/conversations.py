"""From a cohort of conversations to the token prefixes that a model scores.

Where the model's vocabulary is the policy's, the response's tokens are used as they are; otherwise its text is
tokenised anew, and the engine's longest common prefix keeps what did not change.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from actors.rendering.prompt_reader import PromptReader
from pipeline.config.rewards import CloseTurn
from pipeline.errors import RowError
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow, TokenArray

RESPONSE = "⟨response⟩"


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The rows that could be read: their places in the cohort and their prefixes; and the faults of the others."""

    places: list[int]
    prefixes: list[TokenArray]
    faults: dict[int, tuple[str, str]]


class ConversationReader:
    """How one model reads conversations.

    Args:
        reader: the model's template and tokenizer.
        reads_text: whether responses are tokenised anew.
        close_turn: when the assistant's turn is closed.
        max_model_len: most tokens that fit.
        num_prompts: prompts whose tokens are kept: a row comes again and again.
    """

    def __init__(
        self, reader: PromptReader, reads_text: bool, close_turn: CloseTurn, max_model_len: int, num_prompts: int
    ) -> None:
        self.reader = reader
        self.reads_text = reads_text
        self.close_turn = close_turn
        self.max_model_len = max_model_len
        self.num_prompts = num_prompts
        self._prompts: OrderedDict[tuple[int, str | None], tuple[PromptRow, TokenArray]] = OrderedDict()

    def read(self, cohort: ScoreCohort) -> ReadRows:
        """Every row's prefix, or its fault."""
        places, prefixes, faults = [], [], dict[int, tuple[str, str]]()
        for place, (row, response, text) in enumerate(cohort.conversations()):
            finished, room = bool(cohort.finished_R[place]), int(cohort.room_R[place])
            try:
                prefixes.append(self._prefix(row, response, text, finished, room))
                places.append(place)
            except RowError as error:
                faults[place] = (error.error_type, error.message)
        return ReadRows(places, prefixes, faults)

    def closes(self, finished: bool) -> bool:
        """Whether the assistant's turn is closed after the response."""
        return self.close_turn == "always" or (self.close_turn == "finished" and finished)

    def shown(self, row: PromptRow) -> str:
        """What the model reads, for a person."""
        closing = "" if self.close_turn == "never" else self.reader.shown(self.reader.closing_tokens)
        return f"{self.reader.shown(self.prompt_tokens(row))}{RESPONSE}{closing} (turn closed: {self.close_turn})"

    def prompt_tokens(self, row: PromptRow) -> TokenArray:
        """Tokens up to where the response begins; raises RowError."""
        key = (row.row_index, row.row_id)
        known = self._prompts.get(key)
        if known is None or known[0] != row:  # a server's requests may share an id
            known = self._prompts[key] = (row, self.reader.prompt_tokens(row))
            if len(self._prompts) > self.num_prompts:
                self._prompts.popitem(last=False)
        return known[1]

    def _prefix(self, row: PromptRow, response: TokenArray, text: str | None, finished: bool, room: int) -> TokenArray:
        prompt = self.prompt_tokens(row)
        if len(prompt) == 0:
            raise RowError("empty_prompt", "the prompt has no tokens")
        answer = response
        if self.reads_text:
            assert text is not None
            answer, room = self.reader.tokens(text), 0
        parts = [prompt, answer, self.reader.closing_tokens] if self.closes(finished) else [prompt, answer]
        needed = len(prompt) + len(answer) + room + len(self.reader.closing_tokens)
        if needed > self.max_model_len:
            raise RowError(
                "prompt_too_long",
                f"{len(prompt)} prompt tokens of the reward model and {len(answer) + room} of the response need "
                f"{needed} of the {self.max_model_len} that engine.max_model_len allows",
            )
        return np.concatenate(parts)
