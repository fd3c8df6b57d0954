"""The section of one model: what it is, where it runs, in which precision."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from pipeline.section import HIDDEN, Section

ADAPTER_CONFIG = "adapter_config.json"


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
    revision: str | None = Field(
        None,
        min_length=1,
        description="commit, tag or branch of a Hugging Face name; null: its main branch. A run keeps the commit that "
        "its first start found there",
    )
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

    @property
    def trusts_code(self) -> bool:
        """Whether Python code in the model's folder or repository may run."""
        return False

    @field_validator("model")
    @classmethod
    def _model_exists(cls, model: str, known: ValidationInfo) -> str:
        if known.data.get("backend") == "transformers":
            check_model_path(model)
        return model

    @field_validator("revision")
    @classmethod
    def _of_a_name(cls, revision: str | None, known: ValidationInfo) -> str | None:
        if revision is not None and Path(known.data.get("model", "")).expanduser().is_dir():
            raise ValueError("a model folder has no revision; leave it out")
        return revision

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.model or self.backend

    @property
    def hub_name(self) -> str | None:
        """The name on the Hugging Face Hub, with the revision that is asked for; None for folders and fakes."""
        if self.backend != "transformers" or Path(self.model).expanduser().is_dir():
            return None
        return self.model if self.revision is None else f"{self.model}@{self.revision}"


AnySection = TypeVar("AnySection", bound=Section)


def models_of(section: Section) -> Iterator[ModelConfig]:
    """Every model in a section, at any depth."""
    if isinstance(section, ModelConfig):
        yield section
    for _, value in section:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Section):
                yield from models_of(part)


def with_revisions(section: AnySection, revision_of: Callable[[ModelConfig], str | None]) -> AnySection:
    """The section with the revision of every model in it that has a Hub name, at any depth, set anew."""

    def changed(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(changed(part) for part in value)
        return with_revisions(value, revision_of) if isinstance(value, Section) else value

    changes = {name: changed(value) for name, value in section}
    if isinstance(section, ModelConfig) and section.hub_name is not None:
        changes["revision"] = revision_of(section)
    return section.model_copy(update=changes)


def check_model_path(model: str) -> None:
    """A model is a folder with a config.json and whole weights, or a Hugging Face name (at most one slash)."""
    if not model:
        raise ValueError("must be a folder or a Hugging Face name")
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        raise ValueError(_gguf(model))
    if path.is_dir():
        _check_folder(model, path)
    elif model.startswith((".", "/", "~")) or model.count("/") > 1 or path.exists():
        raise ValueError(f"model folder {model!r} does not exist")


def adapter_refusal(model: str, file: Path) -> str:
    """Why an adapter is refused, and what to do; `file` is one of its files, the config where there is one."""
    base = "its base model"
    if file.name == ADAPTER_CONFIG:
        with suppress(ValueError, KeyError):
            base = repr(json.loads(file.read_text())["base_model_name_or_path"])
    return (
        f"{model!r} holds an adapter ({file.name}), which would be left out; merge it into {base} with peft, "
        "`model.merge_and_unload().save_pretrained(folder)`, and give that folder"
    )


def _check_folder(model: str, folder: Path) -> None:
    adapter = next((file for pattern in (ADAPTER_CONFIG, "adapter_model.*") for file in folder.glob(pattern)), None)
    if adapter is not None:
        raise ValueError(adapter_refusal(model, adapter))
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")) and any(folder.glob("*.gguf")):
        raise ValueError(_gguf(model))
    if not (folder / "config.json").is_file():
        raise ValueError(f"model folder {model!r} holds no config.json")


def _gguf(model: str) -> str:
    return f"{model!r} holds GGUF weights, which cannot be read; give the model's folder of safetensors"
