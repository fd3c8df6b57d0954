"""How many slots of how many tokens: as configured, else as many as the models' limits and free memory allow.

Slots change no response, but a shorter `max_model_len` turns long prompts into error rows; so where both are free the
slots give way first, as long as there are enough of them to keep the models busy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from actors.engines.backends import Role
from actors.startup.memory import JoinedMemory, MemoryNeed, ModelMemory, gigabytes
from pipeline.config.cluster import ClusterConfig
from pipeline.config.decoding import EngineConfig
from pipeline.errors import ConfigError

USUAL_SLOTS = 64
ENOUGH_SLOTS = 16  # fewer make a decode step no faster: it reads the same weights
USABLE_FRACTION = 0.9  # of free memory; the rest is for what else runs there


@dataclass(frozen=True, slots=True)
class MemoryPool:
    """A memory that some of the models share, and what is free of it.

    Args:
        memory_by_role: the roles whose models live there.
        free_bytes: what they may share.
        num_actors: how many actors of each role live there; one each where it is not said.
        cluster: how many actors share the slots of a cell.
    """

    memory_by_role: Mapping[Role, ModelMemory | JoinedMemory]
    free_bytes: int
    num_actors: Mapping[Role, int] = field(default_factory=dict)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def needs(self, slots: int, max_model_len: int) -> list[MemoryNeed]:
        """One actor's need of each role, where a policy has `slots` slots."""
        reward_slots = self.cluster.slots_per_reward(slots)
        slots_of: dict[Role, int] = {"policy": slots, "reward": reward_slots}
        return [memory.need(slots_of[role], max_model_len) for role, memory in self.memory_by_role.items()]

    def total_bytes(self, slots: int, max_model_len: int) -> int:
        """What all actors need together."""
        needs = self.needs(slots, max_model_len)
        return sum(self.num_actors.get(need.role, 1) * need.total_bytes for need in needs)

    def fits(self, slots: int, max_model_len: int) -> bool:
        return self.total_bytes(slots, max_model_len) <= USABLE_FRACTION * self.free_bytes

    def sum_shown(self, slots: int, max_model_len: int) -> str:
        """The arithmetic in words."""
        counted = [(need, self.num_actors.get(need.role, 1)) for need in self.needs(slots, max_model_len)]
        phrases = [f"{need}{f', {count} times' if count > 1 else ''}" for need, count in counted]
        is_sum = sum(count for _, count in counted) > 1
        together = f", together {gigabytes(self.total_bytes(slots, max_model_len))}" if is_sum else ""
        usable = f"{gigabytes(USABLE_FRACTION * self.free_bytes)} usable"
        return f"{', '.join(phrases)}{together} of {usable} (90 % of {gigabytes(self.free_bytes)} free)"


@dataclass(frozen=True, slots=True)
class ShapeBounds:
    """What a shape must hold at least, and may hold at most.

    Args:
        num_lanes: slots that one row may hold at once.
        max_new_tokens: tokens of a response; one more must be left for a prompt.
        max_model_len: most tokens that the models' positions and the config allow.
    """

    num_lanes: int
    max_new_tokens: int
    max_model_len: int

    @property
    def shortest(self) -> int:
        return self.max_new_tokens + 1


def fit_engine(engine: EngineConfig, bounds: ShapeBounds, pools: list[MemoryPool]) -> EngineConfig:
    """The engine with `slots` and `max_model_len` filled in.

    Args:
        pools: the memories that must hold the models; none for models that need none.

    Raises:
        ConfigError: it cannot fit; the message does the sum.
    """
    shape = _shape(engine, bounds, lambda *shape: all(pool.fits(*shape) for pool in pools))
    if shape is None:
        least = (engine.slots or bounds.num_lanes, engine.max_model_len or bounds.shortest)
        pool = next(pool for pool in pools if not pool.fits(*least))
        raise ConfigError(
            f"engine.slots = {least[0]} × engine.max_model_len = {least[1]} cannot fit: {pool.sum_shown(*least)}"
        )
    return engine.model_copy(update={"slots": shape[0], "max_model_len": shape[1]})


def expected_peaks(engine: EngineConfig, pools: list[MemoryPool]) -> dict[Role, int]:
    """Bytes of each model's process when every slot is full."""
    assert engine.slots is not None and engine.max_model_len is not None
    needs = [need for pool in pools for need in pool.needs(engine.slots, engine.max_model_len)]
    return {need.role: need.peak_bytes for need in needs}


def _shape(engine: EngineConfig, bounds: ShapeBounds, fits: Callable[[int, int], bool]) -> tuple[int, int] | None:
    """Slots and tokens; None when not even the least fits."""
    slots, length, lanes, limit = engine.slots, engine.max_model_len, bounds.num_lanes, bounds.max_model_len
    shortest, most_slots = bounds.shortest, max(USUAL_SLOTS, lanes)
    enough = max(ENOUGH_SLOTS, lanes)
    if slots is not None:
        tries = [(slots, slots, length or shortest, length or limit)]
    elif length is not None:
        tries = [(lanes, most_slots, length, length)]
    else:
        tries = [
            (enough, most_slots, limit, limit),
            (enough, enough, shortest, limit),
            (lanes, enough, shortest, shortest),
        ]
    for least_slots, most, least_length, longest in tries:
        found_slots = _largest(least_slots, most, partial(_swapped, fits, least_length))
        if found_slots is not None:
            return found_slots, _largest(least_length, longest, partial(fits, found_slots)) or least_length
    return None


def _swapped(fits: Callable[[int, int], bool], length: int, slots: int) -> bool:
    return fits(slots, length)


def _largest(least: int, most: int, fits: Callable[[int], bool]) -> int | None:
    """The largest number from `least` to `most` that fits; what fits is all up to one number."""
    if not fits(least):
        return None
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return least
