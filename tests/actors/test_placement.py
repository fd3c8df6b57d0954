"""Which GPUs the two models get: the arithmetic for any cluster, and real actors on two GPUs in name."""

import os

import pytest
import ray

from actors.model_loading import ping
from actors.placement import GpuShares, share_gpus, start_models, stop_models
from pipeline.config import ModelConfig
from pipeline.errors import ConfigError, ModelError
from tests.configs import fake_config

HUB = "org/name"


@pytest.mark.parametrize(
    ("policy", "reward", "gpus_by_node", "expected"),
    [
        (None, None, [0.0], (0.0, 0.0)),
        (None, None, [1.0], (0.5, 0.5)),
        (None, None, [2.0], (1.0, 1.0)),
        (None, None, [1.0, 1.0], (1.0, 1.0)),
        (None, None, [0.0, 8.0], (1.0, 1.0)),
        (2.0, None, [4.0], (2.0, 1.0)),
        (0.5, None, [1.0], (0.5, 0.5)),
        (0.0, None, [1.0], (0.0, 1.0)),
        (0.7, 0.3, [1.0], (0.7, 0.3)),
        (0.6, 0.6, [2.0], (0.6, 0.6)),
        (4.0, 4.0, [4.0, 4.0], (4.0, 4.0)),
    ],
)
def test_shares_that_fit(policy, reward, gpus_by_node, expected):
    assert share_gpus(model(policy), model(reward), gpus_by_node) == GpuShares(*expected)


@pytest.mark.parametrize(
    ("policy", "reward", "gpus_by_node", "words"),
    [
        (1.0, 1.0, [1.0], r"1 \+ reward.num_gpus 1 = 2 GPUs cannot be placed: the cluster has 1"),
        (1.0, None, [0.0], "the cluster has 0"),
        (1.0, None, [1.0], "cannot be placed"),
        (0.6, 0.6, [1.0], "1.2 GPUs cannot be placed"),
        (2.0, 0.0, [1.0, 1.0], "by node: 1, 1"),
        (1.5, 0.0, [4.0], "must be a whole number"),
    ],
)
def test_shares_that_never_fit_are_refused_with_the_sum(policy, reward, gpus_by_node, words):
    with pytest.raises(ConfigError, match=words):
        share_gpus(model(policy), model(reward), gpus_by_node)


def test_fakes_ask_for_no_gpu():
    assert share_gpus(ModelConfig(backend="fake"), ModelConfig(backend="fake"), [2.0]) == GpuShares(0.0, 0.0)


@pytest.mark.ray
@pytest.mark.parametrize(("share", "expected"), [(1.0, {"0", "1"}), (0.5, {"0"}), (0.0, {""})])
def test_actors_see_the_gpus_they_were_given(ray_cluster, share, expected):
    config = fake_config(
        policy={"backend": "fake", "num_gpus": share},
        reward={"backend": "fake", "num_gpus": share},
        engine={"max_model_len": 64, "slots": 64},
    )
    models = start_models(config)
    try:
        handles = (models.policy, models.reward)
        assert ray.get([ping(handle) for handle in handles]) == ["policy", "reward"]
        seen = ray.get([h.__ray_call__.remote(lambda self: os.environ["CUDA_VISIBLE_DEVICES"]) for h in handles])
        assert set(seen) == expected
    finally:
        stop_models(models)


@pytest.mark.ray
def test_a_model_that_cannot_be_loaded_is_one_line(ray_cluster, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    broken = {"backend": "transformers", "model": str(tmp_path), "num_gpus": 0}
    config = fake_config(policy=broken, reward=broken, engine={"max_model_len": 64, "slots": 2})
    with pytest.raises(ModelError, match=r"the (policy|reward) model .* could not be loaded: ") as caught:
        start_models(config)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


@pytest.mark.ray
def test_more_gpus_than_there_are_fail_at_once(ray_cluster):
    config = fake_config(policy={"backend": "fake", "num_gpus": 3}, engine={"max_model_len": 64, "slots": 64})
    with pytest.raises(ConfigError, match="3 GPUs cannot be placed: the cluster has 2"):
        start_models(config)


def model(num_gpus):
    return ModelConfig(model=HUB, num_gpus=num_gpus)
