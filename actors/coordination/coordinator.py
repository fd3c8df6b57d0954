"""The segment coordinator: many prompts in flight, each one coroutine of one strategy, over a cell's shared models.

A prompt's life:
1. `align` renders and tokenises it, or turns its fault into an error result;
2. it waits for its slots, one per lane;
3. its strategy asks for proposals and scores; each request names the slot and the whole token prefix;
4. requests wait in two queues, and cohorts of them go to whichever model is free (`actors.coordination.cohorts`);
5. answers wake the strategy, and so on until the response is complete;
6. its slots are given back and the result is one `RowResult`.

The truth lives here: models hold caches only, and a restarted model costs a prefill, never a row.
Create it inside the event loop that will run it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from actors.coordination.candidates import CandidateLog
from actors.coordination.cohorts import CohortQueue, CohortScheduler
from actors.coordination.model_calls import ActorSupervisor, ModelCalls
from actors.coordination.requests import (
    Ledger,
    ProposeRequest,
    ScoreRequest,
    answer_proposals,
    answer_scores,
    propose_cohort,
    score_cohort,
)
from actors.coordination.row_session import CellShare, RowSession
from actors.coordination.slots import SlotPool
from actors.coordination.stopping import text_before_stop
from actors.rendering.prompt_reader import PromptReader
from actors.rendering.readers import make_reader
from actors.rewards import traits_of
from actors.rewards.interface import RewardTraits
from pipeline.config.decoding import Decoding
from pipeline.draws import row_key
from pipeline.errors import RowError
from pipeline.protocol import CallStats
from pipeline.records import PromptRow, Report, Response, RowResult, SamplingParams, TokenArray
from pipeline.runs.usage import CoordinatorUsage, RoleUsage
from pipeline.strategies import STRATEGIES, StrategyConfig, Task
from pipeline.strategies.task import report_nothing

WAITING_SHARE = 4  # of the calls that a reward works on, one in so many waits for the next place to become free
ModelCall = Callable[..., Awaitable[CallStats]]  # of a handle, its calls, its first slot and the requests


class SegmentCoordinator:
    """Aligns prompts concurrently.

    Args:
        config: how prompts become responses; `engine.slots` and `engine.max_model_len` must be set.
        policies: handles of the cell's policy actors: `await policy.propose.remote(cohort)` gives Proposals. Each holds
            `engine.slots` slots.
        rewards: handles of its reward actors: `await reward.score.remote(cohort)` gives Scores. Each holds
            an even share of all of them. Any two lists of handles will do: actors, deployments, threads.
        reader: how the policy reads; None makes the one that fits the config.
        traits: what the reward can do; None finds them out.
        supervisors: by role, one per handle, replace models that hang; without them, a model that gives no answer fails
            the run.
    """

    def __init__(
        self,
        config: Decoding,
        policies: Sequence[Any],
        rewards: Sequence[Any],
        reader: PromptReader | None = None,
        traits: RewardTraits | None = None,
        supervisors: Mapping[str, Sequence[ActorSupervisor]] | None = None,
    ) -> None:
        self.config = config
        engine = config.engine
        self.reader = reader or make_reader("policy", config.policy, config.prompt_as, engine.max_model_len)
        self.traits = traits or traits_of(config)
        assert config.engine.slots is not None and config.engine.max_model_len is not None
        self.slots = SlotPool(config.engine.slots, len(policies))
        self.supervisors = supervisors or {}
        num_reward_slots = -(-self.slots.num_slots // len(rewards))
        self.scheduler = CohortScheduler(
            config.coordinator,
            self._queues("policy", policies, config.engine.slots, self._propose_call),
            self._queues("reward", rewards, num_reward_slots, self._score_call),
        )
        self.cell = CellShare(self.scheduler, self.slots, self.reader, self.traits)
        self._usage = CoordinatorUsage()

    @property
    def usage(self) -> CoordinatorUsage:
        """Progress and cost since the start."""
        return replace(
            self._usage,
            slot_seconds=self.slots.slot_seconds,
            slot_capacity_seconds=self.slots.capacity_seconds,
            policy=sum((queue.usage for queue in self.scheduler.policies), RoleUsage()),
            reward=sum((queue.usage for queue in self.scheduler.rewards), RoleUsage()),
        )

    def _queues(self, role: str, handles: Sequence[Any], num_slots: int, call: ModelCall) -> list[CohortQueue]:
        """One queue per handle, with as many of the cell's slots as each holds."""
        supervisors = self.supervisors.get(role, [None] * len(handles))
        queues = []
        for number, (handle, supervisor) in enumerate(zip(handles, supervisors, strict=True)):
            slots = range(number * num_slots, min((number + 1) * num_slots, self.slots.num_slots))
            calls = ModelCalls(role, self.config.coordinator.call_timeout_s, supervisor)
            num_sources = len({slot // self.slots.slots_per_actor for slot in slots}) if role == "reward" else 1
            queue = CohortQueue(role, slots, partial(call, handle, calls, slots.start), max(1, num_sources))
            if role == "reward":
                queue.rows_per_call = self.traits.rows_per_call
                queue.max_calls = self.traits.max_calls + max(1, self.traits.max_calls // WAITING_SHARE)
            queues.append(queue)
        return queues

    async def align(
        self,
        row: PromptRow,
        strategy: StrategyConfig | None = None,
        report: Report = report_nothing,
        prompt: TokenArray | None = None,
    ) -> RowResult:
        """One row's result. A row's own fault becomes an error result.

        Args:
            row: what to answer.
            strategy: how; None is the config's.
            report: told of every candidate that is kept or rejected, as it is judged.
            prompt: the row's tokens as the reader gives them; None: they are read here.

        Raises:
            ModelError: a model failed or gave no answer.
        """
        seed = row.sampling_overrides.get("seed", self.config.seed)
        ledger, knobs = Ledger(), strategy or self.config.strategy
        try:
            if row.error_type is not None:
                raise RowError(row.error_type, row.error or "")
            result = await self._align(row, knobs, report, prompt, seed, ledger)
        except RowError as error:
            result = self._error_result(error, knobs, seed, ledger)
        self._add_result(result)
        return result

    async def _align(
        self,
        row: PromptRow,
        knobs: StrategyConfig,
        report: Report,
        prompt: TokenArray | None,
        seed: int,
        ledger: Ledger,
    ) -> RowResult:
        sampling = self._sampling_of(row)
        prompt = self.reader.prompt_tokens(row) if prompt is None else prompt
        self._check_length(prompt, sampling)
        slots = await self.slots.acquire(knobs.num_lanes)
        try:
            session = RowSession(self.cell, row, prompt, sampling, row_key(seed, str(row.row_id)), slots, ledger)
            log = CandidateLog(report) if self.config.keep_rejected else None
            task = Task(knobs, sampling, session.row_key, session, log or report)
            response = await STRATEGIES[knobs.name](task, session.propose, session.score)
            await ledger.settled()
        finally:
            self.slots.release(slots)
        result = self._result(response, prompt, knobs, sampling, seed, ledger)
        return replace(result, candidates=log.records(partial(self._text, sampling))) if log else result

    def _sampling_of(self, row: PromptRow) -> SamplingParams:
        knobs = self.config.generation.model_dump() | row.sampling_overrides
        return SamplingParams(**{field.name: knobs[field.name] for field in fields(SamplingParams)})

    def _check_length(self, prompt: TokenArray, sampling: SamplingParams) -> None:
        limit = self.config.engine.max_model_len
        assert limit is not None
        needed = len(prompt) + sampling.max_new_tokens
        if len(prompt) == 0:
            raise RowError("empty_prompt", "the prompt has no tokens")
        if needed > limit:
            raise RowError(
                "prompt_too_long",
                f"{len(prompt)} prompt tokens and {sampling.max_new_tokens} new ones need "
                f"{needed} of the {limit} that engine.max_model_len allows",
            )

    def _result(
        self,
        response: Response,
        prompt: TokenArray,
        knobs: StrategyConfig,
        sampling: SamplingParams,
        seed: int,
        ledger: Ledger,
    ) -> RowResult:
        candidates, text = response.candidates, partial(self._text, sampling)
        return RowResult(
            strategy=knobs.name,
            seed=seed,
            finish_reason="stop" if response.finished else "length",
            response=text(response.tokens),
            reward=response.reward,
            prompt_reward=response.prompt_reward,
            num_prompt_tokens=len(prompt),
            num_response_tokens=len(response.tokens),
            segments=response.segments,
            responses=tuple(text(tokens) for tokens, _ in candidates) if candidates else None,
            rewards=tuple(reward for _, reward in candidates) if candidates else None,
            num_policy_tokens=ledger.policy_tokens,
            num_reward_tokens=ledger.reward_tokens,
            num_policy_calls=ledger.policy_calls,
            num_reward_calls=ledger.reward_calls,
        )

    def _text(self, sampling: SamplingParams, tokens: TokenArray) -> str:
        return text_before_stop(self.reader.text(tokens), sampling.stop)

    def _error_result(self, error: RowError, knobs: StrategyConfig, seed: int, ledger: Ledger) -> RowResult:
        return RowResult(
            strategy=knobs.name,
            seed=seed,
            finish_reason="error",
            error_type=error.error_type,
            error=error.message,
            num_policy_tokens=ledger.policy_tokens,
            num_reward_tokens=ledger.reward_tokens,
            num_policy_calls=ledger.policy_calls,
            num_reward_calls=ledger.reward_calls,
        )

    def _add_result(self, result: RowResult) -> None:
        usage, is_error = self._usage, result.error_type is not None
        num_kept = 0 if is_error else len(result.segments) or result.num_policy_calls
        num_by_rule = sum(segment.accepted_by == "rule" for segment in result.segments)
        self._usage = replace(
            usage,
            num_rows_done=usage.num_rows_done + 1,
            num_error_rows=usage.num_error_rows + is_error,
            num_segments=usage.num_segments + num_kept,
            num_attempts=usage.num_attempts + result.num_policy_calls,
            num_accepted_by_rule=usage.num_accepted_by_rule + (num_by_rule if result.segments else num_kept),
            num_response_tokens=usage.num_response_tokens + result.num_response_tokens,
            reward_sum=usage.reward_sum + (result.reward or 0.0),
        )

    @staticmethod
    async def _propose_call(
        policy: Any, calls: ModelCalls, first_slot: int, requests: list[ProposeRequest]
    ) -> CallStats:
        proposals = await calls.answer(partial(policy.propose.remote, propose_cohort(requests, first_slot)))
        answer_proposals(requests, proposals)
        return proposals.stats

    @staticmethod
    async def _score_call(reward: Any, calls: ModelCalls, first_slot: int, requests: list[ScoreRequest]) -> CallStats:
        scores = await calls.answer(partial(reward.score.remote, score_cohort(requests, first_slot)))
        answer_scores(requests, scores)
        return scores.stats
