"""Aligned responses against vanilla ones of the same run, row by row: what a run's summary says of itself.

Both outputs are streamed, so memory does not grow with the rows; they hold the same input rows in the same order. Pairs
are of one seed, whose first proposals are shared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.align import ColumnNames
from pipeline.dataset.parts import part_files
from pipeline.runs.metrics import Comparison
from pipeline.runs.text_judge import load_text_judge
from pipeline.runs.wins import RunningMean, wins
from pipeline.storage import Location


@dataclass(frozen=True, slots=True)
class Answer:
    prompt: str
    response: str
    reward: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt with both responses; `prompt` is the last user text."""

    prompt: str
    response: str
    reward: float
    baseline_response: str
    baseline_reward: float


def compare_outputs(names: ColumnNames, judge_name: str | None, aligned: Location, baseline: Location) -> Comparison:
    """Mean rewards on the same prompts and, with a judge of `runs.text_judge`, how often the aligned response is the
    better one."""
    judge = load_text_judge(judge_name) if judge_name else None
    rewards, baseline_rewards, won = RunningMean(), RunningMean(), RunningMean()
    for pair in read_pairs(names, aligned, baseline):
        rewards.add(pair.reward)
        baseline_rewards.add(pair.baseline_reward)
        if judge is not None:
            scores = judge(pair.prompt, pair.response), judge(pair.prompt, pair.baseline_response)
            won.add(float(wins(np.array(scores[0]), np.array(scores[1]))))
    return Comparison(
        num_prompts=rewards.num,
        mean_reward=rewards.mean or 0.0,
        baseline_mean_reward=baseline_rewards.mean or 0.0,
        win_rate=won.mean,
        win_rate_standard_error=won.standard_error,
    )


def read_pairs(names: ColumnNames, aligned: Location, baseline: Location) -> Iterator[Pair]:
    """The rows that have both responses, in input order, streamed."""
    for ours, plain in zip(_responses(aligned, names), _responses(baseline, None), strict=False):
        if ours is not None and plain is not None:
            yield Pair(ours.prompt, ours.response, ours.reward, plain.response, plain.reward)


def last_user_text(prompt: str | None, messages: list[dict[str, str]] | None) -> str:
    """What the user asked last; `messages` wins where it is filled, as when decoding."""
    return messages[-1]["content"] if messages else prompt or ""


def read_responses(names: ColumnNames, parts: Location) -> Iterator[Answer]:
    """The good rows of one output, in input order, streamed."""
    return (answer for answer in _responses(parts, names) if answer is not None)


def _responses(parts: Location, columns: ColumnNames | None) -> Iterator[Answer | None]:
    """One entry per row; error rows are None and their prompts, which may not even be text, are not looked at.
    Without columns the prompts are left out."""
    wanted = () if columns is None else (columns.prompt_column, columns.messages_column)
    for location in part_files(parts):
        with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
            names = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=[*names, "response", "reward"]):
                for row in range(batch.num_rows):
                    yield _answer(batch, row, wanted)


def _answer(batch: pa.RecordBatch, row: int, prompt_columns: tuple[str, ...]) -> Answer | None:
    def cell(name: str) -> Any:
        return batch.column(name)[row].as_py() if name in batch.schema.names else None

    response = cell("response")
    if response is None:
        return None
    if not prompt_columns:
        return Answer("", response, cell("reward"))
    prompt_column, messages_column = prompt_columns
    messages = cell(messages_column)
    return Answer(last_user_text(None if messages else cell(prompt_column), messages), response, cell("reward"))
