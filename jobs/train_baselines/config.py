"""The config of `jobs.train_baselines`. It imports neither Ray nor torch.

A knob that takes several values is a grid: every combination is trained on the same pairs, and the one with the highest
gold score on validation prompts is kept.
"""

from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

import pipeline.embedded
from pipeline.config.model import check_model_path
from pipeline.section import Section

Method = Literal["sft", "dpo"]
EMBEDDED_POLICY = str(Path(pipeline.embedded.__file__).parent / "assets" / "policy")
LearningRates = Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=1)]
Betas = Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=1)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class Point(Section):
    """One combination of knobs."""

    learning_rate: float
    epochs: int
    num_pairs: int
    beta: float | None = None


class SftGrid(Section):
    """Supervised fine-tuning on the chosen responses."""

    learning_rate: LearningRates = Field((3e-4,), description="peak of a cosine with 10 % warm-up; AdamW")
    epochs: Counts = Field((1,), description="passes over the pairs")
    num_pairs: Counts = Field((4_608,), description="the first so many pairs; a file may hold fewer")

    def points(self) -> list[Point]:
        """Every combination."""
        return [
            Point(learning_rate=rate, epochs=epochs, num_pairs=count)
            for count, epochs, rate in product(self.num_pairs, self.epochs, self.learning_rate)
        ]


class DpoGrid(SftGrid):
    """Direct preference optimisation on the pairs, with the policy it starts from as reference."""

    learning_rate: LearningRates = Field((1e-4,), description="peak of a cosine with 10 % warm-up; AdamW")
    beta: Betas = Field((0.1,), description="weight of the divergence from the reference; smaller moves further")

    def points(self) -> list[Point]:
        """Every combination."""
        return [point.model_copy(update={"beta": beta}) for point in super().points() for beta in self.beta]


class BaselinesConfig(Section):
    """What `jobs.train_baselines` trains: SFT and DPO of a policy of the embedded world."""

    output: str = Field(description="folder: sft/ and dpo/ are policies for jobs.align; pairs.parquet, baselines.json")
    policy: str = Field(EMBEDDED_POLICY, description="the policy they start from, a folder")
    methods: tuple[Method, ...] = Field(("sft", "dpo"), min_length=1, description="which ones to train")
    pairs: str | None = Field(
        None,
        description="preference pairs in TRL's format, .parquet or .jsonl (see jobs.export_pairs); null: pairs of the "
        "policy's own answers to training prompts, labelled by the gold judge as the reward model's were",
    )
    sft: SftGrid = SftGrid()
    dpo: DpoGrid = DpoGrid()
    batch_size: int = Field(16, ge=1, description="pairs (DPO) or responses (SFT) of a step")
    validation_prompts: int = Field(
        512, ge=1, description="training-split prompts, answered plainly at temperature 1, top-k 40, to choose by"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of prompts, answers, labels and order")
    num_threads: int = Field(2, ge=1, description="CPU threads")

    @field_validator("policy")
    @classmethod
    def _model_exists(cls, model: str) -> str:
        check_model_path(model)
        return model

    @field_validator("pairs")
    @classmethod
    def _pairs_exist(cls, path: str | None) -> str | None:
        if path is not None and Path(path).suffix not in (".parquet", ".jsonl"):
            raise ValueError("must end with .parquet or .jsonl")
        if path is not None and not Path(path).is_file():
            raise ValueError("no such file")
        return path

    @field_validator("output")
    @classmethod
    def _is_new(cls, output: str) -> str:
        if not output.strip() or (Path(output).exists() and (Path(output).is_file() or any(Path(output).iterdir()))):
            raise ValueError("must be a folder that is empty or not there yet")
        return output

    def grid(self, method: Method) -> list[Point]:
        """What to train of one method."""
        return (self.sft if method == "sft" else self.dpo).points()

    @property
    def num_pairs(self) -> int:
        """The most pairs that anything asks for."""
        return max(point.num_pairs for method in self.methods for point in self.grid(method))
