"""The kinds of rewards, one section each, told apart by `kind`; how each scores is in the file of its name under
`actors/rewards/`.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag

from pipeline.config.called_rewards import FunctionReward, JudgeReward
from pipeline.config.model import ModelConfig
from pipeline.config.reward_section import RewardSection

CloseTurn = Literal["never", "finished", "always"]


class ClassifierReward(ModelConfig, RewardSection):
    """A decoder with a classification head: the logit at the last token."""

    kind: Literal["classifier"] = "classifier"
    close_turn: CloseTurn = Field(
        "finished",
        description="when the assistant turn is closed before scoring: reward models are trained on closed turns, "
        "but closing a fragment tells the model that the answer ends there",
    )

    @property
    def is_fake(self) -> bool:
        return self.backend == "fake"

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        return (self,)


REWARD_SECTIONS: tuple[type[RewardSection], ...] = (ClassifierReward, FunctionReward, JudgeReward)
DEFAULT_KIND = "classifier"


def kind_of(section: type[RewardSection]) -> str:
    return section.model_fields["kind"].default


def _kind(value: Any) -> str:
    """A reward without a kind is a classifier."""
    return value.get("kind", DEFAULT_KIND) if isinstance(value, dict) else getattr(value, "kind", DEFAULT_KIND)


if TYPE_CHECKING:
    RewardConfig = RewardSection
else:
    RewardConfig = Annotated[
        Union[tuple(Annotated[section, Tag(kind_of(section))] for section in REWARD_SECTIONS)],  # noqa: UP007
        Discriminator(_kind),
    ]
