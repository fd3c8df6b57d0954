"""A whole comparison on fake models: runs that share models load them once, nothing is done twice, judges agree."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from actors.comparison import reward_judge
from actors.comparison.run import run_comparison
from pipeline.comparison.figures import CompareFigures
from pipeline.comparison.loading import load_comparison
from pipeline.comparison.outputs import read_run
from pipeline.errors import OutputError
from pipeline.storage import locate

pytestmark = pytest.mark.ray


@pytest.fixture
def config(tmp_path):
    """Six prompts, one of them an error row; vanilla and stars, two seeds."""
    texts = [f"Tell me about {i}" for i in range(5)] + [None]
    pq.write_table(pa.table({"id": list("abcdef"), "prompt": texts}), tmp_path / "in.parquet")
    tree = {
        "output": str(tmp_path / "out"),
        "seeds": [0, 1],
        "bootstrap_draws": 200,
        "base": {
            "input": str(tmp_path / "in.parquet"),
            "policy": {"backend": "fake"},
            "reward": {"backend": "fake"},
            "generation": {"max_new_tokens": 24},
            "strategy": {"name": "stars", "reward_threshold": 0.5, "segment_size": 8},
        },
        "contenders": {"vanilla": {"strategy": {"name": "vanilla"}}, "stars": {}},
        "judges": {"gold": {"kind": "embedded"}, "again": {"kind": "reward_model", "backend": "fake"}},
    }
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return str(tmp_path / "compare.yaml")


def test_a_comparison_from_config_to_report(ray_cluster, config, tmp_path, capsys):
    figures = run_comparison(load_comparison(config, []))
    assert capsys.readouterr().out.count("loading fake") == 1
    assert figures == CompareFigures.load(locate(str(tmp_path / "out/compare.json")))
    stars = figures.contender("stars")
    assert (stars.num_responses, stars.num_error_rows, stars.error_rows_by_type) == (10, 2, {"null_prompt": 2})
    assert stars.seeds == (0, 1) and stars.acceptance_rate and stars.segments
    assert set(stars.judges) == {"gold", "again", "reward"} and figures.primary_judge == "gold"
    for file in ("report.md", "report.html", "pareto.png", "compare.json"):
        assert (tmp_path / "out" / file).stat().st_size > 500
    entries = json.loads((tmp_path / "out/alpaca_eval/stars-1.json").read_text())
    rows = read_run("stars", str(tmp_path / "out/runs/stars-1"))
    assert [entry["output"] for entry in entries] == rows.responses
    assert {entry["dataset"] for entry in entries} == {"in"}


def test_the_steering_reward_model_as_judge_gives_the_rewards_again(ray_cluster, config, tmp_path):
    comparison = load_comparison(config, [])
    run_comparison(comparison)
    rows = read_run("stars", str(tmp_path / "out/runs/stars-0"))
    store = tmp_path / "out/judgements/again.jsonl"
    judge = reward_judge.reward_model_judge(comparison.judges["again"], {"stars": [rows]}, store, None)
    is_whole = [response.isascii() for response in rows.responses]  # other bytes of a fake policy are no text
    assert sum(is_whole) >= 3
    assert np.allclose(judge(rows)[is_whole], rows.figure("reward")[is_whole])


def test_what_is_done_is_not_done_again(ray_cluster, config, tmp_path, capsys, monkeypatch):
    first = run_comparison(load_comparison(config, []))
    capsys.readouterr()
    monkeypatch.setattr(reward_judge, "start_reward_model", None)  # no judge is loaded: every verdict is on disk
    assert run_comparison(load_comparison(config, [])) == first
    assert "loading" not in capsys.readouterr().out
    with pytest.raises(OutputError, match=r"generation\.temperature was 1\.0, now 0\.5"):
        load_comparison(config, ["base.generation.temperature=0.5"])
    more = run_comparison(load_comparison(config, ["contenders.soft.strategy.beta=5", "judges={}"]))
    out = capsys.readouterr().out
    assert "to do: soft (seed 0), soft (seed 1)" in out and out.count("loading fake") == 1
    assert more.contender("stars").policy_tokens == first.contender("stars").policy_tokens


def test_an_output_that_exists_is_a_contender(ray_cluster, config, tmp_path):
    run_comparison(load_comparison(config, []))
    done = tmp_path / "out/runs/stars-1"
    overrides = [
        f"output={tmp_path}/other",
        "seeds=[0]",
        f"contenders={{v: {{strategy: {{name: vanilla}}}}, old: {{output: {done}}}}}",
    ]
    figures = run_comparison(load_comparison(config, overrides))
    assert figures.contender("old").seeds == (1,) and figures.contender("old").outputs == (str(done),)
    assert not figures.contender("old").shares_draws_with_baseline
