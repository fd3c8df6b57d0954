"""A Python function of the user's, with TRL's signature, in processes of its own.

A call that fails as a whole is no verdict on its rows: each of them is tried alone, and only those that fail alone are
at fault. After `FUNCTION_TRIES` calls that were ended for their silence the rows that are left are faults untried, so
that a function which always hangs does not stop a run.
"""

import queue
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from actors.rendering.prompt_reader import Messages
from actors.rewards.conversations import RESPONSE
from actors.rewards.function_process import CallFault, FunctionProcess
from actors.rewards.interface import RewardContext, RewardTraits
from pipeline.config.called_rewards import FUNCTION_TRIES, FunctionReward
from pipeline.protocol import CallStats, ScoreCohort, Scores
from pipeline.records import PromptRow

UNTRIED = CallFault(
    "reward_timeout", f"not tried, because {FUNCTION_TRIES} calls before it were ended for their silence"
)


class CalledFunction:
    """Calls the function with the rows of a cohort.

    Args:
        section: which function, and how long it may take.
    """

    def __init__(self, section: FunctionReward) -> None:
        self.section = section
        self.processes: queue.LifoQueue[FunctionProcess] = queue.LifoQueue()
        try:
            for _ in range(section.processes):
                self.processes.put(FunctionProcess(section.function, section.timeout_s))
        except BaseException:
            self.close()
            raise

    def score(self, cohort: ScoreCohort) -> Scores:
        """The function's number for each row, or the row's fault."""
        started_s = time.time()
        assert cohort.texts is not None
        rewards_R, faults = np.full(len(cohort), np.nan), dict[int, tuple[str, str]]()
        with self._process() as process:
            for place, outcome in self._outcomes(process, cohort):
                if isinstance(outcome, CallFault):
                    faults[place] = (outcome.error_type, f"reward.function {self.section.function}: {outcome.message}")
                else:
                    rewards_R[place] = outcome
        ended_s = time.time()
        share_s = (ended_s - started_s) / self.section.processes
        return Scores(
            rewards_R, CallStats(np.zeros(len(cohort), np.int32), started_s, ended_s, shared_busy_s=share_s), faults
        )

    def close(self) -> None:
        """End the processes."""
        while not self.processes.empty():
            self.processes.get().close()

    @contextmanager
    def _process(self) -> Iterator[FunctionProcess]:
        process = self.processes.get()
        try:
            yield process
        finally:
            self.processes.put(process)

    def _outcomes(self, process: FunctionProcess, cohort: ScoreCohort) -> Iterator[tuple[int, float | CallFault]]:
        """Every place's number or fault."""
        waiting, num_silences = deque(self._groups(cohort)), 0
        while waiting:
            group = waiting.popleft()
            if num_silences == FUNCTION_TRIES:
                yield from ((place, UNTRIED) for place in group)
                continue
            outcome = process.call(arguments(cohort, group, self.section), len(group))
            if not isinstance(outcome, CallFault):
                yield from zip(group, outcome, strict=True)
                continue
            num_silences += outcome.error_type == "reward_timeout"
            if len(group) == 1:
                yield group[0], outcome
            else:
                waiting.extendleft([place] for place in reversed(group))

    def _groups(self, cohort: ScoreCohort) -> Iterator[list[int]]:
        """Places that share a call: at most `rows_per_call`, and never text prompts with message lists."""
        is_chat = [row.messages is not None for row in cohort.rows]
        for kind in (False, True):
            places = [place for place in range(len(cohort)) if is_chat[place] == kind]
            for first in range(0, len(places), self.section.rows_per_call):
                yield places[first : first + self.section.rows_per_call]


def arguments(cohort: ScoreCohort, places: list[int], section: FunctionReward) -> dict[str, Any]:
    """What the function gets of these rows, which all have messages or none."""
    assert cohort.texts is not None
    rows = [cohort.rows[place] for place in places]
    texts = [cohort.texts[place] for place in places]
    is_chat = rows[0].messages is not None
    return {
        "prompts": [list(row.messages or ()) if is_chat else row.prompt for row in rows],
        "completions": [_answer(text) if is_chat else text for text in texts],
        "finished": [bool(cohort.finished_R[place]) for place in places],
        **{name: [row.columns[name] for row in rows] for name in section.columns},
    }


def _answer(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def traits(section: FunctionReward, context: RewardContext) -> RewardTraits:
    """Rows gain nothing by company, so they do not wait for it."""
    return RewardTraits(reads_text=True, rows_per_call=section.rows_per_call, max_calls=section.processes)


def load(section: FunctionReward, context: RewardContext) -> CalledFunction:
    """The function in its processes."""
    return CalledFunction(section)


def shown(section: FunctionReward, context: RewardContext, row: PromptRow) -> str:
    """The call with this row alone."""
    given = arguments(ScoreCohort.of_texts([row], [RESPONSE], [True]), [0], section)
    lines = [f"    {name}={value!r}," for name, value in given.items()]
    return "\n".join([f"{section.function}(", *lines, ")"])
