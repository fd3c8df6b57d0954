"""Aligned responses against vanilla ones of the same run, row by row: what a run's summary says of itself.

Both outputs are streamed, so memory does not grow with the rows; they hold the same input rows in the same order. Pairs
are of one seed, whose first proposals are shared.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.config.align import ColumnNames
from pipeline.runs.metrics import Comparison
from pipeline.runs.outputs import OutputRow, StageOutput
from pipeline.runs.text_judge import load_text_judge
from pipeline.runs.wins import RunningMean, wins


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


def compare_outputs(
    names: ColumnNames, judge_name: str | None, aligned: StageOutput, baseline: StageOutput
) -> Comparison:
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


def read_pairs(names: ColumnNames, aligned: StageOutput, baseline: StageOutput) -> Iterator[Pair]:
    """The rows that have both responses, in input order, streamed."""
    plain_rows = baseline.rows(["response", "reward"])
    for row, plain in zip(_rows(aligned, names), plain_rows, strict=False):
        if not row.is_error and not plain.is_error:
            ours = _answer(row, names)
            yield Pair(ours.prompt, ours.response, ours.reward, plain["response"], plain["reward"])


def read_responses(names: ColumnNames, output: StageOutput) -> Iterator[Answer]:
    """The good rows of one output, in input order, streamed."""
    return (_answer(row, names) for row in _rows(output, names) if not row.is_error)


def _rows(output: StageOutput, names: ColumnNames) -> Iterator[OutputRow]:
    return output.rows([names.prompt_column, names.messages_column, "response", "reward"])


def _answer(row: OutputRow, names: ColumnNames) -> Answer:
    return Answer(row.messages(names)[-1]["content"], row["response"], row["reward"])
