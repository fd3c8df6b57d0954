"""The edge of the program: a wrong file, key, value or type becomes one line that names the field."""

from pathlib import Path

import pytest

from pipeline.config.loading import load_config
from pipeline.errors import ConfigError
from pipeline.strategies.best_of_n import BestOfNConfig
from pipeline.strategies.stars import StarsConfig
from pipeline.strategies.vanilla import VanillaConfig

YAML = """
input: in.parquet
output: out
policy: {backend: fake}
reward: {backend: fake}
strategy: {name: stars, reward_threshold: 2.5, segment_size: 8}
"""


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(YAML)
    return str(path)


def test_overrides_win_in_order(config_file):
    config = load_config(config_file, ["seed=3", "strategy.beta=0.1", "seed=4", "generation.temperature=0"])
    assert (config.seed, config.strategy.beta, config.generation.temperature) == (4, 0.1, 0.0)
    assert config.strategy == StarsConfig(reward_threshold=2.5, segment_size=8, beta=0.1)


def test_another_strategy_starts_its_section_anew(config_file):
    assert load_config(config_file, ["strategy=vanilla"]).strategy == VanillaConfig()
    assert load_config(config_file, ["strategy=best_of_n", "strategy.n=3"]).strategy == BestOfNConfig(n=3)
    assert load_config(config_file, ["strategy.name=stars"]).strategy.reward_threshold == 2.5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("strategy.betta=1", r"strategy\.betta: unknown key; did you mean 'strategy\.beta'"),
        ("sed=1", "sed: unknown key; did you mean 'seed'"),
        ("engine.slot=1", r"engine\.slot: unknown key; did you mean 'engine\.slots'"),
        ("strategy.alpha=1.5", r"strategy\.alpha: .*less than or equal to 1.*1\.5"),
        ("generation.max_new_tokens=0", r"generation\.max_new_tokens: .*greater than or equal to 1"),
        ("generation.top_p=nope", r"generation\.top_p: .*number.*'nope'"),
        ("generation.temperature=.nan", r"generation\.temperature: .*finite"),
        ("strategy=starz", r"strategy\.name: must be one of stars, vanilla, best_of_n, .*did you mean 'stars'"),
        ("input=", "input: "),
        ("seed", "must look like key=value"),
        ("seed.x=1", "seed"),
        ("policy.backend=transformers", r"policy\.model: must be a folder"),
        ("max_rows=0", "max_rows: "),
        ("engine.max_model_len=128", "leaves no room"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(config_file, override, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(config_file, [override])
    assert "\n" not in str(caught.value)


def test_best_of_n_needs_a_slot_for_each_response(config_file):
    with pytest.raises(ConfigError, match=r"strategy best_of_n needs 8 engine\.slots a prompt; there are 7"):
        load_config(config_file, ["strategy=best_of_n", "engine.slots=7"])
    assert load_config(config_file, ["strategy=best_of_n", "strategy.n=65"]).engine.slots is None


def test_switching_strategy_needs_its_required_keys(config_file):
    with pytest.raises(ConfigError, match=r"strategy\.reward_threshold: required"):
        load_config(config_file, ["strategy=vanilla", "strategy=stars"])


def test_several_mistakes_are_told_at_once(config_file):
    with pytest.raises(ConfigError, match=r"seed: .*; .*max_rows: "):
        load_config(config_file, ["seed=-1", "max_rows=0"])


def test_config_files_that_cannot_be_used(tmp_path, config_file):
    with pytest.raises(ConfigError, match=r"does not exist; did you mean .*job\.yaml"):
        load_config(config_file.replace("job", "jbo"), [])
    for text, words in (("a: [", "is not YAML"), ("- 1", "must hold a mapping"), ("", "policy: required")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=words):
            load_config(str(tmp_path / "bad.yaml"), ["input=a", "output=b"])


def test_a_model_path_must_exist_but_a_hub_name_may_not(config_file, tmp_path):
    overrides = ["policy.backend=transformers", "reward.backend=transformers", "reward.model=org/reward"]
    assert load_config(config_file, [*overrides, "policy.model=org/name"]).policy.model == "org/name"
    with pytest.raises(ConfigError, match=r"policy\.model: .*does not exist"):
        load_config(config_file, [*overrides, f"policy.model={tmp_path}/nowhere"])
    with pytest.raises(ConfigError, match=r"policy\.model: .*holds no config\.json"):
        load_config(config_file, [*overrides, f"policy.model={tmp_path}"])


ALIGN_CONFIGS = [path for path in Path("jobs/configs").glob("*.yaml") if not path.name.startswith("compare")]


@pytest.mark.parametrize("path", sorted(ALIGN_CONFIGS), ids=lambda path: path.name)
def test_shipped_configs_are_valid(path):
    config = load_config(str(path), ["input=prompts.parquet", "output=out"])
    assert config.input == "prompts.parquet"
