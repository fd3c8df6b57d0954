"""The config of the main job: how prompts become responses, and which file's, and where to.

Nothing here imports Ray, torch or transformers, so a wrong key, type or path fails before anything heavy loads.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.decoding import Decoding
from pipeline.section import Section


class DatasetConfig(Section):
    rows_per_shard: int | None = Field(
        None,
        ge=1,
        description="rows that travel, finish and are committed together; null: 16, or 8 for every cell, or a "
        "4,000th of the input if more: seven or so are written a second, and a kill costs the work of a few",
    )
    read_rows: int = Field(4096, ge=1, description="rows read by one task; a multiple of rows_per_shard works best")
    rows_per_file: int = Field(100_000, ge=1, description="rows of one output part file")


class ColumnNames(Section):
    """Which input columns mean something."""

    id_column: str = Field("id", description="a row's id; the default may be absent: then file and row position")
    prompt_column: str = Field("prompt", description="text column; one of it and messages_column must exist")
    messages_column: str = Field("messages", description="list of {role, content}; wins where both are filled")
    sampling_params_column: str = Field("sampling_params", description="optional struct of generation knobs and seed")


class AlignConfig(Decoding, ColumnNames):
    """Everything `jobs.align` needs. `input` and `output` usually come from the command line."""

    input: str = Field(description="Parquet file, directory or glob; any filesystem pyarrow knows")
    output: str = Field(description="run directory: part-*.parquet, and _run/ beside them")
    max_rows: int | None = Field(None, ge=1, description="stop after so many input rows; null: all")
    max_error_rows: int | None = Field(
        None, ge=0, description="more error rows than this exit 3; null: any number is fine"
    )
    baseline_rows: int = Field(
        0, ge=0, description="first rows decoded plainly too, to show the mean reward against vanilla"
    )
    judge: Literal["embedded"] | None = Field(None, description="a judge of text for the summary's win-rate")
    dataset: DatasetConfig = DatasetConfig()

    @property
    def reply_folder(self) -> str | None:
        return str(Path(self.output.removeprefix("file://")).expanduser().absolute() / "_run" / "replies")

    @model_validator(mode="after")
    def _can_keep_replies(self) -> "AlignConfig":
        if self.reward.keeps_replies and "://" in self.output.removeprefix("file://"):
            raise ValueError(
                f"reward.cache: replies cannot be kept in output {self.output!r}; name a folder that all nodes see"
            )
        return self

    @field_validator("input", "output")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value
