"""Decoding strategies: a file each, with its knobs and its one short async function, listed here and nowhere else."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from pipeline.strategies.adasearch import AdaSearchConfig, adasearch
from pipeline.strategies.best_of_n import BestOfNConfig, best_of_n
from pipeline.strategies.blockwise_best_of_k import BlockwiseBestOfKConfig, blockwise_best_of_k
from pipeline.strategies.cards import CardsConfig, cards
from pipeline.strategies.reservation import ReservationConfig, reservation
from pipeline.strategies.segment_beam import SegmentBeamConfig, segment_beam
from pipeline.strategies.speculative_rejection import SpeculativeRejectionConfig, speculative_rejection
from pipeline.strategies.stars import StarsConfig, stars
from pipeline.strategies.strategy_section import StrategySection
from pipeline.strategies.task import Strategy, Task
from pipeline.strategies.vanilla import VanillaConfig, vanilla

ALL: dict[type[StrategySection], Strategy] = {
    StarsConfig: stars,
    VanillaConfig: vanilla,
    BestOfNConfig: best_of_n,
    ReservationConfig: reservation,
    CardsConfig: cards,
    BlockwiseBestOfKConfig: blockwise_best_of_k,
    SegmentBeamConfig: segment_beam,
    AdaSearchConfig: adasearch,
    SpeculativeRejectionConfig: speculative_rejection,
}
STRATEGIES: dict[str, Strategy] = {section.model_fields["name"].default: strategy for section, strategy in ALL.items()}

if TYPE_CHECKING:
    StrategyConfig = StrategySection
else:
    StrategyConfig = Annotated[Union[tuple(ALL)], Field(discriminator="name")]  # noqa: UP007

__all__ = ["STRATEGIES", "Strategy", "StrategyConfig", "Task"]
