"""From a config to loaded models, in three steps: what files tell, what the cluster and its memory tell, loading.

Batch, dry run, simulation, server and Python go through here, so that what cannot work is refused alike everywhere and
before anything is loaded.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from actors.cluster.gpu_reservation import Reservation, reserved
from actors.cluster.placement import Models, start_models, stop_models
from actors.cluster.session import cluster
from actors.engines.backends import Role
from actors.rewards.interface import RewardContext
from actors.startup.engine_shape import MemoryPool, ShapeBounds, expected_peaks, fit_engine
from actors.startup.hub_commits import at_commits
from actors.startup.memory_pools import find_memory_pools
from actors.startup.model_limits import ModelConfigs, longest_model_len, read_model_configs
from pipeline.config.decoding import Decoding
from pipeline.errors import ConfigError

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CheckedModels:
    """What the models' own files say of a config. `max_model_len` is the most that positions and the config allow."""

    decoding: Decoding
    model_configs: ModelConfigs
    max_model_len: int


@dataclass(frozen=True, slots=True)
class PlacedModels:
    """Models that have a place to be loaded to: `decoding` has `engine.slots` and `engine.max_model_len` set."""

    decoding: Decoding
    reservation: Reservation
    pools: list[MemoryPool]

    @property
    def expected_peaks(self) -> dict[Role, int]:
        """Bytes of each model's process when every slot is full."""
        return expected_peaks(self.decoding.engine, self.pools)


@dataclass(frozen=True, slots=True)
class ReadyModels:
    """Loaded models, the config they were loaded by, and the most memory each should need, in bytes."""

    models: Models
    decoding: Decoding
    expected_peaks: dict[Role, int]


def check_models(*decodings: Decoding) -> CheckedModels:
    """Find the commits of Hub names and read the models' configs. Several decodings share their models and engine; the
    one of most lanes decides.

    Raises:
        ConfigError: a model cannot be read, cannot do what it is for, or is too short.
    """
    widest = at_commits(max(decodings, key=lambda decoding: decoding.strategy.num_lanes))
    model_configs = read_model_configs(widest.policy, widest.reward, RewardContext.of(widest))
    lengths = (longest_model_len(model_configs, d.engine, d.generation.max_new_tokens) for d in decodings)
    return CheckedModels(widest, model_configs, min(lengths))


@contextmanager
def placed_models(checked: CheckedModels) -> Iterator[PlacedModels]:
    """Join or start the cluster, hold its GPUs, and find out what fits in its memory, until the block ends.

    Raises:
        ConfigError: the cluster cannot give what is asked for, or it cannot fit; the message does the sum.
    """
    decoding = checked.decoding
    bounds = ShapeBounds(decoding.strategy.num_lanes, decoding.generation.max_new_tokens, checked.max_model_len)
    with cluster(), reserved(decoding.cluster, decoding.want_gpus) as reservation:
        _check_cpus(decoding)
        pools = find_memory_pools(checked.model_configs, reservation)
        engine = fit_engine(decoding.engine, bounds, pools)
        yield PlacedModels(decoding.model_copy(update={"engine": engine}), reservation, pools)


def _check_cpus(decoding: Decoding) -> None:
    """Raises ConfigError where the CPUs that rewards keep leave none to read and write the dataset."""
    shape, num_cpus = decoding.cluster, ray.cluster_resources().get("CPU", 0.0)
    asked = shape.cells * shape.rewards_per_cell * decoding.reward.cpus
    if asked > max(0.0, num_cpus - 1):
        raise ConfigError(
            f"cluster.cells {shape.cells} × rewards_per_cell {shape.rewards_per_cell} × reward.num_cpus "
            f"{decoding.reward.cpus:g} = {asked:g} CPUs cannot be placed: the cluster has {num_cpus:g}, one of which "
            "reads and writes"
        )


@contextmanager
def loaded_models(placed: PlacedModels) -> Iterator[Models]:
    """Load the models; they are stopped when the block ends well. After a fault they are not, because calls still in
    flight would be sent again and again; they die with this process.

    Raises:
        ModelError: a model could not be loaded.
    """
    models = start_models(placed.decoding, placed.reservation)
    yield models
    stop_models(models)


@contextmanager
def ready_models(decodings: Sequence[Decoding], report: Report) -> Iterator[ReadyModels]:
    """All three steps; `report` is told what a person who waits wants to know.

    Raises:
        StarsError: what went wrong, in one line.
    """
    with placed_models(check_models(*decodings)) as placed:
        decoding, wanted = placed.decoding, decodings[0].engine
        if None in (wanted.slots, wanted.max_model_len) and placed.pools:
            report(f"room for {decoding.engine.slots} slots of {decoding.engine.max_model_len} tokens")
        names = dict.fromkeys((decoding.policy.title, decoding.reward.title))
        report(f"loading {' and '.join(names)} …")
        with loaded_models(placed) as models:
            yield ReadyModels(models, decoding, placed.expected_peaks)
