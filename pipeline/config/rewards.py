"""The kinds of rewards, one section each, told apart by `kind`; how each scores is in the file of its name under
`actors/rewards/`.
"""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag

from pipeline.config.called_rewards import FunctionReward, JudgeReward
from pipeline.config.model_rewards import (
    ClassifierReward,
    CustomHeadReward,
    EncoderReward,
    ProcessReward,
    TokenLogitReward,
)
from pipeline.config.reward_section import RewardSection

REWARD_SECTIONS: tuple[type[RewardSection], ...] = (
    ClassifierReward,
    EncoderReward,
    TokenLogitReward,
    CustomHeadReward,
    ProcessReward,
    FunctionReward,
    JudgeReward,
)
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
