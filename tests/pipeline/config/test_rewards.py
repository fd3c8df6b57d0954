"""The kinds of rewards as a user writes them: one line for a mistake, and nothing of a user's code runs to find it."""

import pickle

import pytest

from pipeline.config.function_source import find_function
from pipeline.config.loading import load_config
from pipeline.config.rewards import ClassifierReward
from pipeline.errors import ConfigError

YAML = """
input: in.parquet
output: out
policy: {backend: fake}
reward: {backend: fake, close_turn: never}
strategy: {name: vanilla}
"""
FUNCTIONS = """
import no_such_package
raise SystemExit
def score(prompts, completions, answer, *, finished, note, k=3, **rest): ...
async def wait(completions): ...
def by_place(prompts, /): ...
imported = no_such_package.imported
"""


@pytest.fixture
def config_of(tmp_path, monkeypatch):
    (tmp_path / "job.yaml").write_text(YAML)
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    (tmp_path / "broken.py").write_text("def score(:")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "package" / "inner.py").write_text("def score(prompts, day): ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda *overrides: load_config("job.yaml", list(overrides))


def test_another_kind_starts_its_section_anew(config_of):
    assert config_of("reward.kind=function", "reward.function=mine.py:score").reward.kind == "function"
    assert config_of("reward=function", "reward.function=mine.py:wait").reward.columns == ()
    assert config_of("reward=classifier").reward == ClassifierReward(backend="fake", close_turn="never")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["reward.closeturn=never"], r"reward\.closeturn: unknown key; did you mean 'reward\.close_turn'"),
        (["reward=functoin"], r"reward\.kind: must be one of classifier, .*function.*did you mean 'function'"),
        (["reward.kind=[1]"], r"reward\.kind: must be one of classifier"),
        (["reward=function"], r"reward\.function: required, but not given"),
        (["reward.function=a.py:b"], r"reward\.function: reward 'classifier' has no such key"),
        (["reward=function", "reward.function=score"], r"reward\.function: must be file\.py:name or module:name"),
        (["reward=function", "reward.function=no.py:score"], r"reward\.function: file 'no\.py' does not exist"),
        (["reward=function", "reward.function=no.such:score"], r"reward\.function: there is no module 'no'"),
        (["reward=function", "reward.function=package.no:score"], r"there is no module 'package\.no'"),
        (["reward=function", "reward.function=broken.py:score"], r"'broken\.py' is not Python: invalid syntax"),
        (["reward=function", "reward.function=mine.py:scor"], r"has no function 'scor'; did you mean 'score'"),
        (["reward=function", "reward.function=mine.py:by_place"], r"takes arguments by position only"),
        (
            ["reward=function", "reward.function=mine.py:imported"],
            r"reward\.input_columns: the signature of",
        ),
        (
            ["reward=function", "reward.function=mine.py:wait", "coordinator.call_timeout_s=400"],
            r"may take 480 s by its own limits, but after coordinator\.call_timeout_s = 400 its actor counts as hung",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(config_of, overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        config_of(*overrides)
    assert "\n" not in str(caught.value)


def test_the_columns_of_a_function_are_read_off_its_source(config_of):
    columns = config_of("reward=function", "reward.function=mine.py:score").reward.columns
    assert columns == ("answer", "note"), "neither what every function is given, nor what has a default"
    assert config_of("reward=function", "reward.function=package.inner:score").reward.columns == ("day",)
    asked = config_of("reward=function", "reward.function=mine.py:imported", "reward.input_columns=[a, b]")
    assert asked.reward.columns == ("a", "b")
    assert asked.reward.files == ("mine.py",)


JUDGE = ["reward=judge", "reward.base_url=http://x/v1", "reward.model=m"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["reward.template=no.jinja"], r"reward\.template: 'no\.jinja' cannot be read: No such file"),
        (["reward.template=broken.jinja"], r"reward\.template: line 2 is no Jinja: unexpected '}'"),
        (
            ["reward.template=unknown.jinja"],
            r"template: uses 'answer', 'question'; a template may use messages,",
        ),
        (["reward.template=dynamic.jinja"], r"reads columns in another way than columns\.NAME"),
        (["reward.api_key_env=NO_SUCH_KEY"], r"reward\.api_key_env: the environment variable NO_SUCH_KEY is not set"),
        (["reward.scale=[5, 5]"], r"reward\.scale: must be \[least, greatest\]"),
        (["reward.timeout_s=200"], r"may take 980 s by its own limits"),
        (["output=s3://bucket/out"], r"reward\.cache: replies cannot be kept in output 's3://bucket/out'"),
    ],
)
def test_a_mistake_about_a_judge_is_one_line(config_of, tmp_path, overrides, words):
    (tmp_path / "broken.jinja").write_text("fine\n{{ prompt }")
    (tmp_path / "unknown.jinja").write_text("{{ question }} {{ answer }} {{ prompt }}")
    (tmp_path / "dynamic.jinja").write_text("{% for name in messages %}{{ columns[name] }}{% endfor %}")
    with pytest.raises(ConfigError, match=words) as caught:
        config_of(*JUDGE, *overrides)
    assert "\n" not in str(caught.value)


def test_the_columns_of_a_template_are_read_off_it_and_it_travels_with_the_config(config_of, tmp_path):
    (tmp_path / "rubric.jinja").write_text("{{ columns.answer }} {{ columns['my note'] }} {{ columns.answer | trim }}")
    config = config_of(*JUDGE, "reward.template=rubric.jinja", "output=file:///somewhere/out")
    assert config.reward.columns == ("answer", "my note") and config.reward.files == ("rubric.jinja",)
    assert config.reply_folder == "/somewhere/out/_run/replies"
    (tmp_path / "rubric.jinja").unlink()
    there = pickle.loads(pickle.dumps(config)).reward
    assert there.template_text.startswith("{{ columns.answer }}") and there.columns == ("answer", "my note")
    assert config_of(*JUDGE, "output=s3://bucket/out", "reward.cache=/shared").reward.cache == "/shared"


def test_a_module_without_python_source_has_no_signature():
    assert find_function("math:sqrt").parameters is None and find_function("math:sqrt").path is None
