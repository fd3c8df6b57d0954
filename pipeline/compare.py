"""Aligned responses against vanilla ones of the same prompts, row by row, from the two outputs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import AlignConfig
from pipeline.metrics import Comparison
from pipeline.shards import part_files
from pipeline.storage import Location

Judge = Callable[[str, str], float]
JUDGES = {"embedded": ("pipeline.embedded.judge", "gold_score")}


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


def compare_outputs(config: AlignConfig, aligned: Location, baseline: Location) -> Comparison:
    """Mean rewards on the same prompts and, with a judge, how often the aligned response is the better one."""
    judge = _load_judge(config.judge)
    num_prompts, reward_sum, baseline_sum, win_sum, win_square_sum = 0, 0.0, 0.0, 0.0, 0.0
    for pair in read_pairs(config, aligned, baseline):
        num_prompts += 1
        reward_sum += pair.reward
        baseline_sum += pair.baseline_reward
        if judge is not None:
            ours, theirs = judge(pair.prompt, pair.response), judge(pair.prompt, pair.baseline_response)
            win = 0.5 if ours == theirs else float(ours > theirs)
            win_sum += win
            win_square_sum += win * win
    n = max(1, num_prompts)
    win_rate = win_sum / n
    variance = max(0.0, win_square_sum / n - win_rate * win_rate)
    has_wins = judge is not None and num_prompts > 0
    return Comparison(
        num_prompts=num_prompts,
        mean_reward=reward_sum / n,
        baseline_mean_reward=baseline_sum / n,
        win_rate=win_rate if has_wins else None,
        win_rate_standard_error=math.sqrt(variance / n) if has_wins else None,
    )


def read_pairs(config: AlignConfig, aligned: Location, baseline: Location) -> Iterator[Pair]:
    """The rows that have both responses, in input order, streamed."""
    for ours, plain in zip(_responses(aligned, config), _responses(baseline, None), strict=False):
        if ours is not None and plain is not None:
            yield Pair(ours.prompt, ours.response, ours.reward, plain.response, plain.reward)


def last_user_text(prompt: str | None, messages: list[dict[str, str]] | None) -> str:
    """What the user asked last; `messages` wins where it is filled, as when decoding."""
    return messages[-1]["content"] if messages else prompt or ""


def read_responses(config: AlignConfig, parts: Location) -> Iterator[Answer]:
    """The good rows of one output, in input order, streamed."""
    return (answer for answer in _responses(parts, config) if answer is not None)


def _responses(parts: Location, config: AlignConfig | None) -> Iterator[Answer | None]:
    """One entry per row; error rows are None and their prompts, which may not even be text, are not looked at.
    Without a config the prompts are left out."""
    wanted = () if config is None else (config.prompt_column, config.messages_column)
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


def _load_judge(name: str | None) -> Judge | None:
    if name is None:
        return None
    module, function = JUDGES[name]
    return getattr(import_module(module), function)
