"""One row's view of its cell: its two awaitables and its lanes, bound to its prompt, its slots and its ledger.

Invariant: a lane's slot is the row's own, or one borrowed that no other row wants; `give_back` ends every `take`.
"""

import asyncio
from dataclasses import dataclass

import numpy as np

from actors.coordination.cohorts import CohortScheduler
from actors.coordination.requests import Ledger, ProposeRequest, ScoreRequest
from actors.coordination.slots import SlotPool
from actors.coordination.stopping import answer_text, end_at_stop, tokens_of_answer
from actors.rendering.prompt_reader import PromptReader
from actors.rewards.interface import RewardTraits
from pipeline.records import DrawKey, EntropyStop, PromptRow, SamplingParams, Segment, TokenArray


@dataclass(frozen=True, slots=True)
class CellShare:
    """What all rows of a cell share: its queues, its slots, the policy's way of reading, and what the reward can do."""

    scheduler: CohortScheduler
    slots: SlotPool
    reader: PromptReader
    reward: RewardTraits


class RowSession:
    """The two awaitables of one row, bound to its prompt, its slots and its ledger.

    Args:
        cell: what it shares with the other rows of its cell.
        row: its prompt.
        prompt_tokens: the same as the policy reads it.
        sampling: how its tokens are drawn.
        key: of all its draws, `pipeline.draws.row_key`.
        slots: its own, one per lane.
        ledger: of what it costs.
    """

    def __init__(
        self,
        cell: CellShare,
        row: PromptRow,
        prompt_tokens: TokenArray,
        sampling: SamplingParams,
        key: int,
        slots: list[int],
        ledger: Ledger,
    ) -> None:
        self.cell = cell
        self.row = row
        self.prompt_tokens = prompt_tokens
        self.sampling = sampling
        self.row_key = key
        self.slots = slots
        self.taken: set[int] = set()
        self.borrowed: dict[int, int] = {}
        self.ledger = ledger

    def take(self) -> int | None:
        """A lane whose slot is idle; see `pipeline.strategies.task.Lanes`."""
        lane = next((lane for lane in range(len(self.slots)) if lane not in self.taken), None)
        if lane is None and (borrowed := self.cell.slots.borrow(self.slots[0])) is not None:
            lane = len(self.slots)
            while lane in self.borrowed:
                lane += 1
            self.borrowed[lane] = borrowed
        if lane is not None:
            self.taken.add(lane)
        return lane

    def keep(self, lane: int) -> None:
        """Make a borrowed lane's slot the row's own; its old one is given back in its place."""
        if lane in self.borrowed:
            self.slots[0], self.borrowed[lane] = self.borrowed[lane], self.slots[0]

    def give_back(self, lane: int) -> None:
        """The end of `take`."""
        self.taken.remove(lane)
        if lane in self.borrowed:
            self.cell.slots.give_back(self.borrowed.pop(lane))

    def slot(self, lane: int) -> int:
        return self.borrowed[lane] if lane in self.borrowed else self.slots[lane]

    async def propose(
        self,
        response_tokens: TokenArray,
        num_tokens: int,
        key: DrawKey,
        lane: int = 0,
        stop: EntropyStop | None = None,
    ) -> Segment:
        """One candidate continuation of the response; see `pipeline.records.Propose`."""
        prefix = np.concatenate([self.prompt_tokens, response_tokens])
        answer: asyncio.Future[Segment] = asyncio.get_running_loop().create_future()
        request = ProposeRequest(
            self.slot(lane), prefix, num_tokens, self.row_key, key, self.sampling, self.ledger, answer, stop
        )
        self.cell.scheduler.submit_proposal(request)
        segment = await answer
        return end_at_stop(segment, response_tokens, self.sampling.stop, self.cell.reader.text)

    async def score(self, response_tokens: TokenArray, finished: bool, lane: int = 0) -> float:
        """Reward of prompt + response so far; raises RowError when the reward cannot give one."""
        cell, answer_tokens = self.cell, response_tokens
        if finished:
            answer_tokens = tokens_of_answer(response_tokens, self.sampling.stop, cell.reader.text)
        text = None
        if cell.reward.reads_text:
            text = answer_text(cell.reader.text(response_tokens), self.sampling.stop, finished)
        room = 0 if finished else self.sampling.max_new_tokens - len(response_tokens)
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        cell.scheduler.submit_score(
            ScoreRequest(self.slot(lane), self.row, answer_tokens, text, finished, room, self.ledger, answer)
        )
        return await answer
