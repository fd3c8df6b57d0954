"""Which coordinator works with which cell.

Invariants: an actor keeps its cell through its restarts; while there are cells that nobody claimed, no two actors share
one. An actor that Ray Data gave up and replaced claims nothing back, so when no cell is free its successor gets the one
whose owner was not heard of for longest. Two coordinators on one cell would only be slow: caches are keyed by tokens.
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    actor_id: str
    heard_at_s: float


class CellClaims:
    """Hands out cells.

    Args:
        node_ids: the node of every cell, so that a coordinator gets one near it if it can.
    """

    def __init__(self, node_ids: tuple[str, ...]) -> None:
        self.node_ids = node_ids
        self.claims: dict[int, Claim] = {}

    def claim(self, actor_id: str, node: str) -> int:
        """The cell of an actor on `node`."""
        cell = next((cell for cell, claim in self.claims.items() if claim.actor_id == actor_id), None)
        if cell is None:
            free = [cell for cell in range(len(self.node_ids)) if cell not in self.claims]
            near = [cell for cell in free if self.node_ids[cell] == node]
            cell = next(iter([*near, *free]), None)
        if cell is None:
            cell = min(self.claims, key=lambda cell: self.claims[cell].heard_at_s)
        self.confirm(actor_id, cell)
        return cell

    def confirm(self, actor_id: str, cell: int) -> None:
        """A sign of life; also how a desk that lost its memory learns again what it had given out."""
        self.claims[cell] = Claim(actor_id, time.monotonic())
