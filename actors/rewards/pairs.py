"""From conversations to what an encoder reads: question and answer as a pair, or one text of both.

Invariants: special tokens that people write stay text; of what is too long the ends are kept, unless the config says
otherwise, so that the newest part of an answer always counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from actors.rendering.chat import load_tokenizer
from actors.rendering.own_template import OwnTemplate
from actors.rendering.prompt_reader import messages_of
from pipeline.config.model_rewards import EncoderReward
from pipeline.errors import RowError
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow

# Architectures whose positions begin behind the pad token's.
OFFSET_POSITIONS = ("roberta", "camembert", "mpnet", "longformer", "xmod", "data2vec-text", "ibert")
NO_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Tokens, and the type of each where the model tells question and answer apart by types."""

    ids: list[int]
    types: list[int] | None


class PairReader:
    """How one encoder reads.

    Args:
        section: the reward's config.
        config: the model's own.

    Raises:
        ConfigError: there is no tokenizer, or the template cannot be used.
    """

    def __init__(self, section: EncoderReward, config: PreTrainedConfig) -> None:
        self.section = section
        self.tokenizer = load_tokenizer("reward", section)
        self.template = None if section.template is None else OwnTemplate(section.template)
        self.max_tokens = min(section.max_tokens or NO_LIMIT, self.tokenizer.model_max_length, _positions(config))
        self.pad_token_id = self.tokenizer.pad_token_id or 0
        self._has_types = "token_type_ids" in self.tokenizer.model_input_names
        if section.truncation != "refuse":
            self.tokenizer.truncation_side = section.truncation
        specials = {i: str(t) for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        specials.pop(self.tokenizer.unk_token_id, None)
        self._specials = set(specials)
        self._marks = re.compile("|".join(map(re.escape, specials.values())) or r"(?!)")
        self._max_characters = self.max_tokens * max(map(len, self.tokenizer.get_vocab()))

    def read(self, cohort: ScoreCohort) -> tuple[dict[int, TokenPair], dict[int, tuple[str, str]]]:
        """By their places, the rows that could be read, and the faults of the others."""
        assert cohort.texts is not None
        texts, faults = dict[int, tuple[str, ...]](), dict[int, tuple[str, str]]()
        for place, (row, answer) in enumerate(zip(cohort.rows, cohort.texts, strict=True)):
            try:
                texts[place] = tuple(map(self._bounded, self._texts(row, answer)))
            except RowError as error:
                faults[place] = (error.error_type, error.message)
        found = dict(zip(texts, self._tokens(list(texts.values())), strict=True))
        for place, pair in list(found.items()):
            if len(pair.ids) > self.max_tokens:
                del found[place]
                faults[place] = (
                    "prompt_too_long",
                    f"question and answer need {len(pair.ids)} tokens of the {self.max_tokens} that the reward reads",
                )
        return found, faults

    def question(self, row: PromptRow) -> str:
        """The prompt as one text."""
        messages = [m for m in messages_of(row) if not (self.section.drop_system and m["role"] == "system")]
        if len(messages) == 1:
            return messages[0]["content"]
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages)

    def _texts(self, row: PromptRow, answer: str) -> tuple[str, ...]:
        if self.template is None:
            return self.question(row), answer
        return (self.template.render(messages=messages_of(row), question=self.question(row), answer=answer),)

    def _bounded(self, text: str) -> str:
        """Without what could never be read: ten million characters take a tokenizer a minute."""
        if len(text) <= self._max_characters or self.section.truncation == "refuse":
            return text
        most = self._max_characters
        return text[-most:] if self.section.truncation == "left" else text[:most]

    def _tokens(self, texts: Sequence[tuple[str, ...]]) -> list[TokenPair]:
        if not texts:
            return []
        found = self._call(texts)
        leaky = [i for i, pair in enumerate(found) if self._leaks(pair)]
        if leaky:  # the name of a special token is a word of this vocabulary too
            spaced = [
                tuple(self._marks.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text) for text in texts[i]) for i in leaky
            ]
            for i, pair in zip(leaky, self._call(spaced), strict=True):
                found[i] = pair
        return [TokenPair(pair["input_ids"], pair.get("token_type_ids")) for pair in found]

    def _call(self, texts: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        found = self.tokenizer(
            *([text[part] for text in texts] for part in range(len(texts[0]))),
            truncation=self.section.truncation != "refuse",
            max_length=None if self.section.truncation == "refuse" else self.max_tokens,
            split_special_tokens=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            return_token_type_ids=self._has_types,
            verbose=False,
        )
        return [{name: found[name][i] for name in found} for i in range(len(texts))]

    def _leaks(self, pair: dict[str, Any]) -> bool:
        """Whether a special token is there that the tokenizer did not add itself."""
        masked = zip(pair["input_ids"], pair["special_tokens_mask"], strict=True)
        return any(not is_added and token in self._specials for token, is_added in masked)


def _positions(config: PreTrainedConfig) -> int:
    limit = getattr(config, "max_position_embeddings", None)
    if not limit or limit < 0:
        return NO_LIMIT
    has_offset = any(name in config.model_type for name in OFFSET_POSITIONS)
    return limit - (config.pad_token_id or 0) - 1 if has_offset else limit
