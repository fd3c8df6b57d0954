"""The command line of comparisons: a mistake exits 2 with a line that names the field, before Ray is imported."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.compare.__main__ import main
from jobs.compare.loading import load_comparison, run_output
from tests.jobs.cold_start import cold_start

YAML = """
output: OUT
seeds: [0, 1]
base:
  input: IN
  policy: {backend: fake}
  reward: {backend: fake}
  strategy: {name: stars, reward_threshold: 0.5, beta: 0.3}
contenders:
  vanilla: {strategy: {name: vanilla}}
  stars: {}
  soft: {strategy: {beta: 2.0}, generation: {temperature: 0.5}}
judges:
  gold: {kind: embedded}
"""


@pytest.fixture
def folder(tmp_path):
    text = YAML.replace("OUT", str(tmp_path / "out")).replace("IN", str(tmp_path / "prompts.parquet"))
    (tmp_path / "compare.yaml").write_text(text)
    pq.write_table(pa.table({"id": ["a"], "prompt": ["hi"]}), tmp_path / "prompts.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "contenders.stars.stratgy.beta=2",
            "contenders.stars.stratgy: unknown key; did you mean",
        ),
        ("contenders.soft.strategy.betta=2", "contenders.soft.strategy.betta: unknown key; did you mean"),
        ("contenders.stars.strategy.n=2", "contenders.stars.strategy.n: strategy 'stars' has no such key"),
        ("base.polcy.model=x", "base.polcy: unknown key; did you mean 'policy'?"),
        ("base.policy.modl=x", "base.policy.modl: unknown key; did you mean 'policy.model'?"),
        ("base.generation.top_p=2", "base.generation.top_p"),
        ("base.seed=1", "base.seed: set by the comparison itself"),
        ("base.input=promts.parquet", "promts.parquet' does not exist"),
        ("baseline=vanila", "baseline 'vanila' is none of the contenders vanilla, stars, soft"),
        ("seeds=[1,1]", "seeds names one seed twice"),
        ("judges.gold.kind=embeded", "judges.gold.kind: must be one of embedded, reward_model, llm"),
        ("judges.gold.model=x", "judges.gold.model: unknown key"),
        ("judges.m={kind: llm, base_url: 'ftp://x', model: m}", "judges.m.base_url: must start with http://"),
        ("judges.m={kind: llm, base_url: 'http://x', model: m, api_key_env: NO_SUCH}", "environment has no NO_SUCH"),
        ("judges.m={kind: reward_model, model: /nowhere}", "judges.m.model: model folder '/nowhere' does not exist"),
        ("contenders.old.output=/nowhere", "contenders.old: '/nowhere' holds no run of jobs.align"),
        ("contenders.soft.output=/nowhere", "output names runs that exist; it takes no strategy"),
        ("contenders.a/b={}", "contenders.a/b"),
        ("baseline", "override 'baseline' must look like key=value"),
    ],
)
def test_a_mistake_exits_2_with_one_line_and_starts_no_run(folder, capsys, override, words):
    assert main(["--config", str(folder / "compare.yaml"), override]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out
    assert not (folder / "out/runs").exists()


def test_a_mistake_in_an_old_run_shows_before_anything_loads(folder):
    ended = cold_start("compare", "--config", folder / "compare.yaml", "contenders.old.output=/nowhere")
    assert ended.returncode == 2 and "holds no run" in ended.stderr and "imported: []" in ended.stdout


def test_contenders_are_the_base_with_their_keys_over_it(folder):
    comparison = load_comparison(str(folder / "compare.yaml"), [])
    vanilla, stars, soft = comparison.contenders
    assert [run.config.seed for run in stars.runs] == [0, 1]
    assert stars.outputs == tuple(run_output(comparison.config, "stars", seed) for seed in (0, 1))
    assert vanilla.runs[0].config.strategy.name == "vanilla"
    strategy = soft.runs[0].config.strategy
    assert (strategy.name, strategy.beta, strategy.reward_threshold) == ("stars", 2.0, 0.5)
    assert soft.runs[0].config.generation.temperature == 0.5 and stars.runs[0].config.generation.temperature == 1.0
    assert comparison.config.baseline_name == "vanilla" and not vanilla.runs[0].directory.is_finished


def test_the_shipped_comparison_is_valid(tmp_path):
    comparison = load_comparison("jobs/configs/compare-embedded.yaml", [f"output={tmp_path}/out"])
    assert comparison.config.baseline_name == "vanilla" and comparison.judges["gold"].kind == "embedded"
    assert "stars" in {contender.name for contender in comparison.contenders}
