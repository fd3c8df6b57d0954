"""How prompts become responses: the sections of the config that every front shares, the batch job, the server, Python.

Every field's description gives its unit and the reason for its default.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.cluster import ClusterConfig
from pipeline.config.model import ModelConfig
from pipeline.config.rewards import RewardConfig
from pipeline.section import Section
from pipeline.strategies import StrategyConfig

PromptAs = Literal["user_message", "raw"]


class GenerationConfig(Section):
    """How the policy draws tokens. A row's own `sampling_params` override these, field by field."""

    max_new_tokens: int = Field(128, ge=1, description="most tokens in one response, the end token included")
    temperature: float = Field(1.0, ge=0.0, le=100.0, description="softmax temperature; 0 is greedy")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="keep the most likely tokens up to this mass; 1 keeps all")
    top_k: int = Field(0, ge=0, lt=2**31, description="keep this many most likely tokens; 0 keeps all")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="texts that end a response; they and what follows are not part of it"
    )


class EngineConfig(Section):
    """The slot cache, the same shape for both models."""

    slots: int | None = Field(
        None,
        ge=1,
        description="prompts (lanes) in flight at once, each with its own cache; null: 64, or as many as free memory "
        "holds if fewer",
    )
    max_model_len: int | None = Field(
        None,
        ge=2,
        description="most tokens of prompt + response; null: the smaller of the two models' own limits, or as many as "
        "free memory holds for the slots if fewer (where slots is null too, those go down to 16 first)",
    )
    prefill_chunk: int = Field(512, ge=1, description="most tokens of one row in one forward; longer ones go in chunks")


class CoordinatorConfig(Section):
    cohorts_in_flight: int = Field(2, ge=1, description="1 is serial; 2 keep both models busy")
    max_cohort_size: int | None = Field(None, ge=1, description="most rows of one model call; null: no limit but slots")
    call_timeout_s: float = Field(
        600.0,
        gt=0.0,
        description="a model or coordinator silent for so long, loading aside, is killed and started again; the run "
        "fails if that does not help three times in a row",
    )


class Decoding(Section):
    """What decides how a prompt becomes a response, wherever prompts come from: a dataset, a server, Python."""

    policy: ModelConfig
    reward: RewardConfig
    generation: GenerationConfig = GenerationConfig()
    strategy: StrategyConfig
    cluster: ClusterConfig = ClusterConfig()
    engine: EngineConfig = EngineConfig()
    coordinator: CoordinatorConfig = CoordinatorConfig()
    seed: int = Field(0, ge=0, lt=2**63, description="run seed of every draw")
    prompt_as: PromptAs = Field(
        "user_message", description="a text prompt is one user turn of the chat template, or goes in as it is"
    )
    keep_rejected: bool = Field(
        False,
        description="add the column `candidates`: every candidate that was judged, kept or rejected; jobs.export_pairs "
        "makes preference pairs of them",
    )

    def loaded_as(self, loaded: "Decoding") -> Self:
        """This, with the models and the engine that another one was loaded with."""
        return self.model_copy(update={name: getattr(loaded, name) for name in ("policy", "reward", "engine")})

    @property
    def are_fake(self) -> bool:
        """Whether the models are fakes, which need no GPU and no memory to speak of."""
        return self.policy.backend == "fake"

    @property
    def want_gpus(self) -> tuple[bool, bool]:
        """Whether the policy and the reward take a GPU where there is one."""
        return not self.are_fake, bool(self.reward.models) and not self.reward.is_fake

    @property
    def reply_folder(self) -> str | None:
        """Where a reward may keep what it has paid for; None for nowhere."""
        return None

    @property
    def slots_per_cell(self) -> int:
        """Slots of all policies of a cell; `engine.slots` must be set."""
        assert self.engine.slots is not None
        return self.engine.slots * self.cluster.policies_per_cell

    @property
    def reward_engine(self) -> EngineConfig:
        """The engine of each reward actor, whose slots are its share of the cell's; `engine.slots` must be set."""
        assert self.engine.slots is not None
        return self.engine.model_copy(update={"slots": self.cluster.slots_per_reward(self.engine.slots)})

    @model_validator(mode="after")
    def _fits_together(self) -> "Decoding":
        slots = self.engine.slots
        lanes = self.strategy.num_lanes
        if slots is not None and lanes > slots:
            raise ValueError(f"strategy {self.strategy.name} needs {lanes} engine.slots a prompt; there are {slots}")
        limit = self.engine.max_model_len
        if limit is not None and self.generation.max_new_tokens >= limit:
            raise ValueError(
                f"generation.max_new_tokens = {self.generation.max_new_tokens} leaves no room for a prompt "
                f"in engine.max_model_len = {limit}"
            )
        if self.reward.models and self.are_fake != self.reward.is_fake:
            raise ValueError("policy.backend and reward.backend must both be fake, or neither")
        if self.reward.longest_call_s >= self.coordinator.call_timeout_s:
            raise ValueError(
                f"a call of the reward may take {self.reward.longest_call_s:g} s by its own limits, but after "
                f"coordinator.call_timeout_s = {self.coordinator.call_timeout_s:g} its actor counts as hung; lower "
                "reward.timeout_s, or raise the other"
            )
        return self
