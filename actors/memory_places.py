"""Which memories a run's models will share, and what is free there: asked once, before any model is loaded."""

from actors.engine_shape import MemoryPlace
from actors.engines.backends import Role
from actors.memory import ModelMemory, model_memory
from actors.model_limits import ModelConfigs
from actors.placement import cluster_gpus, free_gpu_memory, free_host_memory, share_gpus
from pipeline.config import AlignConfig


def find_places(config: AlignConfig, models: ModelConfigs) -> list[MemoryPlace]:
    """Models on CPUs share one machine's memory, halves of a GPU that GPU's; none for fakes, which need none.

    Raises:
        ConfigError: the cluster can never give the GPUs that the config asks for.
    """
    if not models:
        return []
    shares = share_gpus(config.policy, config.reward, cluster_gpus())
    gpus: dict[Role, float] = {"policy": shares.policy, "reward": shares.reward}
    memories: dict[Role, ModelMemory] = {
        role: model_memory(role, getattr(config, role), model, "cuda" if gpus[role] else "cpu")
        for role, model in models.items()
    }
    on_cpu = {role: memory for role, memory in memories.items() if not gpus[role]}
    on_gpu = {role: memory for role, memory in memories.items() if gpus[role]}
    places = [MemoryPlace(on_cpu, free_host_memory())] if on_cpu else []
    if len(on_gpu) == 2 and sum(gpus.values()) <= 1:
        return [*places, MemoryPlace(on_gpu, free_gpu_memory(sum(gpus.values())))]
    return [*places, *(MemoryPlace({role: memory}, free_gpu_memory(gpus[role])) for role, memory in on_gpu.items())]
