"""Fake models of a known cost: deterministic, without torch, chosen by `backend: fake`.

A call costs so much, and so much for each of its rows (a policy's decoding) and for each token that brings a cache up
to its prefix. `jobs.simulate.costs` fits the three to real calls.

Used by dry runs, by simulation, and by the tests of everything that is not an engine. A fake keeps the same token
accounts as a real engine, through the same prefix plan.
"""

import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from actors.engines.prefix_plan import TokenTable, plan_feeds
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.draws import token_subkeys
from pipeline.protocol import CallStats, Proposals, ProposeCohort, split_prefixes
from pipeline.records import TokenArray

FAKE_END_TOKEN = 256  # one past the 256 byte tokens of the fake renderer
END_PROBABILITY = 0.01
MAX_ENTROPY = 4.0


class Clock(Protocol):
    def time(self) -> float: ...

    def wait_until(self, instant_s: float) -> None: ...


class WallClock:
    """Real time."""

    def time(self) -> float:
        return time.time()

    def wait_until(self, instant_s: float) -> None:
        time.sleep(max(0.0, instant_s - time.time()))


class FakeModel:
    """The part both fakes share: the clock and the token accounts."""

    def __init__(self, config: ModelConfig, engine: EngineConfig) -> None:
        assert engine.slots is not None and engine.max_model_len is not None
        self.clock: Clock = WallClock()
        self.call_s, self.row_s = config.fake_call_ms / 1000, config.fake_row_ms / 1000
        self.token_s = config.fake_token_ms / 1000
        self.table = TokenTable(engine.slots, engine.max_model_len)

    def catch_up(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray], keep_last: bool
    ) -> npt.NDArray[np.int32]:
        """Tokens a real engine would push to bring the slots up to their prefixes, [R]."""
        pushed_R = np.zeros(len(slots_R), dtype=np.int32)
        for wave in plan_feeds(self.table, slots_R.astype(np.int64), prefixes, keep_last):
            for feed in wave:
                pushed_R[feed.row] += feed.num_tokens
                self.table.set(int(slots_R[feed.row]), prefixes[feed.row][: feed.end])
        return pushed_R

    def stats(
        self, fed_R: npt.NDArray[np.int32], started_s: float, decoded_R: npt.NDArray[np.int32] | int = 0
    ) -> CallStats:
        """Wait out the cost of one call, then close its account: tokens fed to catch up, and tokens decoded."""
        prefill_s = self.token_s * int(fed_R.sum())
        self.clock.wait_until(started_s + self.call_s + self.row_s * len(fed_R) + prefill_s)
        return CallStats(fed_R + decoded_R, started_s, self.clock.time(), prefill_s)


class FakePolicy(FakeModel):
    """Draws lower-case letters from the keyed generator, and an end token once in a hundred. The entropy before a token
    is drawn with it, uniformly from 0 to MAX_ENTROPY nats."""

    def propose(self, cohort: ProposeCohort) -> Proposals:
        started_s = self.clock.time()
        prefixes = split_prefixes(cohort.prefix_tokens, cohort.prefix_lengths_R)
        pushed_R = self.catch_up(cohort.slots_R, prefixes, keep_last=True)
        words_RT, chances_RT = token_subkeys(cohort.row_keys_R, cohort.draw_keys_R3, int(cohort.num_tokens_R.max()))
        tokens_RT = (ord("a") + words_RT % 26).astype(np.int32)
        ends_RT = chances_RT < END_PROBABILITY * 2**32
        tokens_RT[ends_RT] = FAKE_END_TOKEN
        first_end_R = np.where(ends_RT.any(axis=1), ends_RT.argmax(axis=1) + 1, ends_RT.shape[1] + 1)
        limits_R = np.minimum(cohort.num_tokens_R, _stops(cohort, words_RT >> 16))
        lengths_R = np.minimum(first_end_R, limits_R).astype(np.int32)
        looks_ahead_R = (limits_R < first_end_R) & (limits_R < cohort.num_tokens_R)
        for slot, prefix, tokens, length in zip(cohort.slots_R, prefixes, tokens_RT, lengths_R, strict=True):
            self.table.set(int(slot), np.concatenate([prefix, tokens[: length - 1]]))
        stats = self.stats(pushed_R, started_s, lengths_R + looks_ahead_R)
        return Proposals(tokens_RT, lengths_R, first_end_R <= limits_R, stats)


def _stops(cohort: ProposeCohort, words_RT: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The token before which each row's entropy stop ends its segment; one past the last for none."""
    num_rows, num_tokens = words_RT.shape
    if cohort.stop_entropy_R is None or cohort.stop_after_R is None:
        return np.full(num_rows, num_tokens)
    is_late_RT = np.arange(num_tokens) >= cohort.stop_after_R[:, None]
    stops_RT = (MAX_ENTROPY * words_RT / 2**16 >= cohort.stop_entropy_R[:, None]) & is_late_RT
    return np.where(stops_RT.any(axis=1), stops_RT.argmax(axis=1), num_tokens)


class FakeReward(FakeModel):
    """Rewards the share of vowels among the last 16 tokens of a prefix: cheap, deterministic, in [0, 1]."""

    def score(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray]
    ) -> tuple[npt.NDArray[np.float64], CallStats]:
        started_s = self.clock.time()
        pushed_R = self.catch_up(slots_R, prefixes, keep_last=False)
        vowels = np.frombuffer(b"aeiou", dtype=np.uint8)
        rewards_R = np.array([np.isin(prefix[-16:], vowels).mean() for prefix in prefixes])
        return rewards_R, self.stats(pushed_R, started_s)
