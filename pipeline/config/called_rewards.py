"""The rewards that call something which is no model of ours, one section a kind: a function, a judge, a server."""

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.config.function_source import find_function
from pipeline.config.reward_section import RewardSection

FUNCTION_TRIES = 4  # a call for all its rows, and three of its rows alone, until the others are given up with them


class FunctionReward(RewardSection):
    """A Python function of yours with TRL's signature, `(prompts, completions, **columns) -> list[float]`, sync or
    async. It gets lists, one entry a row: `prompts` are strings, and `completions` too; for rows with messages they are
    lists of messages. What else its signature names without a default are input columns; `finished` says whether a
    response has ended. What it raises is its row's error."""

    throughput_only: ClassVar[frozenset[str]] = frozenset({"num_cpus", "processes", "rows_per_call", "timeout_s"})

    kind: Literal["function"] = "function"
    function: str = Field(description="file.py:name or module:name")
    input_columns: tuple[str, ...] | None = Field(
        None,
        description="input columns that it gets, beside those above; null: the parameters without a default in its "
        "signature, which is read off its source: nothing of it runs before the models load",
    )
    processes: int = Field(
        1, ge=1, description="processes of an actor that run it, each a call at a time; more for a slow one"
    )
    num_cpus: float = Field(
        0.0, ge=0.0, description="CPUs that Ray keeps for each actor; 0: it shares what is idle, as models on CPUs do"
    )
    rows_per_call: int = Field(64, ge=1, description="most rows of one call of the function")
    timeout_s: float = Field(
        120.0, gt=0.0, description="a call that lasts longer is ended, with its process; its rows are tried one by one"
    )

    @field_validator("function")
    @classmethod
    def _exists(cls, function: str) -> str:
        find_function(function)
        return function

    @field_validator("input_columns")
    @classmethod
    def _are_known(cls, columns: tuple[str, ...] | None, known: ValidationInfo) -> tuple[str, ...] | None:
        if columns is None and (function := known.data.get("function")) is not None:
            columns = find_function(function).parameters
            if columns is None:
                raise ValueError(
                    f"the signature of {function!r} cannot be read without running it; name the input columns that it "
                    "takes ([] for none)"
                )
        return columns

    @property
    def title(self) -> str:
        return self.function

    @property
    def files(self) -> tuple[str, ...]:
        path = find_function(self.function).path
        return () if path is None else (str(path),)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.input_columns or ()

    @property
    def cpus(self) -> float:
        return self.num_cpus

    @property
    def longest_call_s(self) -> float:
        return FUNCTION_TRIES * self.timeout_s
