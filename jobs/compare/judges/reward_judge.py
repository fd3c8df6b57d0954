"""A reward model as a judge: it reads prompt and response in its own chat template and vocabulary, through the same
reward that steers runs, loaded once for all responses of a comparison.

A response is the text that a reader gets, so it is tokenised anew. The model is loaded only where a score is missing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from rich.console import Console

from actors.cluster.placement import start_reward
from actors.cluster.session import cluster
from actors.rewards.interface import RewardContext
from actors.startup.model_limits import longest_model_len, read_reward_configs
from jobs.compare.config import RewardModelJudge
from jobs.compare.judges.judgements import Runs, ScoreJudge
from jobs.compare.judges.verdict_store import VerdictStore, verdict_key
from pipeline.config.decoding import EngineConfig, PromptAs
from pipeline.config.model_rewards import ClassifierReward
from pipeline.protocol import ScoreCohort, Scores
from pipeline.records import PromptRow
from pipeline.runs.fingerprint import model_files
from pipeline.runs.run_rows import Floats, RunRows

SILENCE_S = 600.0  # a judge that has loaded and is silent for so long is started again


@dataclass(frozen=True, slots=True)
class Question:
    """One response to judge, and the key its score is kept under."""

    key: str
    row: PromptRow
    response: str
    finished: bool


def reward_model_judge(judge: RewardModelJudge, runs: Runs, store: Path, console: Console) -> ScoreJudge:
    """Score whatever has no score yet; the judge that is returned only looks up.

    Raises:
        ConfigError, ModelError: the model cannot be read or loaded.
    """
    verdicts = VerdictStore(store)
    questions = {rows.output: _questions(judge, rows) for seeds in runs.values() for rows in seeds}
    asked = {q.key: q for found in questions.values() for q in found if verdicts.get(q.key) is None}
    if asked:
        console.print(f"{judge.title} judges {len(asked):,} responses …", highlight=False, soft_wrap=True)
        _score(judge, next(iter(runs.values()))[0].facts.prompt_as, list(asked.values()), verdicts)

    def scores(rows: RunRows) -> Floats:
        found = [verdicts.get(question.key) for question in questions[rows.output]]
        return np.array([np.nan if score is None else score for score in found], np.float64)

    return scores


def _questions(judge: RewardModelJudge, rows: RunRows) -> list[Question]:
    """One per row."""
    files, questions = model_files(judge.model), []
    for place, (conversation, finished) in enumerate(zip(rows.conversations, rows.is_stopped.tolist(), strict=True)):
        is_text = rows.table.column("messages")[place].as_py() is None
        prompt = PromptRow(place, rows.ids[place], conversation[0]["content"]) if is_text else None
        row = prompt or PromptRow(place, rows.ids[place], messages=tuple(conversation))
        response = rows.responses[place]
        key = verdict_key(
            judge.title, files, judge.dtype, [judge.close_turn, is_text, conversation, response, finished]
        )
        questions.append(Question(key, row, response, finished))
    return questions


def _score(judge: RewardModelJudge, prompt_as: PromptAs, asked: Sequence[Question], verdicts: VerdictStore) -> None:
    """In order of length, so that a call's rows are alike. What the judge cannot read stays without a verdict."""
    reward = ClassifierReward(**judge.model_dump(include=set(ClassifierReward.model_fields) - {"kind"}))
    engine = EngineConfig(slots=min(judge.rows_per_call, len(asked)), max_model_len=judge.max_model_len)
    facts = read_reward_configs(reward, RewardContext(None, engine, prompt_as))
    engine = engine.model_copy(update={"max_model_len": longest_model_len(facts, engine, 1)})
    context = RewardContext(None, engine, prompt_as)
    ordered = sorted(asked, key=lambda question: len(question.response))
    with cluster(), _loaded(reward, context, judge.num_gpus) as handle:
        for first in range(0, len(ordered), judge.rows_per_call):
            questions = ordered[first : first + judge.rows_per_call]
            cohort = ScoreCohort.of_texts(
                [question.row for question in questions],
                [question.response for question in questions],
                [question.finished for question in questions],
            )
            scores: Scores = ray.get(handle.score.remote(cohort))
            for place, question in enumerate(questions):
                if place not in scores.faults:
                    verdicts.put(question.key, float(scores.rewards_R[place]))


@contextmanager
def _loaded(reward: ClassifierReward, context: RewardContext, num_gpus: float | None) -> Iterator[Any]:
    handle = start_reward(reward, context, num_gpus, SILENCE_S)
    yield handle
    ray.kill(handle)
