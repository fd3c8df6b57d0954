"""The config of `jobs.benchmark`. It imports neither Ray nor torch."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.align import AlignConfig
from pipeline.config.model import check_model_path
from pipeline.section import Section

Size = Literal["tiny", "5M", "30M", "110M", "1B", "7B"]
ContenderName = Literal[
    "pipeline",
    "recompute",
    "recompute_batched",
    "generate_per_segment",
    "generate_per_segment_batched",
    "plain",
    "policy_part",
    "generate_batch",
    "vllm",
]
ALL_CONTENDERS: tuple[ContenderName, ...] = ContenderName.__args__  # type: ignore[attr-defined]
FORCED_BETA = 1e6  # so large that rewards do not matter: the threshold alone fixes the acceptance
ENDLESS_ATTEMPTS = 10_000


class OwnModel(Section):
    """The user's own model in place of random weights."""

    model: str | None = Field(None, description="a folder, or a Hugging Face name; null: random weights of `size`")

    @field_validator("model")
    @classmethod
    def _model_exists(cls, model: str | None) -> str | None:
        if model is not None:
            check_model_path(model)
        return model


class BenchmarkConfig(Section):
    """What `jobs.benchmark` measures. Acceptance is forced, so weights do not matter for the figures."""

    output: str = Field("outputs/benchmark", description="folder for benchmark.json and benchmark.png")
    size: Size = Field("5M", description="parameters of the random Llama-shaped policy, and of the reward model")
    policy: OwnModel = OwnModel()
    reward: OwnModel = OwnModel()
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="weights and cache of every contender")
    contenders: tuple[ContenderName, ...] = Field(ALL_CONTENDERS, min_length=1, description="which ones take part")
    num_prompts: int = Field(64, ge=1, description="prompts of a round; more than `slots` also shows refilling")
    prompt_tokens_min: int = Field(64, ge=1, description="tokens of the shortest prompt; lengths are evenly spread")
    prompt_tokens_max: int = Field(256, ge=1, description="tokens of the longest prompt")
    max_new_tokens: int = Field(128, ge=1, description="tokens of every response: nothing ends early")
    segment_size: int = Field(16, ge=1, description="tokens in one segment (B); divides max_new_tokens")
    acceptance: float = Field(0.5, gt=0.0, le=1.0, description="probability that a segment is accepted, by a coin")
    top_k: int = Field(0, ge=0, description="keep this many most likely tokens when drawing; 0 keeps all")
    proposals_per_round: tuple[int, ...] = Field(
        (1, 2), min_length=1, description="the pipeline runs once with each; more than 1 fills slots left idle"
    )
    slots: int = Field(64, ge=1, description="prompts in flight at once, in every contender but the references")
    rounds: int = Field(5, ge=1, description="measured rounds; the contenders alternate within each")
    warmup_rounds: int = Field(1, ge=0, description="rounds before the measured ones, which are thrown away")
    reference_prompts: int = Field(
        2, ge=1, description="prompts of a round for one-at-a-time references: they are slow"
    )
    reference_batch: int = Field(8, ge=1, description="prompts, and rows of the batch, for batched references")
    time_limit_s: float = Field(
        120.0,
        gt=0.0,
        description="a contender that works in lockstep stops its round after so long, and is charged "
        "for what it has done: early segments are short ones, so this flatters it",
    )
    num_threads: int = Field(
        2,
        ge=1,
        description="the CPU share: half for the pipeline's policy and for contenders of the policy alone, "
        "the other half for its reward model; contenders of both models in one process get all",
    )
    num_gpus: float = Field(0.02, gt=0.0, description="share of a GPU that each process asks for, where there is one")
    vllm_python: str | None = Field(None, description="interpreter that has vllm; null: this one, if it has")
    vllm_cache_gb: int = Field(1, ge=1, description="vLLM on CPUs: its key/value cache")
    vllm_gpu_fraction: float = Field(0.3, gt=0.0, le=1.0, description="vLLM on a GPU: the share of memory it takes")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of weights, prompts and coins")

    @field_validator("vllm_python")
    @classmethod
    def _interpreter_exists(cls, path: str | None) -> str | None:
        if path is not None and not Path(path).is_file():
            raise ValueError("no such interpreter")
        return path

    @field_validator("proposals_per_round")
    @classmethod
    def _at_least_one(cls, proposals: tuple[int, ...]) -> tuple[int, ...]:
        if min(proposals) < 1:
            raise ValueError("must be at least 1")
        return proposals

    @model_validator(mode="after")
    def _fits_together(self) -> "BenchmarkConfig":
        if self.prompt_tokens_max < self.prompt_tokens_min:
            raise ValueError(
                f"prompt_tokens_max = {self.prompt_tokens_max} is less than "
                f"prompt_tokens_min = {self.prompt_tokens_min}"
            )
        if self.max_new_tokens % self.segment_size:
            raise ValueError(
                f"segment_size = {self.segment_size} must divide max_new_tokens = {self.max_new_tokens}, so that all "
                "segments are alike"
            )
        if Path(self.output).is_file():
            raise ValueError(f"output = {self.output!r} is a file")
        return self

    @property
    def num_segments(self) -> int:
        return self.max_new_tokens // self.segment_size

    @property
    def max_model_len(self) -> int:
        return self.prompt_tokens_max + self.max_new_tokens

    @property
    def policy_threads(self) -> int:
        return max(1, self.num_threads // 2)

    @property
    def reward_threads(self) -> int:
        return max(1, self.num_threads - self.policy_threads)

    def pipeline(self, proposals: int, policy_model: str, reward_model: str) -> AlignConfig:
        """The pipeline's own config with forced acceptance: tau = r* = -beta ln(acceptance), far above any reward."""
        models = {
            "policy": {"model": policy_model, "dtype": self.dtype, "num_threads": self.policy_threads},
            "reward": {
                "model": reward_model,
                "dtype": self.dtype,
                "num_threads": self.reward_threads,
                "close_turn": "never",
            },
        }
        strategy = {
            "name": "stars",
            "segment_size": self.segment_size,
            "max_attempts": ENDLESS_ATTEMPTS,
            "alpha": 1.0,
            "beta": FORCED_BETA,
            "reward_threshold": -FORCED_BETA * math.log(self.acceptance),
            "proposals_per_round": proposals,
        }
        return AlignConfig.model_validate(
            models
            | {
                "input": "-",
                "output": "-",
                "seed": self.seed,
                "generation": {"max_new_tokens": self.max_new_tokens, "top_k": self.top_k},
                "strategy": strategy,
                "engine": {"slots": self.slots, "max_model_len": self.max_model_len},
            }
        )
