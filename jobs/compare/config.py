"""The config of a comparison: one base tree, contenders that override parts of it, judges, and how to count.

The YAML holds partial trees (`base`, `contenders.*`, `judges.*`); `jobs.compare.loading` turns them into sections.
Nothing here imports Ray, torch or matplotlib.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from pipeline.config.model import ModelConfig
from pipeline.config.model_rewards import ClassifierReward, CloseTurn
from pipeline.section import Section

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Tree = dict[str, Any]


class ContenderConfig(Section):
    """Overrides of the base's sections, or `output`: runs that exist already."""

    strategy: Tree | None = Field(
        None, description="keys over base.strategy; with another `name` it replaces that section"
    )
    policy: Tree | None = Field(None, description="keys over base.policy, such as `model`")
    generation: Tree | None = Field(None, description="keys over base.generation")
    output: tuple[str, ...] | None = Field(
        None, description="instead of the above: output directories of finished jobs.align runs, one a seed"
    )

    @field_validator("output", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "ContenderConfig":
        if self.output is not None and (self.strategy or self.policy or self.generation):
            raise ValueError("output names runs that exist; it takes no strategy, policy or generation")
        if self.output == ():
            raise ValueError("output names no run")
        return self


class EmbeddedJudge(Section):
    """The embedded world's own judge: closed form, seen by no model."""

    kind: Literal["embedded"]


class RewardModelJudge(ModelConfig):
    """Any reward model, through the reward engine and with its own chat template."""

    kind: Literal["reward_model"]
    close_turn: CloseTurn = ClassifierReward.model_fields["close_turn"]
    num_gpus: float | None = Field(
        None, ge=0.0, le=1.0, description="of one GPU, the judge's share; null: all of it where there is one"
    )
    rows_per_call: int = Field(32, ge=1, description="responses scored in one call")
    max_model_len: int | None = Field(None, ge=2, description="most tokens of prompt + response; null: the model's own")


class LlmJudge(Section):
    """A language model behind an OpenAI-compatible endpoint says which of two answers is better."""

    kind: Literal["llm"]
    base_url: str = Field(description="the endpoint up to /v1, such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the model's name there")
    api_key_env: str | None = Field(None, description="environment variable that holds the key; null: none is sent")
    max_tokens: int = Field(512, ge=1, description="most tokens of a verdict, thoughts included")
    temperature: float = Field(0.0, ge=0.0, description="of the judge; 0 is greedy")
    parallel_calls: int = Field(8, ge=1, description="requests in flight")
    timeout_s: float = Field(120.0, gt=0.0, description="seconds until a request counts as failed")
    max_tries: int = Field(5, ge=1, description="tries of a request that fails by the server or the network")
    seed: int = Field(0, ge=0, description="decides, prompt by prompt, which answer is shown first")

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url.rstrip("/")


JudgeConfig = EmbeddedJudge | RewardModelJudge | LlmJudge
JUDGE_KINDS: dict[str, type[EmbeddedJudge] | type[RewardModelJudge] | type[LlmJudge]] = {
    "embedded": EmbeddedJudge,
    "reward_model": RewardModelJudge,
    "llm": LlmJudge,
}


class CompareConfig(Section):
    """Everything `jobs.compare` needs."""

    output: str = Field(min_length=1, description="folder of the report; the runs go to runs/NAME-SEED in it")
    base: Tree = Field({}, description="the config of jobs.align that all contenders share, without output and seed")
    contenders: dict[Name, ContenderConfig] = Field(min_length=1, description="what is compared, by name")
    baseline: str | None = Field(None, description="the contender that win-rates are against; null: the first one")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (0,), min_length=1, description="run seeds: every contender runs once with each"
    )
    judges: dict[Name, Tree] = Field(
        {},
        description=f"judges by name, each with a kind of {', '.join(JUDGE_KINDS)}; the first one decides the verdict",
    )
    bootstrap_draws: int = Field(10_000, ge=100, description="resamples of the prompts behind every interval")
    bootstrap_seed: int = Field(0, ge=0, description="seed of the resamples")
    num_examples: int = Field(3, ge=0, description="examples a contender where judge and reward model disagree most")
    dataset_name: str | None = Field(None, description="`dataset` in alpaca_eval's format; null: the input's name")

    @model_validator(mode="after")
    def _fits_together(self) -> "CompareConfig":
        if self.baseline is not None and self.baseline not in self.contenders:
            raise ValueError(f"baseline {self.baseline!r} is none of the contenders {', '.join(self.contenders)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds names one seed twice")
        if "reward" in self.judges:
            raise ValueError("judges.reward: the name stands for the reward model that steers; choose another")
        return self

    @property
    def baseline_name(self) -> str:
        return self.baseline or next(iter(self.contenders))
