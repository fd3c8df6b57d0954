"""A reward model as a judge: it reads prompt and response in its own chat template and vocabulary, through the same
reward engine that steers runs, loaded once for all responses of a comparison.

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

from actors.batch.run import cluster
from actors.cluster.placement import start_reward_model
from actors.rendering.renderer import make_renderer
from actors.startup.model_limits import longest_model_len, read_model_configs
from jobs.compare.config import RewardModelJudge
from jobs.compare.judges.judgements import Runs, ScoreJudge
from jobs.compare.judges.verdict_store import VerdictStore, verdict_key
from pipeline.config.align import AlignConfig
from pipeline.config.decoding import EngineConfig, GenerationConfig, ModelConfig, RewardConfig
from pipeline.errors import RowError
from pipeline.protocol import ScoreCohort
from pipeline.records import PromptRow, TokenArray
from pipeline.runs.fingerprint import model_files
from pipeline.runs.outputs import Floats, RunFacts, RunRows
from pipeline.strategies.vanilla import VanillaConfig


@dataclass(frozen=True, slots=True)
class Question:
    """What the model reads of one response, and the key its score is kept under."""

    key: str
    tokens: TokenArray


def reward_model_judge(judge: RewardModelJudge, runs: Runs, store: Path, console: Console) -> ScoreJudge:
    """Score whatever has no score yet; the judge that is returned only looks up.

    Raises:
        ConfigError, ModelError: the model cannot be read or loaded.
    """
    verdicts = VerdictStore(store)
    config = _config(judge, next(iter(runs.values()))[0].facts)
    limit = longest_model_len(config, read_model_configs(config))
    questions = {rows.output: _questions(judge, config, rows, limit) for seeds in runs.values() for rows in seeds}
    asked = {q.key: q for found in questions.values() for q in found if q and verdicts.get(q.key) is None}
    if asked:
        name = judge.model or judge.backend
        console.print(f"{name} judges {len(asked):,} responses …", highlight=False, soft_wrap=True)
        _score(config, judge, list(asked.values()), verdicts)

    def scores(rows: RunRows) -> Floats:
        return np.array([np.nan if q is None else verdicts.get(q.key) for q in questions[rows.output]], np.float64)

    return scores


def _config(judge: RewardModelJudge, run: RunFacts) -> AlignConfig:
    """The judge in both models' places, as renderers and limits are asked about; prompts are read as the run did."""
    shared = judge.model_dump(include=set(ModelConfig.model_fields))
    return AlignConfig(
        input=run.input,
        output="judgements",
        prompt_as=run.prompt_as,
        policy=ModelConfig(**shared),
        reward=RewardConfig(**shared, close_turn=judge.close_turn),
        generation=GenerationConfig(max_new_tokens=1),
        strategy=VanillaConfig(),
        engine=EngineConfig(max_model_len=judge.max_model_len),
    )


def _questions(judge: RewardModelJudge, config: AlignConfig, rows: RunRows, limit: int) -> list[Question | None]:
    """One per row; None where the template refuses the prompt or the model cannot hold it."""
    renderer = make_renderer(config)
    files = model_files(judge.model)
    questions: list[Question | None] = []
    for row, (conversation, is_stopped) in enumerate(zip(rows.conversations, rows.is_stopped.tolist(), strict=True)):
        try:
            is_text = rows.table.column("messages")[row].as_py() is None
            prompt = PromptRow(row, rows.ids[row], conversation[0]["content"]) if is_text else None
            rendered = renderer.render(prompt or PromptRow(row, rows.ids[row], messages=tuple(conversation)))
        except RowError:
            questions.append(None)
            continue
        closes = judge.close_turn == "always" or (judge.close_turn == "finished" and is_stopped)
        parts = [rendered.reward_tokens, renderer.tokens(rows.responses[row])]
        tokens = np.concatenate([*parts, renderer.closing_tokens] if closes else parts)
        key = verdict_key(judge.model, files, judge.dtype, tokens.tolist())
        questions.append(Question(key, tokens) if len(tokens) <= limit else None)
    return questions


def _score(config: AlignConfig, judge: RewardModelJudge, asked: Sequence[Question], verdicts: VerdictStore) -> None:
    """In order of length, so that a call's rows are alike; the cache is as long as the longest."""
    rows_per_call = judge.rows_per_call
    ordered = sorted(asked, key=lambda question: len(question.tokens))
    engine = EngineConfig(slots=min(rows_per_call, len(asked)), max_model_len=len(ordered[-1].tokens) + 1)
    with cluster(), _loaded(config.model_copy(update={"engine": engine}), judge.num_gpus) as model:
        for first in range(0, len(ordered), rows_per_call):
            questions = ordered[first : first + rows_per_call]
            rewards = ray.get(model.score.remote(_cohort(questions))).rewards_R.tolist()
            for question, reward in zip(questions, rewards, strict=True):
                verdicts.put(question.key, reward)


@contextmanager
def _loaded(config: AlignConfig, num_gpus: float | None) -> Iterator[Any]:
    model = start_reward_model(config, num_gpus)
    yield model
    ray.kill(model)


def _cohort(questions: Sequence[Question]) -> ScoreCohort:
    return ScoreCohort(
        slots_R=np.arange(len(questions), dtype=np.int32),
        prefix_tokens=np.concatenate([question.tokens for question in questions]),
        prefix_lengths_R=np.array([len(question.tokens) for question in questions], np.int32),
    )
