"""Which GPUs the models of every cell get: the arithmetic for any cluster, and real actors on GPUs in name."""

import os
import threading

import pytest
import ray

from actors.cluster.gpu_reservation import reserved
from actors.cluster.gpu_shares import GpuShares, share_gpus
from actors.cluster.model_loading import ping
from actors.cluster.placement import start_models, stop_models
from actors.startup.ready_models import check_models, placed_models
from pipeline.config.cluster import ClusterConfig
from pipeline.errors import ConfigError, ModelError
from tests.configs import fake_config

ENGINE = {"max_model_len": 64, "slots": 6}


def config_of(policy=None, reward=None, **cluster):
    """A config whose models are real as far as GPUs go: fakes ask for none of their own accord."""
    models = {role: {"backend": "transformers", "model": "org/name"} for role in ("policy", "reward")}
    return fake_config(**models, cluster={"gpus_per_policy": policy, "gpus_per_reward": reward} | cluster)


@pytest.mark.parametrize(
    ("policy", "reward", "cluster", "num_gpus", "expected"),
    [
        (None, None, {}, 0, (0.0, 0.0)),
        (None, None, {}, 1, (0.5, 0.5)),
        (None, None, {}, 2, (1.0, 1.0)),
        (None, None, {}, 8, (1.0, 1.0)),
        (0.5, None, {}, 1, (0.5, 0.5)),
        (0.0, None, {}, 1, (0.0, 1.0)),
        (0.7, 0.3, {}, 1, (0.7, 0.3)),
        (0.6, 0.6, {}, 2, (0.6, 0.6)),
        (None, None, {"policies_per_cell": 2}, 1, (0.3333, 0.3333)),
        (None, None, {"policies_per_cell": 2}, 3, (1.0, 1.0)),
        (None, None, {"cells": 4, "policies_per_cell": 3}, 16, (1.0, 1.0)),
        (None, None, {"cells": 4}, 4, (0.5, 0.5)),
        (1.0, 0.5, {"cells": 2}, 3, (1.0, 0.5)),
        (None, None, {"wait_for_gpus_s": 60}, 0, (1.0, 1.0)),
    ],
)
def test_shares_that_fit(policy, reward, cluster, num_gpus, expected):
    assert share_gpus(config_of(policy, reward, **cluster).cluster, num_gpus) == GpuShares(*expected)


@pytest.mark.parametrize(
    ("policy", "reward", "cluster", "num_gpus", "words"),
    [
        (1, 1, {}, 1, r"cells 1 × .*1 \+ .*gpus_per_reward 1\) = 2 GPUs cannot be placed: the cluster has 1$"),
        (1, None, {}, 0, "the cluster has 0"),
        (1, None, {}, 1, "cannot be placed"),
        (0.6, 0.6, {}, 1, "1.2 GPUs cannot be placed"),
        (1, 1, {"cells": 8, "policies_per_cell": 3}, 31, r"8 × \(policies_per_cell 3 × .* = 32 GPUs .* has 31"),
    ],
)
def test_shares_that_never_fit_are_refused_with_the_sum(policy, reward, cluster, num_gpus, words):
    with pytest.raises(ConfigError, match=words):
        share_gpus(config_of(policy, reward, **cluster).cluster, num_gpus)


@pytest.mark.parametrize(
    ("shares", "cluster", "bundles"),
    [
        ((0.5, 0.5), {}, [1.0]),
        ((0.3333, 0.3333), {"policies_per_cell": 2}, [0.9999]),
        ((1.0, 1.0), {"policies_per_cell": 2}, [1.0, 1.0, 1.0]),
        ((1.0, 0.5), {"rewards_per_cell": 2}, [1.0, 0.5, 0.5]),
        ((0.0, 1.0), {}, [1.0]),
        ((0.0, 0.0), {}, []),
    ],
)
def test_a_cell_reserves_one_gpu_together_or_one_bundle_per_actor(shares, cluster, bundles):
    assert GpuShares(*shares).bundles(ClusterConfig(**cluster)) == pytest.approx(bundles)


def test_fakes_ask_for_no_gpu():
    assert share_gpus(ClusterConfig(), 2, (False, False)) == GpuShares(0.0, 0.0)


def test_more_than_one_gpu_for_a_model_says_what_to_use_instead():
    with pytest.raises(ValueError, match=r"gpus_per_policy\n.*a model runs on one GPU: .* more cells .* tp_plan"):
        config_of(policy=2)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("cluster", "expected", "reward_slots"),
    [
        ({"gpus_per_policy": 1, "gpus_per_reward": 1}, [("0",), ("1",)], 6),
        ({"gpus_per_policy": 0.5, "gpus_per_reward": 0.5}, [("0",), ("0",)], 6),
        ({"gpus_per_policy": 0.5, "gpus_per_reward": 0.5, "cells": 2}, [("0", "1"), ("0", "1")], 6),
        ({"gpus_per_policy": 0.25, "gpus_per_reward": 0.5, "policies_per_cell": 2}, [("0", "0"), ("0",)], 12),
        ({"gpus_per_policy": 0, "gpus_per_reward": 1}, [("",), ("0",)], 6),
        (
            {"gpus_per_policy": 0, "gpus_per_reward": 0, "policies_per_cell": 3, "rewards_per_cell": 2},
            [("",) * 3, ("",) * 2],
            9,
        ),
    ],
    ids=str,
)
def test_actors_have_the_gpus_and_the_slots_they_were_given(ray_cluster, cluster, expected, reward_slots):
    """A reward model has the slots of all policies it serves."""
    config = fake_config(cluster=cluster, engine=ENGINE)
    with reserved(config.cluster, config.want_gpus) as reservation:
        models = start_models(config, reservation)
        try:
            assert ray.get([ping(handle) for _, handle in models.with_roles()]) == [r for r, _ in models.with_roles()]
            roles = [role for role, _ in models.with_roles()]
            given = ray.get([handle.__ray_call__.remote(_gpu_and_slots_of) for _, handle in models.with_roles()])
            seen = {"policy": [], "reward": []}
            for role, (gpu, _) in zip(roles, given, strict=True):
                seen[role].append(gpu)
            assert [slots for _, slots in given] == [{"policy": 6, "reward": reward_slots}[role] for role in roles]
            assert len(models.cells) == config.cluster.cells
            assert [tuple(sorted(seen["policy"])), tuple(sorted(seen["reward"]))] == expected
            for cell in models.cells if len(reservation.shares.bundles(config.cluster)) == 1 else ():
                assert cell.node_id == ray.get_runtime_context().get_node_id()
        finally:
            stop_models(models)
    with reserved(ClusterConfig(gpus_per_policy=1, gpus_per_reward=1)):
        pass  # all GPUs were given back


@pytest.mark.ray
def test_a_model_that_cannot_be_loaded_is_one_line(ray_cluster, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    broken = {"backend": "transformers", "model": str(tmp_path)}
    config = fake_config(policy=broken, reward=broken, engine=ENGINE)
    with (
        pytest.raises(ModelError, match=r"the (policy|reward) model .* could not be loaded: ") as caught,
        reserved(config.cluster, config.want_gpus) as reservation,
    ):
        start_models(config, reservation)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


@pytest.mark.ray
def test_more_gpus_than_there_are_fail_at_once(ray_cluster):
    config = fake_config(cluster={"gpus_per_policy": 1, "gpus_per_reward": 1, "cells": 2}, engine=ENGINE)
    with (
        pytest.raises(ConfigError, match="4 GPUs cannot be placed: the cluster has 2"),
        reserved(config.cluster, config.want_gpus),
    ):
        pass


@pytest.mark.ray
def test_gpus_that_others_hold_are_not_waited_for_forever(ray_cluster, monkeypatch):
    monkeypatch.setattr("actors.cluster.gpu_reservation.GRACE_S", 1.0)
    config = fake_config(cluster={"gpus_per_policy": 1, "gpus_per_reward": 0.5}, engine=ENGINE)
    words = r"were not to be had in 1 s: 0 of 1 cells are placed, 0\.5 of the cluster's 2 GPUs are free"
    with (
        reserved(config.cluster, config.want_gpus),
        pytest.raises(ConfigError, match=words),
        reserved(config.cluster, config.want_gpus),
    ):
        pass


def _gpu_and_slots_of(actor):
    holder = actor.calls.holder if hasattr(actor, "calls") else actor.reward.holder
    with holder.engine() as lent:
        return os.environ["CUDA_VISIBLE_DEVICES"], len(getattr(lent, "engine", lent).table.lengths_S)


@pytest.mark.ray
def test_a_reward_has_the_cpus_and_the_threads_that_its_section_says(ray_cluster, tmp_path):
    (tmp_path / "mine.py").write_text("def score(completions):\n    return [1.0] * len(completions)\n")
    reward = {"kind": "function", "function": f"{tmp_path}/mine.py:score", "num_cpus": 0.5, "processes": 3}
    config = fake_config(reward=reward, engine=ENGINE)
    with reserved(config.cluster, config.want_gpus) as reservation:
        assert reservation.shares == GpuShares(0.0, 0.0), "a function takes no GPU"
        free = ray.available_resources()["CPU"]
        models = start_models(config, reservation)
        try:
            (reward,) = models.cells[0].rewards
            assert ray.available_resources()["CPU"] == free - 0.5
            together = [reward.__ray_call__.remote(_meets, 3) for _ in range(3)]
            assert ray.get(together, timeout=60) == [True] * 3
        finally:
            stop_models(models)


def _meets(actor, count):
    """Whether so many calls are in the actor at once."""
    barrier = vars(actor).setdefault("barrier", threading.Barrier(count))
    barrier.wait(30)
    return True


@pytest.mark.ray
def test_cpus_that_leave_none_for_the_dataset_are_refused_with_the_sum(ray_cluster, tmp_path):
    (tmp_path / "mine.py").write_text("def score(completions): ...\n")
    reward = {"kind": "function", "function": f"{tmp_path}/mine.py:score", "num_cpus": 1}
    config = fake_config(reward=reward, engine=ENGINE, cluster={"cells": 2})
    words = (
        r"cluster.cells 2 × rewards_per_cell 1 × reward.num_cpus 1 = 2 CPUs cannot be placed: the cluster has 2, one"
    )
    with pytest.raises(ConfigError, match=words), placed_models(check_models(config)):
        pass
