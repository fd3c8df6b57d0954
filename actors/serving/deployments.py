"""Where deployments run: the one file with `serve.deployment`, and with the same resource numbers as the batch job.

Every policy and reward model of the cell is a deployment of one replica, because the coordinator knows what each of
them has cached; the ingress is one replica too, since one coordinator makes the fullest cohorts.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from actors.cluster.placement import ActorKind, hidden_gpus, policy_actor, reward_actor
from actors.rewards import traits_of
from actors.rewards.interface import RewardContext
from actors.serving.api_keys import read_digests
from actors.serving.ingress import Ingress
from actors.serving.server_config import ServeConfig
from actors.startup.ready_models import check_models, placed_models

MANY = 10_000  # the ingress itself refuses what is too much, in microseconds; Serve must let it
PINGS = 8  # they come beside the coordinator's calls


def build_application(config: ServeConfig) -> Application:
    """One deployment of one replica for every model actor of a cell, and the ingress over them. Needs a cluster to look
    at: its GPUs and its memory.

    Raises:
        ConfigError: it cannot fit, or the API key is missing.
    """
    digests, cluster = read_digests(config.serve.api_key_env), config.cluster
    with placed_models(check_models(config)) as placed:  # given back at once, since Serve does the placing itself
        shares = placed.reservation.shares
        config = config.model_copy(update={"engine": placed.decoding.engine})
    of_policy, of_reward = policy_actor(shares.policy), reward_actor(config.reward, traits_of(config), shares.reward)
    policies = [
        _model(of_policy, f"policy-{i}", config).bind(config.policy, config.engine)
        for i in range(cluster.policies_per_cell)
    ]
    rewards = [
        _model(of_reward, f"reward-{i}", config).bind(config.reward, RewardContext.of(config))
        for i in range(cluster.rewards_per_cell)
    ]
    ingress = serve.deployment(serve.ingress()(Ingress), name="ingress")
    options = _options(config, {"num_cpus": 0}) | {"max_ongoing_requests": MANY}
    return ingress.options(**options).bind(config, policies, rewards, digests)


def _model(kind: ActorKind, name: str, config: ServeConfig) -> serve.Deployment:
    runtime = {"env_vars": hidden_gpus(kind.num_gpus)}
    options = _options(config, {"num_cpus": kind.num_cpus, "num_gpus": kind.num_gpus, "runtime_env": runtime})
    quiet = {"enable_access_log": False}  # a line per model call would be most of the log
    return serve.deployment(kind.actor_class, name=name).options(
        **options, max_ongoing_requests=kind.max_calls + PINGS, logging_config=quiet
    )


def _options(config: ServeConfig, actor_options: dict[str, Any]) -> dict[str, Any]:
    return {
        "num_replicas": 1,
        "ray_actor_options": actor_options,
        "health_check_period_s": config.serve.health_check_period_s,
        "health_check_timeout_s": config.serve.health_check_timeout_s,
    }
