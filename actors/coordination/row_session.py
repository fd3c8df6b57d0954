"""One row's view of its cell: its two awaitables and its lanes, bound to its prompt, its slots and its ledger.

Invariant: a lane's slot is the row's own, or one borrowed that no other row wants; `give_back` ends every `take`.
"""

import asyncio
import math
from dataclasses import dataclass

import numpy as np

from actors.coordination.cohorts import CohortScheduler
from actors.coordination.requests import Ledger, ProposeRequest, ScoreRequest
from actors.coordination.slots import SlotPool
from actors.coordination.stopping import end_at_stop, tokens_of_answer
from actors.rendering.renderer import RenderedPrompt, Renderer
from pipeline.config.decoding import RewardConfig
from pipeline.errors import RowError
from pipeline.records import DrawKey, EntropyStop, SamplingParams, Segment, TokenArray


@dataclass(frozen=True, slots=True)
class CellShare:
    """What all rows of a cell share: its queues, its slots, the way to text, and how the reward model reads."""

    scheduler: CohortScheduler
    slots: SlotPool
    renderer: Renderer
    reward: RewardConfig


class RowSession:
    """The two awaitables of one row, bound to its prompt, its slots and its ledger.

    Args:
        cell: what it shares with the other rows of its cell.
        prompt: as each model reads it.
        sampling: how its tokens are drawn.
        key: of all its draws, `pipeline.draws.row_key`.
        slots: its own, one per lane.
        ledger: of what it costs.
    """

    def __init__(
        self,
        cell: CellShare,
        prompt: RenderedPrompt,
        sampling: SamplingParams,
        key: int,
        slots: list[int],
        ledger: Ledger,
    ) -> None:
        self.cell = cell
        self.prompt = prompt
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
        prefix = np.concatenate([self.prompt.policy_tokens, response_tokens])
        answer: asyncio.Future[Segment] = asyncio.get_running_loop().create_future()
        request = ProposeRequest(
            self.slot(lane), prefix, num_tokens, self.row_key, key, self.sampling, self.ledger, answer, stop
        )
        self.cell.scheduler.submit_proposal(request)
        segment = await answer
        return end_at_stop(segment, response_tokens, self.sampling.stop, self.cell.renderer.text)

    async def score(self, response_tokens: TokenArray, finished: bool, lane: int = 0) -> float:
        """Reward of prompt + response so far; raises RowError when it is not a finite number."""
        prefix = reward_prefix(
            self.prompt.reward_tokens,
            response_tokens,
            finished,
            self.cell.reward,
            self.cell.renderer,
            self.sampling.stop,
        )
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.cell.scheduler.submit_score(ScoreRequest(self.slot(lane), prefix, self.ledger, answer))
        reward = await answer
        if not math.isfinite(reward):
            raise RowError("non_finite_reward", f"the reward model gave {reward}")
        return reward


def reward_prefix(
    prompt_tokens: TokenArray,
    response_tokens: TokenArray,
    finished: bool,
    config: RewardConfig,
    renderer: Renderer,
    stop: tuple[str, ...] = (),
) -> TokenArray:
    """What the reward model reads: its own prompt, the response without what ended it, and the end of the assistant's
    turn where `close_turn` asks for it."""
    answer_tokens = tokens_of_answer(response_tokens, stop, renderer.text) if finished else response_tokens
    closes = config.close_turn == "always" or (config.close_turn == "finished" and finished)
    parts = [prompt_tokens, answer_tokens, renderer.closing_tokens] if closes else [prompt_tokens, answer_tokens]
    return np.concatenate(parts)
