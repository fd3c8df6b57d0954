"""The rewards that are a model of transformers, one section a kind: what the model is, what it reads, where its score
is.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline.config.model import ModelConfig
from pipeline.config.reward_section import RewardSection
from pipeline.section import Section

CloseTurn = Literal["never", "finished", "always"]
Label = int | str


class RewardModel(ModelConfig, RewardSection):
    """One model, loaded by transformers."""

    trust_remote_code: bool = Field(
        False, description="run the Python code in the model's folder or repository: it may do anything, so read it"
    )
    attn_implementation: str | None = Field(
        None,
        description="null: our attention, which computes a token once; eager, sdpa or another of transformers': the "
        "model as it is, which reads the whole conversation at every call",
    )
    model_kwargs: dict[str, Any] = Field(
        {}, description="further arguments of from_pretrained, such as {quantization_config: {...}}"
    )
    template: str | None = Field(
        None, description="a file with a Jinja template, in place of the model's own; what it is given depends on kind"
    )
    drop_system: bool = Field(
        False, description="leave system messages out: the model was trained without, or its template refuses them"
    )

    @property
    def trusts_code(self) -> bool:
        return self.trust_remote_code

    @field_validator("template")
    @classmethod
    def _template_exists(cls, template: str | None) -> str | None:
        if template is not None and not Path(template).expanduser().is_file():
            raise ValueError(f"no such file: {template!r}")
        return template

    @model_validator(mode="after")
    def _has_a_fake(self) -> "RewardModel":
        if self.backend == "fake" and self.kind != "classifier":
            raise ValueError(f"kind {self.kind} has no backend fake")
        return self

    @property
    def is_fake(self) -> bool:
        return self.backend == "fake"

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        return (self,)

    @property
    def files(self) -> tuple[str, ...]:
        return () if self.template is None else (self.template,)


class Labels(Section):
    """Which of a classifier's logits count."""

    label: Label | tuple[Label, Label] | None = Field(
        None,
        description="whose logit is the reward: a name or a number of the model's own config; two are [good, bad], "
        "their log-odds; null for a model of one label",
    )
    label_weights: dict[str, float] = Field(
        {}, description="in place of label: the reward is the sum of these labels' logits, so weighted"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "Labels":
        if self.label is not None and self.label_weights:
            raise ValueError("give label or label_weights, not both")
        return self

    @property
    def weights(self) -> tuple[tuple[Label, float], ...]:
        """Labels and weights; none where the model has one label."""
        if isinstance(self.label, tuple):
            return ((self.label[0], 1.0), (self.label[1], -1.0))
        if self.label is not None:
            return ((self.label, 1.0),)
        return tuple(self.label_weights.items())


class ClassifierReward(RewardModel, Labels):
    """A decoder with a classification head: the logit at the last token. `template` is a chat template, given
    `messages`."""

    kind: Literal["classifier"] = "classifier"
    close_turn: CloseTurn = Field(
        "finished",
        description="when the assistant turn is closed before scoring: reward models are trained on closed turns, "
        "but closing a fragment tells the model that the answer ends there",
    )


class EncoderReward(RewardModel, Labels):
    """An encoder with a classification head, such as BERT or DeBERTa: `tokenizer(question, answer)`, or one text, which
    `template` makes of `question`, `answer` and `messages`. The question of several messages has a line for each."""

    kind: Literal["encoder"] = "encoder"
    max_tokens: int | None = Field(
        None, ge=8, description="most tokens of question and answer; null: what tokenizer and positions allow"
    )
    truncation: Literal["left", "right", "refuse"] = Field(
        "left",
        description="what is longer: left keeps the ends of question and answer, right their beginnings, so that a "
        "long answer's new segments change nothing; refuse makes an error row",
    )


class TokenLogitReward(RewardModel):
    """A language model that judges: `template` asks it about a response, and the reward is the logit of a word in the
    place of its answer, less that of another. The template is given `messages`, `prompt` (the last message) and
    `response`, which it writes once and unchanged."""

    kind: Literal["token_logit"] = "token_logit"
    template: str = Field(description="a file with a Jinja template: what the model is asked")
    wrap: Literal["user_message", "raw"] = Field(
        "user_message", description="the text is a user turn of the model's chat template, or all there is"
    )
    word: str | int = Field("Yes", description="the word whose logit counts; a number is a token of the vocabulary")
    other_word: str | int | None = Field("No", description="the word whose logit is subtracted; null: none")


class HeadModel(RewardModel):
    """A body with a head of a name of its own."""

    model_class: str | None = Field(
        None,
        description="the model's class, as file.py:Name or module:Name; null: the repository's own, if "
        "trust_remote_code is on, else transformers'",
    )

    @field_validator("model_class")
    @classmethod
    def _file_exists(cls, name: str | None) -> str | None:
        return _checked_import_path(name)

    @property
    def files(self) -> tuple[str, ...]:
        return (*super().files, *_code_files(self.model_class))


class CustomHeadReward(HeadModel, Labels):
    """A body and a head by name or by class, read at the last token; or whatever the model's own forward gives.
    `template` is a chat template, given `messages`."""

    kind: Literal["custom_head"] = "custom_head"
    head: str = Field(
        "v_head", description="the head's name in the model, or, with head_class, of its weights in the checkpoint"
    )
    head_class: str | None = Field(
        None, description="a class made of the model's config, as file.py:Name or module:Name, to put on a plain body"
    )
    output: str | None = Field(
        None,
        description="read this field of the model's own output instead, such as score; nothing is kept between calls",
    )
    last_token: str | int | None = Field(
        None, description="a token put after everything; null: reward_token_id of the model's config if it has one"
    )
    close_turn: CloseTurn = Field("finished", description=ClassifierReward.model_fields["close_turn"].description)

    @field_validator("head_class")
    @classmethod
    def _head_file_exists(cls, name: str | None) -> str | None:
        return _checked_import_path(name)

    @model_validator(mode="after")
    def _one_way(self) -> "CustomHeadReward":
        if self.head_class is not None and (self.model_class is not None or self.output is not None):
            raise ValueError("head_class is put on a plain body: give no model_class and no output beside it")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        return (*super().files, *_code_files(self.head_class))


class ProcessReward(HeadModel):
    """A model that judges step by step: a classifier of tokens, or a language model by two words, read at a mark after
    each step. `template` is a chat template, given `messages`."""

    kind: Literal["process"] = "process"
    step_separator: str = Field("\n\n", min_length=1, description="what the policy writes between two steps")
    mark: str = Field(
        min_length=1,
        description="written after each step in the separator's place, the unfinished one too, and read at its end",
    )
    joint: str = Field("", description="written between a mark and the next step")
    tokenise: Literal["whole", "apart"] = Field(
        "whole", description="as one text, or each step and each mark by itself, as TRL's trainer does"
    )
    words: tuple[str | int, str | int] | None = Field(
        None, description="[good, bad] words of a language model, such as ['+', '-']; null: a classifier of tokens"
    )
    label: Label | None = Field(None, description="a token classifier's label of a good step; null: the last one")
    head: str = Field("score", description="the head's name in the model")
    aggregation: Literal["last", "min", "mean", "product"] = Field(
        "last", description="from the steps' probabilities to the reward"
    )

    @field_validator("joint")
    @classmethod
    def _is_no_mark(cls, joint: str, known: ValidationInfo) -> str:
        if joint and joint == known.data.get("mark"):
            raise ValueError("must not be the mark, at which steps end")
        return joint


def _checked_import_path(name: str | None) -> str | None:
    if name is None:
        return None
    place, separator, attribute = name.rpartition(":")
    if not separator or not attribute.isidentifier():
        raise ValueError("must be file.py:Name or module:Name")
    if place.endswith(".py") and not Path(place).expanduser().is_file():
        raise ValueError(f"no such file: {place!r}")
    return name


def _code_files(name: str | None) -> tuple[str, ...]:
    place = (name or "").rpartition(":")[0]
    return (place,) if place.endswith(".py") else ()
