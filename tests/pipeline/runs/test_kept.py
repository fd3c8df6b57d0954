"""What the first start of a run found is what later starts go on with: slots, length, and commits of Hub names."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.model import ModelConfig, models_of, with_revisions
from pipeline.dataset.plan import plan_input
from pipeline.errors import OutputError
from pipeline.runs.directory import RunDirectory
from pipeline.runs.fingerprint import Sources
from tests.configs import fake_config

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def job(tmp_path):
    pq.write_table(pa.table({"prompt": ["x"] * 8}), tmp_path / "in.parquet")
    (tmp_path / "rule.py").touch()

    def open_run(**sections):
        config = fake_config(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out"), **sections)
        return config, RunDirectory.open(config, plan_input(config.input, 4, None), Sources(tmp_path, ("rule.py",)))

    return open_run


def names(policy="org/policy", **policy_keys):
    return {"policy": {"model": policy, **policy_keys}, "reward": {"model": "org/reward"}}


def loaded(config, slots, max_model_len, commit_of=lambda model: COMMIT):
    engine = config.engine.model_copy(update={"slots": slots, "max_model_len": max_model_len})
    return with_revisions(config.model_copy(update={"engine": engine}), commit_of)


def begin(run, decoding):
    """A first start that commits a row."""
    with run.held(print):
        run.keep(decoding)
        run.aligned.shards.create_directory()
        (run.aligned.shards / "shard-00000000.parquet").write_text("rows")


def test_a_later_start_gets_the_slots_and_the_length_of_the_first(job):
    config, run = job()
    assert run.kept_config(config) == config, "nothing is begun"
    begin(run, loaded(config, 23, 512))
    for engine, shape in (({}, (23, 512)), ({"slots": 5}, (5, 512))):
        config, again = job(engine=engine)
        kept = again.kept_config(config)
        assert (kept.engine.slots, kept.engine.max_model_len) == shape
        with again.held(print):
            again.keep(loaded(kept, 64, 4096))
        assert job()[1].manifest.engine == {"slots": 23, "max_model_len": 512}


def test_a_start_that_committed_nothing_binds_nobody(job):
    config, run = job()
    with run.held(print):
        run.keep(loaded(config, 23, 512))
    config, again = job()
    assert again.kept_config(config).engine == config.engine


def test_a_later_start_gets_the_commits_of_the_first_wherever_the_branch_is_now(job):
    config, run = job(**names())
    begin(run, loaded(config, 64, 512))
    config, again = job(**names())
    assert again.manifest.commits == {"org/policy": COMMIT, "org/reward": COMMIT}
    assert [model.revision for model in models_of(again.kept_config(config))] == [COMMIT, COMMIT]
    assert [model.revision for model in models_of(config)] == [None, None]
    with pytest.raises(OutputError, match=rf"policy\.revision was None, now '{OTHER}'"):
        job(**names(revision=OTHER))


def test_a_branch_and_the_main_branch_of_one_name_are_two(job):
    sections, found = names("org/reward", revision="tuned"), {"org/reward@tuned": COMMIT, "org/reward": OTHER}
    config, run = job(**sections)
    begin(run, loaded(config, 64, 512, lambda model: found[model.hub_name]))
    config, again = job(**sections)
    assert again.manifest.commits == found
    assert [model.revision for model in models_of(again.kept_config(config))] == [COMMIT, OTHER]


def test_folders_and_fakes_have_no_commit(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert ModelConfig(model=str(tmp_path)).hub_name is None
    assert ModelConfig(backend="fake").hub_name is None
    with pytest.raises(ValueError, match="a model folder has no revision"):
        ModelConfig(model=str(tmp_path), revision="main")
