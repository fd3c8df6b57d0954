"""Which memories a run's models will share, and what is free there: asked once, before any model is loaded."""

from actors.cluster.gpu_reservation import Reservation
from actors.cluster.placement import free_gpu_memory, free_host_memory
from actors.engines.backends import Role
from actors.startup.engine_shape import MemoryPool
from actors.startup.memory import JoinedMemory, ModelMemory
from actors.startup.model_limits import ModelConfigs


def find_memory_pools(model_configs: ModelConfigs, reservation: Reservation) -> list[MemoryPool]:
    """Models on CPUs share the memory of the node with the most cells; a cell that fits on one GPU shares its part of
    that; all other models have (their share of) a GPU each. None for fakes, which need none."""
    if not model_configs:
        return []
    from actors.startup.model_sizes import model_memory  # here, because it imports torch and transformers

    cluster, shares = reservation.cluster, reservation.shares
    gpus: dict[Role, float] = {"policy": shares.policy, "reward": shares.reward}
    counts: dict[Role, int] = {"policy": cluster.policies_per_cell, "reward": cluster.rewards_per_cell}
    first: dict[Role, int] = {"policy": 0, "reward": cluster.policies_per_cell}
    parts: dict[Role, list[ModelMemory]] = {}
    for model in model_configs:
        device = "cuda" if gpus[model.role] else "cpu"
        memory = model_memory(model.role, model.section, model.config, device, model.needs)
        parts.setdefault(model.role, []).append(memory)
    memories = {role: JoinedMemory(tuple(found)) for role, found in parts.items()}
    on_cpu = {role: memory for role, memory in memories.items() if not gpus[role]}
    on_gpu = {role: memory for role, memory in memories.items() if gpus[role]}
    pools = []
    if on_cpu:
        num_actors = {role: reservation.most_cells_on_a_node * counts[role] for role in on_cpu}
        pools.append(MemoryPool(on_cpu, free_host_memory(reservation), num_actors, cluster))
    if on_gpu and len(bundles := shares.bundles(cluster)) == 1:
        pools.append(MemoryPool(on_gpu, free_gpu_memory(reservation, 0, bundles[0]), counts, cluster))
    else:
        for role, joined in on_gpu.items():
            free_bytes = free_gpu_memory(reservation, first[role], gpus[role])
            pools.append(MemoryPool({role: joined}, free_bytes, {role: 1}, cluster))
    return pools
