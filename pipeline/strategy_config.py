"""The knobs of every strategy: one section a strategy, told apart by `name`, listed in `StrategyConfig`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.section import Fraction, Section


class StrategySection(Section):
    """What all strategies have."""

    @property
    def num_lanes(self) -> int:
        """Streams of proposals that one row holds at once; each takes a slot."""
        return 1


class StarsConfig(StrategySection):
    """STARS, arXiv 2511.03827; the knobs keep the paper's names."""

    name: Literal["stars"] = "stars"
    segment_size: int = Field(16, ge=1, description="tokens in one segment (B)")
    max_attempts: int = Field(20, ge=1, description="proposals of a segment before the best one is kept (M)")
    alpha: Fraction = Field(0.5, description="where the threshold line starts: 0 at the prompt's reward, 1 at r*")
    beta: float = Field(0.7, ge=0.0, description="softness of the rule, in reward units; 0 accepts exactly at or above")
    reward_threshold: float = Field(description="r*, the reward a whole response should reach, in reward units")
    proposals_per_round: int = Field(
        2,
        ge=1,
        description="candidates of a segment drawn at once, in slots that no other row wants; they are judged in draw "
        "order, so no response changes: less waiting for more tokens",
    )


class VanillaConfig(StrategySection):
    """Plain sampling: one response, nothing rejected. Its reward is measured once, at the end."""

    name: Literal["vanilla"] = "vanilla"
    segment_size: int = Field(16, ge=1, description="tokens per model call; changes no draw within a segment")


class BestOfNConfig(StrategySection):
    """Best-of-N: N whole responses, the one of highest reward is kept."""

    name: Literal["best_of_n"] = "best_of_n"
    n: int = Field(8, ge=1, description="responses drawn per prompt")
    segment_size: int = Field(16, ge=1, description="tokens per model call; changes no draw within a segment")

    @property
    def num_lanes(self) -> int:
        return self.n


StrategyConfig = Annotated[StarsConfig | VanillaConfig | BestOfNConfig, Field(discriminator="name")]
