"""The one config tree: frozen pydantic models that forbid unknown keys, filled from YAML and dotted overrides.

Nothing here imports Ray, torch or transformers, so a wrong key, type or path fails before anything heavy loads.
Every field's description gives its unit and the reason for its default; `jobs.align --help` prints them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from pipeline.config.cluster import ClusterConfig
from pipeline.section import Section
from pipeline.strategy_config import StrategyConfig


class GenerationConfig(Section):
    """How the policy draws tokens. A row's own `sampling_params` override these, field by field."""

    max_new_tokens: int = Field(128, ge=1, description="most tokens in one response, the end token included")
    temperature: float = Field(1.0, ge=0.0, le=100.0, description="softmax temperature; 0 is greedy")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="keep the most likely tokens up to this mass; 1 keeps all")
    top_k: int = Field(0, ge=0, lt=2**31, description="keep this many most likely tokens; 0 keeps all")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="texts that end a response; they and what follows are not part of it"
    )


class ModelConfig(Section):
    """One model and its precision."""

    backend: Literal["transformers", "fake"] = Field(
        "transformers", description="transformers runs a real model; fake is deterministic, of a known cost, no torch"
    )
    model: str = Field("", description="a folder, or a Hugging Face name")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="weights and cache")
    num_threads: int = Field(1, ge=1, description="CPU threads; at 1, logits depend least on a cohort's width")
    fake_call_ms: float = Field(0.0, ge=0.0, description="backend fake: fixed milliseconds per call")
    fake_row_ms: float = Field(0.0, ge=0.0, description="backend fake: milliseconds per row of a call")
    fake_token_ms: float = Field(0.0, ge=0.0, description="backend fake: milliseconds per token fed to catch up")

    @field_validator("model")
    @classmethod
    def _model_exists(cls, model: str, known: ValidationInfo) -> str:
        if known.data.get("backend") == "transformers":
            check_model_path(model)
        return model


class RewardConfig(ModelConfig):
    """The reward model: a sequence classifier with one label that shares the policy's tokenizer."""

    close_turn: Literal["never", "finished", "always"] = Field(
        "finished",
        description="when the assistant turn is closed before scoring: reward models are trained on closed turns, "
        "but closing a fragment tells the model that the answer ends there",
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


class DatasetConfig(Section):
    rows_per_shard: int | None = Field(
        None,
        ge=1,
        description="rows that travel, finish and are committed together; null: 16, or 8 for every cell, or a "
        "4,000th of the input if more: seven or so are written a second, and a kill costs the work of a few",
    )
    read_rows: int = Field(4096, ge=1, description="rows read by one task; a multiple of rows_per_shard works best")
    rows_per_file: int = Field(100_000, ge=1, description="rows of one output part file")


class AlignConfig(Section):
    """Everything `jobs.align` needs. `input` and `output` usually come from the command line."""

    input: str = Field(description="Parquet file, directory or glob; any filesystem pyarrow knows")
    output: str = Field(description="run directory: part-*.parquet, and _run/ beside them")
    id_column: str = Field("id", description="a row's id; the default may be absent: then file and row position")
    prompt_column: str = Field("prompt", description="text column; one of it and messages_column must exist")
    messages_column: str = Field("messages", description="list of {role, content}; wins where both are filled")
    sampling_params_column: str = Field("sampling_params", description="optional struct of generation knobs and seed")
    prompt_as: Literal["user_message", "raw"] = Field(
        "user_message", description="a text prompt is one user turn of the chat template, or goes in as it is"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="run seed of every draw")
    max_rows: int | None = Field(None, ge=1, description="stop after so many input rows; null: all")
    max_error_rows: int | None = Field(
        None, ge=0, description="more error rows than this exit 3; null: any number is fine"
    )
    baseline_rows: int = Field(
        0, ge=0, description="first rows decoded plainly too, to show the mean reward against vanilla"
    )
    keep_rejected: bool = Field(
        False,
        description="add the column `candidates`: every candidate that was judged, kept or rejected; jobs.export_pairs "
        "makes preference pairs of them",
    )
    judge: Literal["embedded"] | None = Field(None, description="a judge of text for the summary's win-rate")
    policy: ModelConfig
    reward: RewardConfig
    generation: GenerationConfig = GenerationConfig()
    strategy: StrategyConfig
    cluster: ClusterConfig = ClusterConfig()
    engine: EngineConfig = EngineConfig()
    coordinator: CoordinatorConfig = CoordinatorConfig()
    dataset: DatasetConfig = DatasetConfig()

    @field_validator("input", "output")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "AlignConfig":
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
        if (self.policy.backend == "fake") != (self.reward.backend == "fake"):
            raise ValueError("policy.backend and reward.backend must both be fake, or neither")
        return self


def check_model_path(model: str) -> None:
    """A model is an existing folder with a config.json, or a Hugging Face name (at most one slash)."""
    if not model:
        raise ValueError("must be a folder or a Hugging Face name")
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"model folder {model!r} holds no config.json")
    elif model.startswith((".", "/", "~")) or model.count("/") > 1 or path.exists():
        raise ValueError(f"model folder {model!r} does not exist")


def field_paths(section: type[BaseModel] = AlignConfig, prefix: str = "") -> dict[str, Any]:
    """Every dotted field path of the tree with its pydantic FieldInfo; a union contributes all its members, and `*`
    stands for the keys of a mapping."""
    paths: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        paths[prefix + name] = info
        below = f"{prefix}{name}.*." if get_origin(info.annotation) is dict else f"{prefix}{name}."
        for member in _sections_of(info.annotation):
            paths |= field_paths(member, below)
    return paths


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for member in getattr(annotation, "__args__", ()) for s in _sections_of(member)]
