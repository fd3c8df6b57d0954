"""The rewards that are a model of transformers, one section a kind: what the model is, what it reads, where its score
is.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

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
