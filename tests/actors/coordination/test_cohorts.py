"""When a cohort is sent: where calls are done one by one rows wait for company, where they join rows are sent soon."""

import asyncio
import sys

import numpy as np
import pytest

from actors.coordination.cohorts import CohortQueue, CohortScheduler
from actors.coordination.requests import Ledger, ProposeRequest, ScoreRequest
from pipeline.config.decoding import CoordinatorConfig
from pipeline.errors import ModelDied, ModelError, RowError
from pipeline.protocol import MAX_DEATHS, CallStats
from pipeline.records import DrawKey, PromptRow, SamplingParams

NUM_SLOTS = 16
PREFIX, ROW = np.array([1], dtype=np.int32), PromptRow(0, "a", prompt="a")


class Model:
    """Keeps the sizes of the cohorts it was sent, and answers when it is told to."""

    def __init__(self, role, can_be_joined=False):
        self.sizes, self.may_answer, self.can_be_joined = [], asyncio.Event(), can_be_joined
        self.queue = CohortQueue(role, range(NUM_SLOTS), self.call)

    async def call(self, cohort):
        self.sizes.append(len(cohort))
        await self.may_answer.wait()
        for request in cohort:
            request.answer.set_result(None)
        return CallStats(np.ones(len(cohort), dtype=np.int32), 0.0, 0.1, can_be_joined=self.can_be_joined)


def proposal(slot):
    answer, sampling = asyncio.get_running_loop().create_future(), SamplingParams(8, 1.0, 1.0, 0)
    return ProposeRequest(slot, PREFIX, 4, slot, DrawKey(0, 0), sampling, Ledger(), answer)


async def settle():
    for _ in range(6):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("can_be_joined", "proposed", "scored"), [(False, [4, 4], []), (True, [4, 4, 2], [1])], ids=["alone", "joined"]
)
def test_rows_wait_for_company_only_where_it_helps(can_be_joined, proposed, scored):
    """Eight rows are with the policy when two more come, and one that wants a score."""

    async def sizes():
        policy, reward = Model("policy", can_be_joined), Model("reward")
        scheduler = CohortScheduler(CoordinatorConfig(), [policy.queue], [reward.queue])
        policy.may_answer.set()
        scheduler.submit_proposal(proposal(0))
        await settle()
        assert policy.sizes == [1], "nothing was under way"
        policy.may_answer.clear()
        policy.sizes.clear()
        for slot in range(8):
            scheduler.submit_proposal(proposal(slot))
        await settle()
        scheduler.submit_proposal(proposal(8))
        scheduler.submit_proposal(proposal(9))
        scheduler.submit_score(
            ScoreRequest(10, ROW, PREFIX, None, False, 0, Ledger(), asyncio.get_running_loop().create_future())
        )
        await settle()
        seen = list(policy.sizes), list(reward.sizes)
        for model in (policy, reward):
            model.may_answer.set()
        await settle()
        return seen

    assert asyncio.run(sizes()) == (proposed, scored)


class MortalModel(Model):
    """Dies under every cohort that holds one of its killers' slots; answers all others."""

    def __init__(self, role, killers, can_be_joined=False):
        super().__init__(role, can_be_joined)
        self.killers = killers
        self.slots = []

    async def call(self, cohort):
        slots = [request.slot for request in cohort]
        self.slots.append(slots)
        await asyncio.sleep(0)
        if self.killers.intersection(slots):
            raise ModelDied("the policy model stars-1 died")
        return await super().call(cohort)


def answers_of(killers, can_be_joined=False):
    """Every slot asks once; who got which answer, and the cohorts that were sent."""

    async def run():
        policy, reward = MortalModel("policy", killers, can_be_joined), Model("reward")
        policy.may_answer.set()
        scheduler = CohortScheduler(CoordinatorConfig(), [policy.queue], [reward.queue])
        requests = [proposal(slot) for slot in range(NUM_SLOTS)]
        for request in requests:
            scheduler.submit_proposal(request)
        answers = await asyncio.gather(*(request.answer for request in requests), return_exceptions=True)
        await settle()
        assert not policy.queue.num_rows and not policy.queue.is_careful
        return answers, policy

    return asyncio.run(run())


@pytest.mark.parametrize("can_be_joined", [False, True])
def test_a_row_that_kills_the_model_is_found_by_halving_and_harms_no_other(can_be_joined):
    answers, policy = answers_of({5}, can_be_joined)
    assert [slot for slot, answer in enumerate(answers) if answer is not None] == [5]
    assert isinstance(answers[5], RowError) and answers[5].error_type == "model_died"
    assert policy.slots.count([5]) == MAX_DEATHS, "it was sent alone until it was found guilty"
    assert policy.queue.limit == sys.maxsize, "the others are no reason for small cohorts"


def test_two_rows_that_kill_the_model_are_both_found():
    answers, _ = answers_of({3, 12})
    assert [slot for slot, answer in enumerate(answers) if isinstance(answer, RowError)] == [3, 12]


def test_a_model_that_dies_under_whatever_row_is_at_fault_itself():
    answers, _ = answers_of(set(range(NUM_SLOTS)))
    of_the_model = [answer for answer in answers if isinstance(answer, ModelError)]
    assert len(of_the_model) == NUM_SLOTS - (MAX_DEATHS - 1), (
        "two rows were taken for the killers before that was clear"
    )
    assert "3 times under each of 3 rows" in str(of_the_model[0])


def test_an_answer_forgives_earlier_deaths():
    async def run():
        policy, reward = MortalModel("policy", {0}), Model("reward")
        policy.may_answer.set()
        scheduler = CohortScheduler(CoordinatorConfig(), [policy.queue], [reward.queue])
        for _ in range(2 * MAX_DEATHS):
            policy.killers = {0}
            request = proposal(0)
            scheduler.submit_proposal(request)
            while policy.queue.num_deaths == 0:
                await asyncio.sleep(0)
            policy.killers = set()
            assert await request.answer is None

    asyncio.run(run())
