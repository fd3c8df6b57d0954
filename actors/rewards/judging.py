"""A template that asks a model about a response: from a cohort to prefixes of one kept part and one that grows."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.rendering.chat import ChatReader, chat_pieces, render_chat, with_contents
from actors.rendering.own_template import OwnTemplate
from actors.rendering.prompt_reader import messages_of
from actors.rendering.text_runs import OpenText, Piece
from actors.rewards.conversations import RESPONSE, PromptCache, ReadRows, too_long
from pipeline.config.model_rewards import TokenLogitReward
from pipeline.errors import ConfigError, RowError
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow

PLACE = f"RESPONSE{uuid.uuid4().hex}"  # nobody can write what was drawn at this start
PROBE_ROW = PromptRow(0, "probe", prompt="Hi")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt's question: what comes before the response, and after it."""

    before: OpenText
    after: tuple[Piece, ...]


class JudgeReader:
    """How a judge reads.

    Args:
        reader: its tokenizer and chat template.
        section: the reward's config.
        max_model_len: most tokens that fit.
        num_prompts: prompts that are kept as they were read.

    Raises:
        ConfigError: the template cannot be used.
    """

    def __init__(self, reader: ChatReader, section: TokenLogitReward, max_model_len: int, num_prompts: int) -> None:
        self.reader = reader
        self.section = section
        self.template = OwnTemplate(section.template)
        self.max_model_len = max_model_len
        self.prompts = PromptCache(self._question, num_prompts)

    def read(self, cohort: ScoreCohort) -> ReadRows:
        """Every row's prefix, or its fault."""
        assert cohort.texts is not None
        questions, faults = self.prompts.read(cohort.rows)
        texts = [
            (question.before, [Piece(cohort.texts[place], True), *question.after])
            for place, question in questions.items()
        ]
        prefixes = {}
        for place, found in zip(questions, self.reader.runs.finish(texts), strict=True):
            if len(found.ids) > self.max_model_len:
                faults[place] = too_long(len(found.ids), self.max_model_len)
            else:
                prefixes[place] = np.array(found.ids, np.int32)
        return ReadRows(list(prefixes), list(prefixes.values()), faults)

    def word_token(self, word: str | int) -> int:
        """The token that a word is in the place of the answer; raises ConfigError where it is none, or several."""
        if isinstance(word, int):
            return word
        pieces = self._pieces(PROBE_ROW)
        without, with_word = self.reader.runs.ids(pieces), self.reader.runs.ids([*pieces, Piece(word)])
        rest = with_word[len(without) :]
        if with_word[: len(without)] != without or len(rest) != 1:
            shown = " + ".join(map(repr, self.reader.tokenizer.convert_ids_to_tokens(rest)))
            raise ConfigError(
                f"reward.model {self.section.model!r}: the word {word!r} after the template is {shown or 'no token'}, "
                "but must be one token of its own; try it with a space before it, or end the template otherwise"
            )
        return rest[0]

    def shown(self, row: PromptRow) -> str:
        """What the model reads, for a person."""
        return "".join(piece.text for piece in self._pieces(row)).replace(PLACE, RESPONSE)

    def _question(self, row: PromptRow) -> Question:
        before: list[Piece] = []
        pieces = iter(self._pieces(row))
        for piece in pieces:
            head, place, tail = piece.text.partition(PLACE)
            before.append(Piece(head, piece.is_content))
            if place:
                return Question(self.reader.runs.open(before), (Piece(tail, piece.is_content), *pieces))
        raise RowError("template_error", "the reward's template does not write the response as it is")

    def _pieces(self, row: PromptRow) -> Sequence[Piece]:
        messages = messages_of(row)
        if self.section.drop_system:
            messages = [message for message in messages if message["role"] != "system"]

        def render(contents: list[str]) -> str:
            turns = with_contents(messages, contents)
            prompt = turns[-1]["content"] if turns else ""
            text = self.template.render(messages=turns, prompt=prompt, response=PLACE)
            if text.count(PLACE) != 1:
                raise RowError("template_error", "the reward's template must write the response once")
            return text if self.section.wrap == "raw" else self._as_user_turn(text)

        return chat_pieces(render, [message["content"] for message in messages], self.reader.runs.has_specials)

    def _as_user_turn(self, text: str) -> str:
        return render_chat(self.reader.tokenizer, [{"role": "user", "content": text}])
