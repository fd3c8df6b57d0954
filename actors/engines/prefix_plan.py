"""What must be computed before a cohort can go on: the longest-common-prefix rule of contract 2, in numpy alone.

For every row the plan keeps the longest prefix its slot already holds, or copies a longer one from another slot (a
fork), and names the token range still to be fed. Rows of one call that share a head wait for the first of them
(wave 1), so a shared prompt is computed once.

Axes: R rows of the cohort, S slots, L tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.records import TokenArray

MIN_FORK_TOKENS = 4  # below this, copying a prefix costs more than computing it
MAX_PADDING_FRACTION, MAX_PADDING_TOKENS = 0.1, 8  # of the longest row of a forward; the larger of the two


@dataclass(frozen=True, slots=True)
class Feed:
    """Feed tokens [start, end) of cohort row `row`, after copying [copy_start, start) from a slot if one is named."""

    row: int
    start: int
    end: int
    copy_from: int | None = None
    copy_start: int = 0

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    def fork(self, source_slot: int, start: int) -> "Feed":
        """The same feed from `start` on, with what comes before it copied."""
        return Feed(self.row, start, self.end, source_slot, self.start)


class TokenTable:
    """The tokens every slot's cache holds: the engine's only memory of the past."""

    def __init__(self, num_slots: int, max_len: int) -> None:
        self.tokens_SL = np.full((num_slots, max_len), -1, dtype=np.int32)
        self.lengths_S = np.zeros(num_slots, dtype=np.int64)

    def set(self, slot: int, tokens: TokenArray) -> None:
        self.tokens_SL[slot, : len(tokens)] = tokens
        self.lengths_S[slot] = len(tokens)

    def truncate(self, slots_R: npt.NDArray[np.int64], lengths_R: npt.NDArray[np.int32]) -> None:
        """Forget what slots hold beyond these lengths."""
        self.lengths_S[slots_R] = np.minimum(self.lengths_S[slots_R], lengths_R)

    def clear(self) -> None:
        self.lengths_S[:] = 0


def plan_feeds(
    table: TokenTable, slots_R: npt.NDArray[np.int64], prefixes: list[TokenArray], keep_last: bool
) -> list[list[Feed]]:
    """The waves of feeds that bring every slot up to its row's prefix.

    Args:
        table: what the slots hold now.
        slots_R: slot of each row, all different.
        prefixes: R token prefixes, none empty.
        keep_last: True leaves the last token of each prefix to the caller (a policy feeds it as its first decode
            step); False feeds it here, even when the slot holds it already (a reward is read at that token).

    Returns:
        Up to two waves; rows without anything to feed are absent. The copies of a wave come before its feeds.
    """
    lengths_R = np.array([len(prefix) for prefix in prefixes])
    prefixes_RL = np.full((len(prefixes), int(lengths_R.max())), -2, dtype=np.int32)
    for row, prefix in enumerate(prefixes):
        prefixes_RL[row, : len(prefix)] = prefix
    ends_R = lengths_R - keep_last
    held_R = _leading_true(table.tokens_SL[slots_R, : prefixes_RL.shape[1]] == prefixes_RL)
    starts_R = np.minimum(np.minimum(held_R, table.lengths_S[slots_R]), lengths_R - 1)
    # What a slot still holds while this call runs: a slot of the cohort is overwritten from its row's start on.
    safe_S = table.lengths_S.copy()
    safe_S[slots_R] = np.minimum(safe_S[slots_R], starts_R)
    waves: list[list[Feed]] = [[], []]
    leaders: list[Feed] = []
    for row in np.flatnonzero(ends_R > starts_R).tolist():
        feed, prefix = Feed(row, int(starts_R[row]), int(ends_R[row])), prefixes[row]
        if feed.num_tokens >= MIN_FORK_TOKENS:
            feed = _fork(feed, prefix, table.tokens_SL, safe_S, np.arange(len(safe_S)))
            rows = [leader.row for leader in leaders]
            ends = np.array([leader.end for leader in leaders])
            follower = _fork(feed, prefix, prefixes_RL[rows], ends, slots_R[rows]) if leaders else feed
            if follower is not feed:
                waves[1].append(Feed(row, follower.start, follower.end, follower.copy_from, int(starts_R[row])))
                continue
            leaders.append(feed)
        waves[0].append(feed)
    return [wave for wave in waves if wave]


def _fork(
    feed: Feed,
    prefix: TokenArray,
    tokens_NL: npt.NDArray[np.int32],
    held_N: npt.NDArray[np.int64],
    slots_N: npt.NDArray[np.int64],
) -> Feed:
    """The feed that copies the longest common prefix any of N sequences holds, if that saves enough tokens."""
    probe = slice(feed.start, feed.start + MIN_FORK_TOKENS)
    if tokens_NL.shape[1] < probe.stop or feed.end < probe.stop:
        return feed
    likely = np.flatnonzero((tokens_NL[:, probe] == prefix[probe]).all(axis=1) & (held_N >= probe.stop))
    if len(likely) == 0:
        return feed
    width = min(len(prefix), tokens_NL.shape[1])
    common = np.minimum(_leading_true(tokens_NL[likely, :width] == prefix[:width]), held_N[likely])
    best = int(np.argmax(common))
    start = min(int(common[best]), feed.end, len(prefix) - 1)
    if start - feed.start < MIN_FORK_TOKENS:
        return feed
    return feed.fork(int(slots_N[likely[best]]), start)


def group_by_length(feeds: list[Feed], chunk_tokens: int, forward_tokens: int) -> Iterator[list[Feed]]:
    """Cut feeds into forwards: chunks of like length, longest first, in an order that can be run.

    A chunk of a row comes after the row's earlier chunks, because a round takes one chunk of every row.

    Args:
        feeds: what to feed.
        chunk_tokens: most tokens of one row in one forward.
        forward_tokens: most tokens of all rows of one forward, padding included; one row may always go.
    """
    rest = [feed for feed in feeds if feed.num_tokens > 0]
    while rest:
        chunks = [Feed(f.row, f.start, min(f.end, f.start + chunk_tokens)) for f in rest]
        chunks.sort(key=lambda chunk: -chunk.num_tokens)
        group: list[Feed] = []
        for chunk in chunks:
            longest = group[0].num_tokens if group else 0
            is_full = (len(group) + 1) * longest > forward_tokens
            most_padding = max(MAX_PADDING_FRACTION * longest, MAX_PADDING_TOKENS)
            if group and (is_full or longest - chunk.num_tokens > most_padding):
                yield group
                group = []
            group.append(chunk)
        yield group
        rest = [Feed(f.row, f.start + chunk_tokens, f.end) for f in rest if f.num_tokens > chunk_tokens]


def _leading_true(equal: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many leading entries of each row [N, L] are True."""
    if equal.shape[1] == 0:
        return np.zeros(len(equal), dtype=np.int64)
    first_false = np.argmin(equal, axis=1)
    return np.where(equal[np.arange(len(equal)), first_false], equal.shape[1], first_false)
