"""Decoding where shapes may change from step to step: the way of a CPU.

Calls join between two tokens: a step draws the next token of every row that any call has under way, so the part of a
step's time that does not depend on its rows is paid once for all of them. Rows leave one by one as they finish.

Axes: R rows of a call, A rows under way, T tokens of the segment, V vocabulary.
"""

import time
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from actors.engines.sampling import Sampler
from actors.engines.slot_model import SlotModel
from pipeline.protocol import ProposeCohort
from pipeline.records import TokenArray


@dataclass(slots=True, eq=False)
class Call:
    """A call under way and what its rows have drawn: tokens int32 [R, T], right-padded; how many of each row count, how
    many decode steps it took (one more than tokens where an entropy stop saw the next one coming), which ended, and
    which met logits that were not finite on the way."""

    cohort: ProposeCohort
    prefixes: list[TokenArray]
    pushed_R: npt.NDArray[np.int32]
    started_s: float
    tokens_RT: npt.NDArray[np.int32]
    lengths_R: npt.NDArray[np.int32]
    num_steps_R: npt.NDArray[np.int32]
    finished_R: npt.NDArray[np.bool_]
    invalid_R: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, cohort: ProposeCohort, prefixes: list[TokenArray], pushed_R: npt.NDArray[np.int32], started_s: float
    ) -> "Call":
        R, T = len(prefixes), int(cohort.num_tokens_R.max())
        counts_2R, flags_2R = np.zeros((2, R), dtype=np.int32), np.zeros((2, R), dtype=np.bool_)
        return cls(cohort, prefixes, pushed_R, started_s, np.zeros((R, T), dtype=np.int32), *counts_2R, *flags_2R)

    def held_tokens(self, row: int) -> TokenArray:
        """What a finished row's slot holds: all but the token that was drawn last, which was never fed."""
        return np.concatenate([self.prefixes[row], self.tokens_RT[row, : self.num_steps_R[row] - 1]])


class Decoder(Protocol):
    """Draws the segments of calls whose slots hold all of their prefixes but the last token."""

    sampling_s: float  # since the start
    can_be_joined: bool  # a call that comes between two steps decodes beside those under way

    def join(self, call: Call) -> None: ...

    def step(self) -> list[Call]:
        """Go on; returns the calls that are done."""
        ...

    def abort_all(self) -> None:
        """Forget the calls under way."""
        ...


@dataclass(slots=True)
class ActiveRows:
    """The rows under way, in the order of their storage rows. `call_A` numbers their calls, `row_A` is their place in
    the call, `position_A` that of their last token, which the next step feeds, `left_A` how many they may draw."""

    call_A: npt.NDArray[np.int64]
    row_A: npt.NDArray[np.int64]
    slot_A: npt.NDArray[np.int64]
    token_A: npt.NDArray[np.int64]
    position_A: npt.NDArray[np.int64]
    num_drawn_A: npt.NDArray[np.int64]
    left_A: npt.NDArray[np.int64]

    @classmethod
    def of(cls, cohort: ProposeCohort, number: int) -> "ActiveRows":
        R = len(cohort.slots_R)
        columns = (
            np.full(R, number),
            np.arange(R),
            cohort.slots_R,
            cohort.last_tokens_R,
            cohort.prefix_lengths_R - 1,
            np.zeros(R),
            cohort.num_tokens_R,
        )
        return cls(*(column.astype(np.int64) for column in columns))

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "ActiveRows":
        return ActiveRows(*(getattr(self, field.name)[rows] for field in fields(self)))

    def join(self, others: "ActiveRows") -> "ActiveRows":
        return ActiveRows(*(np.concatenate([getattr(self, f.name), getattr(others, f.name)]) for f in fields(self)))


class ShrinkingDecoder:
    """Decodes the rows under way where they lie, more of them as calls join, fewer as rows finish."""

    can_be_joined = True

    def __init__(self, slots: SlotModel, end_token_ids: torch.Tensor) -> None:
        self.slots = slots
        self.end_token_ids = end_token_ids
        self.sampling_s = 0.0
        self.num_calls = 0
        self.sampler: Sampler | None = None
        self.abort_all()

    def abort_all(self) -> None:
        self.calls: dict[int, Call] = {}
        self.rows: ActiveRows | None = None

    def join(self, call: Call) -> None:
        sampler = Sampler.of(call.cohort, self.slots.vocabulary_size, self.slots.device)
        rows = ActiveRows.of(call.cohort, self.num_calls)
        self.calls[self.num_calls] = call
        self.num_calls += 1
        if self.rows is not None and self.sampler is not None:
            rows, sampler = self.rows.join(rows), self.sampler.join(sampler)
        self.storage_rows_A, order = self.slots.cache.select(rows.slot_A)
        self.rows, self.sampler = rows.take(order), sampler.take(torch.from_numpy(order))

    def step(self) -> list[Call]:
        rows = self.rows
        assert rows is not None and self.sampler is not None
        logits_AV = self.slots.next_logits(self.storage_rows_A, rows.position_A, rows.token_A)
        sampling_started_s = time.perf_counter()
        index_A = torch.from_numpy(rows.num_drawn_A)
        drawn, is_finite = self.sampler.sample(logits_AV, index_A)
        stops = self.sampler.stops(logits_AV, index_A)
        stopped_A = np.zeros(len(rows.row_A), dtype=np.bool_) if stops is None else stops.cpu().numpy()
        ended_A = torch.isin(drawn, self.end_token_ids).cpu().numpy() & ~stopped_A
        rows.token_A, is_finite_A = drawn.cpu().numpy(), is_finite.cpu().numpy()
        self.sampling_s += time.perf_counter() - sampling_started_s
        for number, call in self.calls.items():
            mine = rows.call_A == number
            places = rows.row_A[mine]
            call.tokens_RT[places, rows.num_drawn_A[mine]] = rows.token_A[mine]
            call.num_steps_R[places] += 1
            call.lengths_R[places] += ~stopped_A[mine]
            call.finished_R[places] = ended_A[mine]
            call.invalid_R[places] |= ~is_finite_A[mine]
        rows.num_drawn_A, rows.position_A, rows.left_A = rows.num_drawn_A + 1, rows.position_A + 1, rows.left_A - 1
        done_A = ended_A | stopped_A | (rows.left_A == 0)
        return self._retire(rows, self.sampler, done_A) if done_A.any() else []

    def _retire(self, under_way: ActiveRows, sampler: Sampler, done_A: npt.NDArray[np.bool_]) -> list[Call]:
        """Let rows go; returns the calls that have none left."""
        done, rows = under_way.take(done_A), under_way.take(~done_A)
        for number, row, slot in zip(done.call_A.tolist(), done.row_A.tolist(), done.slot_A.tolist(), strict=True):
            self.slots.table.set(slot, self.calls[number].held_tokens(row))
        ended = [self.calls.pop(number) for number in set(done.call_A.tolist()) - set(rows.call_A.tolist())]
        self.rows = rows if len(rows.row_A) else None
        if self.rows is not None:
            self.sampler = sampler.take(torch.from_numpy(np.flatnonzero(~done_A)))
            self.storage_rows_A = self.storage_rows_A[~done_A]
        return ended
