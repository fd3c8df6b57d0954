"""The knobs of every strategy: one section a strategy, told apart by `name`, listed in `StrategyConfig`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.section import Fraction, Section

DRAWS = (
    "max_attempts",
    "n",
    "k",
    "budget",
    "proposals_per_round",
    "lanes",
)  # knobs that set how often a token is drawn


class StrategySection(Section):
    """What all strategies have."""

    @property
    def num_lanes(self) -> int:
        """Streams of proposals that one row holds at once; each takes a slot."""
        return 1

    @property
    def max_draws(self) -> int:
        """Most times that a token of the response is drawn: what a row may cost, beside its length."""
        return max([1, *(getattr(self, name) for name in DRAWS if name in type(self).model_fields)])


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


class TransitionConfig(Section):
    """The law of the next prefix reward R given the present one r at one segment position, in reward units."""

    intercept: float = Field(description="a of R ~ N(a + b·r, s)")
    slope: float = Field(description="b")
    deviation: float = Field(gt=0.0, description="s")


class ReservationConfig(StrategySection):
    """Reservation values: a segment is drawn again as long as one more proposal is worth its price."""

    name: Literal["reservation"] = "reservation"
    segment_size: int = Field(16, ge=1, description="tokens in one segment (B)")
    max_attempts: int = Field(20, ge=1, description="proposals of a segment before the best one is kept (M)")
    price: float = Field(gt=0.0, description="what one proposed token may cost, in reward units; lower is choosier")
    transitions: tuple[TransitionConfig, ...] = Field(
        min_length=1, description="one per segment position, measured by jobs.calibrate; the last serves all later ones"
    )
    proposals_per_round: int = Field(2, ge=1, description="as for stars")

    @property
    def beta(self) -> float:
        return 0.0


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


class CardsConfig(StrategySection):
    """CARDS, arXiv 2406.16306: STARS with segments that end before the first token the policy is unsure of."""

    name: Literal["cards"] = "cards"
    segment_size: int = Field(64, ge=1, description="most tokens in one segment")
    min_segment_size: int = Field(4, ge=1, description="fewest tokens in one segment that does not end the response")
    entropy_threshold: float = Field(
        3.0, gt=0.0, description="a segment ends before a token of at least this entropy (raw softmax), in nats"
    )
    max_attempts: int = Field(21, ge=1, description="proposals of a segment before the best one is kept")
    alpha: Fraction = Field(0.5, description="where the threshold line starts: 0 at the prompt's reward, 1 at r*")
    beta: float = Field(0.7, ge=0.0, description="softness of the rule, in reward units; 0 accepts exactly at or above")
    reward_threshold: float = Field(description="r*, the reward a whole response should reach, in reward units")
    proposals_per_round: int = Field(2, ge=1, description="candidates drawn at once, in slots that no other row wants")


class BlockwiseBestOfKConfig(StrategySection):
    """Blockwise best-of-K: every segment is the best of K candidates."""

    name: Literal["blockwise_best_of_k"] = "blockwise_best_of_k"
    segment_size: int = Field(16, ge=1, description="tokens in one segment")
    k: int = Field(4, ge=1, description="candidates of each segment")

    @property
    def num_lanes(self) -> int:
        return self.k


class SegmentBeamConfig(StrategySection):
    """Segment beam: after every segment the best few responses so far go on, in several continuations each."""

    name: Literal["segment_beam"] = "segment_beam"
    segment_size: int = Field(16, ge=1, description="tokens in one segment")
    n: int = Field(8, ge=1, description="responses looked at after each segment, each in a slot")
    beam_width: int = Field(2, ge=1, description="how many of them go on; at most n")

    @model_validator(mode="after")
    def _beam_fits(self) -> "SegmentBeamConfig":
        if self.beam_width > self.n:
            raise ValueError(f"beam_width = {self.beam_width} is more than n = {self.n}")
        return self

    @property
    def num_lanes(self) -> int:
        return self.n


class AdaSearchConfig(StrategySection):
    """AdaSearch, arXiv 2510.23334: blockwise best-of-K with most candidates early."""

    name: Literal["adasearch"] = "adasearch"
    segment_size: int = Field(16, ge=1, description="tokens in one segment")
    budget: int = Field(32, ge=1, description="candidates over max_new_tokens; each segment has at least one")
    decay: float = Field(0.4, ge=0.0, description="candidates fall as exp(-decay · segment); 0 spreads them evenly")
    lanes: int = Field(4, ge=2, description="candidates drawn at once, each in a slot; changes no response")

    @property
    def num_lanes(self) -> int:
        return self.lanes


class SpeculativeRejectionConfig(StrategySection):
    """Speculative rejection, arXiv 2410.20290: N responses begin, the worst are dropped after every segment."""

    name: Literal["speculative_rejection"] = "speculative_rejection"
    segment_size: int = Field(16, ge=1, description="tokens between two rejections")
    n: int = Field(8, ge=1, description="responses that begin")
    rejected_fraction: float = Field(0.5, ge=0.0, lt=1.0, description="share of the responses dropped after a segment")

    @property
    def num_lanes(self) -> int:
        return self.n


StrategyConfig = Annotated[
    StarsConfig
    | VanillaConfig
    | BestOfNConfig
    | ReservationConfig
    | CardsConfig
    | BlockwiseBestOfKConfig
    | SegmentBeamConfig
    | AdaSearchConfig
    | SpeculativeRejectionConfig,
    Field(discriminator="name"),
]
