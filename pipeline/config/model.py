"""The section of one model: what it is, where it runs, in which precision."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.section import HIDDEN, Section


class ModelConfig(Section):
    """One model and its precision."""

    # the keys that decide no token and no score
    throughput_only: ClassVar[frozenset[str]] = frozenset(
        {"num_threads", "fake_call_ms", "fake_row_ms", "fake_token_ms"}
    )

    backend: Literal["transformers", "fake"] = Field(
        "transformers", description="transformers runs a real model; fake is deterministic, of a known cost, no torch"
    )
    model: str = Field("", description="a folder, or a Hugging Face name")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="weights and cache")
    num_threads: int = Field(1, ge=1, description="CPU threads; at 1, logits depend least on a cohort's width")
    fake_call_ms: float = Field(
        0.0, ge=0.0, description="backend fake: fixed milliseconds per call", json_schema_extra=HIDDEN
    )
    fake_row_ms: float = Field(
        0.0, ge=0.0, description="backend fake: milliseconds per row of a call", json_schema_extra=HIDDEN
    )
    fake_token_ms: float = Field(
        0.0, ge=0.0, description="backend fake: milliseconds per token fed to catch up", json_schema_extra=HIDDEN
    )

    @field_validator("model")
    @classmethod
    def _model_exists(cls, model: str, known: ValidationInfo) -> str:
        if known.data.get("backend") == "transformers":
            check_model_path(model)
        return model

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.model or self.backend


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
