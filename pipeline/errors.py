"""Every error this project raises, named after the boundary that was crossed.

    StarsError
    ├── ConfigError   a wrong key, value, type or path in the configuration; raised before any model loads
    ├── InputError    an input file or column that cannot be read; raised before any model loads
    ├── OutputError   an output directory that cannot be written or belongs to another run
    ├── RowError      one row that cannot be processed; it becomes an output row with `error_type` and `error`
    └── ModelError    a model actor that failed or gave no answer; the run fails and can be started again
        ├── ModelOutOfMemory   a call too large for the model's memory; it is split, down to one row
        └── ModelDied          a model whose process ended under a call; the call is sent again

`exit_code` is what a job returns: 2 for what the user must mend first, 1 for a run that failed.
All of them pickle, since they cross process boundaries.
"""


class StarsError(Exception):
    """Root of the tree. The message is one line that a user can act on."""

    exit_code = 1


class ConfigError(StarsError):
    exit_code = 2


class InputError(StarsError):
    exit_code = 2


class OutputError(StarsError):
    exit_code = 2


class ModelError(StarsError):
    exit_code = 1


class ModelOutOfMemory(ModelError):
    """One call found no memory; its rows may still fit in smaller calls."""


class ModelDied(ModelError):
    """A model's process ended under a call; its successor may answer it."""


class RowError(StarsError):
    """One row that cannot be processed.

    Args:
        error_type: a short stable word for the fault, such as `null_prompt` or `prompt_too_long`.
        message: what is wrong with this row, for a person.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}"
