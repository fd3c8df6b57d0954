"""From a cohort of conversations to prefixes with a mark after each step, and the places where they are read."""

from dataclasses import dataclass

import numpy as np

from actors.rendering.chat import ChatReader
from actors.rendering.text_runs import Piece
from actors.rewards.conversations import RESPONSE, Faults, PromptCache, too_long
from pipeline.config.model_rewards import ProcessReward
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow, TokenArray


@dataclass(frozen=True, slots=True)
class ReadSteps:
    """The rows that could be read: their places in the cohort, their prefixes, the positions of the ends of their
    steps' marks; and the faults of the others."""

    places: list[int]
    prefixes: list[TokenArray]
    ends: list[list[int]]
    faults: Faults


class StepReader:
    """How a process reward reads.

    Args:
        reader: its tokenizer and chat template.
        section: the reward's config.
        max_model_len: most tokens that fit.
        num_prompts: prompts that are kept as they were read.
    """

    def __init__(self, reader: ChatReader, section: ProcessReward, max_model_len: int, num_prompts: int) -> None:
        self.reader = reader
        self.section = section
        self.max_model_len = max_model_len
        self._mark = Piece(section.mark)
        self.is_apart = section.tokenise == "apart"
        self.prompts = PromptCache(reader.prompt_tokens if self.is_apart else reader.opened, num_prompts)

    def read(self, cohort: ScoreCohort) -> ReadSteps:
        """Every row's prefix and steps, or its fault."""
        assert cohort.texts is not None
        prompts, faults = self.prompts.read(cohort.rows)
        pieces = {place: self.pieces(cohort.texts[place]) for place in prompts}
        if self.is_apart:
            found = [self._apart(prompts[place], pieces[place]) for place in prompts]
        else:
            texts = [(prompts[place], pieces[place]) for place in prompts]
            tokenised = self.reader.runs.finish(texts, with_ends=True)
            found = [(np.array(text.ids, np.int32), list(text.ends)) for text in tokenised]
        read = ReadSteps([], [], [], faults)
        for place, (tokens, ends) in zip(prompts, found, strict=True):
            marks = [end for end, piece in zip(ends, pieces[place], strict=True) if piece == self._mark]
            if len(tokens) > self.max_model_len:
                faults[place] = too_long(len(tokens), self.max_model_len)
                continue
            read.places.append(place)
            read.prefixes.append(tokens)
            read.ends.append([end for end in marks if end is not None])  # a mark is never empty
        return read

    def pieces(self, text: str) -> list[Piece]:
        """Steps and marks in turn; a response without any text is one step."""
        steps = [step for step in text.split(self.section.step_separator) if step.strip()] or [""]
        pieces: list[Piece] = []
        for step in steps:
            joint = [Piece(self.section.joint)] if pieces else []
            pieces += [*joint, Piece(step, True), self._mark]
        return pieces

    def shown(self, row: PromptRow) -> str:
        """What the model reads, for a person."""
        prompt = self.reader.shown(self.reader.prompt_tokens(row))
        separator = self.section.step_separator
        pieces = self.pieces(f"{RESPONSE}, step 1{separator}{RESPONSE}, step 2")
        return prompt + "".join(piece.text for piece in pieces)

    def _apart(self, prompt: TokenArray, pieces: list[Piece]) -> tuple[TokenArray, list[int | None]]:
        """Each piece tokenised by itself."""
        parts, ends = [prompt], list[int | None]()
        for piece in pieces:
            ids = self.reader.tokenizer(piece.text, add_special_tokens=False, split_special_tokens=piece.is_content)[
                "input_ids"
            ]
            parts.append(np.array(ids, np.int32))
            ends.append(sum(map(len, parts)) - 1)
        return np.concatenate(parts), ends
