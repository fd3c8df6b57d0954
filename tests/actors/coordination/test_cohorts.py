"""When a cohort is sent: where calls are done one by one rows wait for company, where they join rows are sent soon."""

import asyncio

import numpy as np
import pytest

from actors.coordination.cohorts import CohortQueue, CohortScheduler
from actors.coordination.requests import Ledger, ProposeRequest, ScoreRequest
from pipeline.config.decoding import CoordinatorConfig
from pipeline.protocol import CallStats
from pipeline.records import DrawKey, SamplingParams

NUM_SLOTS = 16
PREFIX = np.array([1], dtype=np.int32)


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
        scheduler.submit_score(ScoreRequest(10, PREFIX, Ledger(), asyncio.get_running_loop().create_future()))
        await settle()
        seen = list(policy.sizes), list(reward.sizes)
        for model in (policy, reward):
            model.may_answer.set()
        await settle()
        return seen

    assert asyncio.run(sizes()) == (proposed, scored)
