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

MIN_FORK_TOKENS = 16  # below this, copying a prefix costs more than computing it
MIN_GROUP_FILL = 0.5  # rows of one forward are at least this share of the longest, so padding stays below half


@dataclass(frozen=True, slots=True)
class Feed:
    """Feed tokens [start, end) of cohort row `row`, after copying the first `start` ones if a slot is named."""

    row: int
    start: int
    end: int
    copy_from: int | None = None

    @property
    def num_tokens(self) -> int:
        return self.end - self.start


class TokenTable:
    """The tokens every slot's cache holds: the engine's only memory of the past."""

    def __init__(self, num_slots: int, max_len: int) -> None:
        self.tokens_SL = np.full((num_slots, max_len), -1, dtype=np.int32)
        self.lengths_S = np.zeros(num_slots, dtype=np.int64)

    def common_prefix(self, slots: npt.NDArray[np.int64], prefix: TokenArray) -> npt.NDArray[np.int64]:
        """Longest common prefix of `prefix` with each of these slots' tokens, [len(slots)]."""
        equal = self.tokens_SL[slots, : len(prefix)] == prefix
        return np.minimum(_leading_true(equal), self.lengths_S[slots])

    def set(self, slot: int, tokens: TokenArray) -> None:
        self.tokens_SL[slot, : len(tokens)] = tokens
        self.lengths_S[slot] = len(tokens)

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
        Up to two waves; rows without anything to feed are absent.
    """
    feeds: list[Feed] = []
    for row, (slot, prefix) in enumerate(zip(slots_R, prefixes, strict=True)):
        end = len(prefix) - 1 if keep_last else len(prefix)
        own = int(table.common_prefix(np.array([slot]), prefix)[0])
        feeds.append(Feed(row, min(own, len(prefix) - 1), end))
    searching = [feed for feed in feeds if feed.num_tokens >= MIN_FORK_TOKENS]
    waves: list[list[Feed]] = [[feed for feed in feeds if 0 < feed.num_tokens < MIN_FORK_TOKENS], []]
    stable = np.setdiff1d(np.arange(len(table.lengths_S)), slots_R[[feed.row for feed in searching]])
    leaders: list[Feed] = []
    for feed in searching:
        feed = _fork_from_slot(table, stable, feed, prefixes[feed.row])
        follower = _fork_from_leader(leaders, slots_R, prefixes, feed)
        if follower is not None:
            waves[1].append(follower)
        elif feed.num_tokens > 0:
            waves[0].append(feed)
            leaders.append(feed)
        elif feed.copy_from is not None:
            waves[0].append(feed)
    return [wave for wave in waves if wave]


def _fork_from_slot(table: TokenTable, stable: npt.NDArray[np.int64], feed: Feed, prefix: TokenArray) -> Feed:
    if len(stable) == 0:
        return feed
    common = table.common_prefix(stable, prefix)
    best = int(np.argmax(common))
    start = min(int(common[best]), feed.end, len(prefix) - 1)
    if start - feed.start < MIN_FORK_TOKENS:
        return feed
    return Feed(feed.row, start, feed.end, int(stable[best]))


def _fork_from_leader(
    leaders: list[Feed], slots_R: npt.NDArray[np.int64], prefixes: list[TokenArray], feed: Feed
) -> Feed | None:
    best, best_start = None, feed.start + MIN_FORK_TOKENS - 1
    for leader in leaders:
        a, b = prefixes[leader.row], prefixes[feed.row]
        shared = min(len(a), len(b))
        common = int(_leading_true((a[:shared] == b[:shared])[None])[0])
        start = min(common, leader.end, feed.end, len(b) - 1)
        if start > best_start:
            best, best_start = leader, start
    if best is None:
        return None
    return Feed(feed.row, best_start, feed.end, int(slots_R[best.row]))


def group_by_length(feeds: list[Feed], max_tokens: int) -> Iterator[list[Feed]]:
    """Cut feeds into chunks of at most `max_tokens` and into groups of like length, in an order that can be run.

    A chunk of a row comes after the row's earlier chunks, because a round takes one chunk of every row.
    """
    rest = [feed for feed in feeds if feed.num_tokens > 0]
    while rest:
        chunks = [Feed(f.row, f.start, min(f.end, f.start + max_tokens)) for f in rest]
        chunks.sort(key=lambda chunk: -chunk.num_tokens)
        group: list[Feed] = []
        for chunk in chunks:
            if group and chunk.num_tokens < MIN_GROUP_FILL * group[0].num_tokens:
                yield group
                group = []
            group.append(chunk)
        yield group
        rest = [Feed(f.row, f.start + max_tokens, f.end) for f in rest if f.num_tokens > max_tokens]


def _leading_true(equal: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many leading entries of each row [N, L] are True."""
    if equal.shape[1] == 0:
        return np.zeros(len(equal), dtype=np.int64)
    first_false = np.argmin(equal, axis=1)
    return np.where(equal[np.arange(len(equal)), first_false], equal.shape[1], first_false)
