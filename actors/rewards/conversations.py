"""From a cohort of conversations to the token prefixes that a model scores.

Where the model's vocabulary is the policy's, the response's tokens are used as they are; otherwise its text is
tokenised anew, and the engine's longest common prefix keeps what did not change.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.rendering.prompt_reader import PromptReader
from actors.rendering.readers import share_vocabulary
from actors.rewards.interface import RewardContext
from pipeline.config.model_rewards import ClassifierReward, CloseTurn, CustomHeadReward, RewardModel
from pipeline.errors import RowError
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow, TokenArray

RESPONSE = "⟨response⟩"
Faults = dict[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The rows that could be read: their places in the cohort and their prefixes; and the faults of the others."""

    places: list[int]
    prefixes: list[TokenArray]
    faults: Faults


class ConversationReader:
    """How one model reads conversations.

    Args:
        reader: the model's template and tokenizer.
        reads_text: whether responses are tokenised anew.
        close_turn: when the assistant's turn is closed.
        max_model_len: most tokens that fit.
        num_prompts: prompts that are kept as they were read: a row comes again and again.
        last_token: put after everything, unless it is there.
    """

    def __init__(
        self,
        reader: PromptReader,
        reads_text: bool,
        close_turn: CloseTurn,
        max_model_len: int,
        num_prompts: int,
        last_token: int | None = None,
    ) -> None:
        self.reader = reader
        self.reads_text = reads_text
        self.close_turn = close_turn
        self.max_model_len = max_model_len
        self.last_token = last_token
        self.prompts = PromptCache(reader.opened if reads_text else reader.prompt_tokens, num_prompts)

    def read(self, cohort: ScoreCohort) -> ReadRows:
        """Every row's prefix, or its fault."""
        prompts, faults = self.prompts.read(cohort.rows)
        prefixes = self._from_texts(cohort, prompts) if self.reads_text else self._from_tokens(cohort, prompts)
        for place, prefix in list(prefixes.items()):
            if self.last_token is not None and prefix[-1:] != self.last_token:
                prefixes[place] = prefix = np.append(prefix, np.int32(self.last_token))
            fault = self._fault(len(prefix) + self._growth(cohort, place))
            if len(prefix) == 0 or (not self.reads_text and len(prompts[place]) == 0):
                fault = ("empty_prompt", "the prompt has no tokens")
            if fault is not None:
                faults[place] = fault
                del prefixes[place]
        return ReadRows(list(prefixes), list(prefixes.values()), faults)

    def check(self) -> None:
        """Raises ConfigError where the model cannot read conversations as the config says."""
        self.reader.check(self.reads_text)

    def closes(self, finished: bool) -> bool:
        """Whether the assistant's turn is closed after the response."""
        return self.close_turn == "always" or (self.close_turn == "finished" and finished)

    def shown(self, row: PromptRow) -> str:
        """What the model reads, for a person."""
        closing = "" if self.close_turn == "never" else self.reader.shown(self.reader.closing_tokens)
        prompt = self.reader.shown(self.reader.prompt_tokens(row))
        last = "" if self.last_token is None else self.reader.shown(np.array([self.last_token], np.int32))
        return f"{prompt}{RESPONSE}{closing}{last} (turn closed: {self.close_turn})"

    def _from_tokens(self, cohort: ScoreCohort, prompts: Mapping[int, TokenArray]) -> dict[int, TokenArray]:
        found = {}
        for place, (_, response, _) in enumerate(cohort.conversations()):
            if place in prompts:
                parts = [prompts[place], response]
                if self.closes(bool(cohort.finished_R[place])):
                    parts.append(self.reader.closing_tokens)
                found[place] = np.concatenate(parts)
        return found

    def _from_texts(self, cohort: ScoreCohort, prompts: Mapping[int, Any]) -> dict[int, TokenArray]:
        assert cohort.texts is not None
        texts = [
            (prompt, cohort.texts[place], self.closes(bool(cohort.finished_R[place])))
            for place, prompt in prompts.items()
        ]
        return dict(zip(prompts, self.reader.continued(texts), strict=True))

    def _growth(self, cohort: ScoreCohort, place: int) -> int:
        """Tokens that the row may still grow by, as far as that is known, and those that close it."""
        room = 0 if self.reads_text else int(cohort.room_R[place])
        is_closed = self.closes(bool(cohort.finished_R[place]))
        return room + (0 if is_closed else len(self.reader.closing_tokens))

    def _fault(self, needed: int) -> tuple[str, str] | None:
        if needed <= self.max_model_len:
            return None
        return too_long(needed, self.max_model_len)


def reads_text(section: RewardModel, context: RewardContext) -> bool:
    """Whether responses are tokenised anew: unless the vocabulary is the policy's, up to tokens it has beside."""
    return context.policy is None or not share_vocabulary(context.policy, section)


def conversation_reader(
    reader: PromptReader,
    section: ClassifierReward | CustomHeadReward,
    context: RewardContext,
    last_token: int | None = None,
) -> ConversationReader:
    """How the model of a section reads, by the reader of its prompts."""
    is_text, most = reads_text(section, context), context.max_tokens
    return ConversationReader(reader, is_text, section.close_turn, most, context.num_kept_prompts, last_token)


def too_long(needed: int, max_model_len: int) -> tuple[str, str]:
    """The fault of a row that does not fit."""
    return (
        "prompt_too_long",
        f"prompt and response need {needed} tokens of the reward model, of the {max_model_len} that "
        "engine.max_model_len allows",
    )


class PromptCache:
    """Prompts as they were last read.

    Args:
        read_one: reads one; raises RowError.
        most: how many are kept.
    """

    def __init__(self, read_one: Any, most: int) -> None:
        self._read_one = read_one
        self._most = most
        self._known: OrderedDict[tuple[int, str | None], tuple[PromptRow, Any]] = OrderedDict()

    def read(self, rows: tuple[PromptRow, ...]) -> tuple[dict[int, Any], Faults]:
        """By their places, the prompts that could be read, and the faults of the others."""
        found, faults = {}, Faults()
        for place, row in enumerate(rows):
            try:
                found[place] = self._one(row)
            except RowError as error:
                faults[place] = (error.error_type, error.message)
        return found, faults

    def _one(self, row: PromptRow) -> Any:
        key = (row.row_index, row.row_id)
        known = self._known.get(key)
        if known is None or known[0] != row:  # a server's requests may share an id
            known = self._known[key] = (row, self._read_one(row))
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return known[1]
