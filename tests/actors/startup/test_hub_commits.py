"""Hub names: the commit a branch is at, read off a cache as huggingface_hub keeps it, without a Hub."""

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from actors.rendering.readers import make_reader
from actors.startup.hub_commits import at_commits
from actors.startup.ready_models import check_models
from pipeline.errors import ConfigError
from tests.actors.startup.hub_cache import commit_model
from tests.configs import fake_config

ASSETS = Path(__file__).parents[3] / "pipeline/embedded/assets"
OLD, NEW, REWARD = "1" * 40, "2" * 40, "3" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit_model(tmp_path, "org/policy", ASSETS / "policy", OLD)
    commit_model(tmp_path, "org/reward", ASSETS / "reward", REWARD)
    return tmp_path


def decoding(**policy):
    return fake_config(policy={"model": "org/policy", **policy}, reward={"model": "org/reward"})


def move_branch(cache):
    """Another commit of the policy: shorter, and with another chat template."""
    folder = commit_model(cache, "org/policy", ASSETS / "policy", NEW)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 96}))
    (folder / "chat_template.jinja").write_text("new {{ messages[0].content }}")


def test_a_name_is_resolved_to_the_commit_its_branch_is_at(cache):
    found = at_commits(decoding())
    assert (found.policy.revision, found.reward.revision) == (OLD, REWARD)
    move_branch(cache)
    assert at_commits(decoding()).policy.revision == NEW
    assert at_commits(found) == found, "a commit stays what it is"


def test_config_and_tokenizer_are_those_of_the_commit(cache):
    begun = at_commits(decoding())
    longest = check_models(begun).max_model_len
    move_branch(cache)
    assert check_models(decoding()).max_model_len == 96 < check_models(begun).max_model_len == longest
    closing = [make_reader("policy", d.policy, "user_message", 96).tokenizer for d in (begun, at_commits(decoding()))]
    assert [tokenizer.chat_template.startswith("new") for tokenizer in closing] == [False, True]


@pytest.mark.parametrize(
    ("policy", "words"),
    [({"model": "org/absent"}, "policy.model 'org/absent': "), ({"revision": "v9"}, "policy.model 'org/policy@v9': ")],
)
def test_what_cannot_be_found_is_named_in_one_line(cache, policy, words):
    with pytest.raises(ConfigError) as caught:
        check_models(decoding(**policy))
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_folders_and_fakes_are_left_alone():
    fakes = fake_config()
    folders = fake_config(policy={"model": str(ASSETS / "policy")}, reward={"model": str(ASSETS / "reward")})
    assert at_commits(fakes) == fakes and at_commits(folders) == folders
