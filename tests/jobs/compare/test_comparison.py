"""A whole comparison on fake models: runs that share models load them once, nothing is done twice, judges agree."""

import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.compare.figures.records import CompareFigures
from jobs.compare.judges import reward_judge
from jobs.compare.loading import load_comparison
from jobs.compare.run_comparison import run_comparison
from pipeline.errors import OutputError
from pipeline.runs.run_rows import read_run
from pipeline.storage import locate

pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Done:
    """A comparison that ran: its config file, its output, its figures, what it printed and what it saved."""

    config: str
    output: Path
    figures: CompareFigures
    printed: str
    saved: CompareFigures


@pytest.fixture(scope="module")
def done(ray_cluster, tmp_path_factory):
    """Six prompts, one of them an error row; vanilla and stars, two seeds."""
    folder = tmp_path_factory.mktemp("comparison")
    texts = [f"Tell me about {i}" for i in range(5)] + [None]
    pq.write_table(pa.table({"id": list("abcdef"), "prompt": texts}), folder / "in.parquet")
    tree = {
        "output": str(folder / "out"),
        "seeds": [0, 1],
        "bootstrap_draws": 200,
        "base": {
            "input": str(folder / "in.parquet"),
            "policy": {"backend": "fake"},
            "reward": {"backend": "fake"},
            "generation": {"max_new_tokens": 24},
            "strategy": {"name": "stars", "reward_threshold": 0.5, "segment_size": 8},
        },
        "contenders": {"vanilla": {"strategy": {"name": "vanilla"}}, "stars": {}},
        "judges": {"gold": {"kind": "embedded"}, "again": {"kind": "reward_model", "backend": "fake"}},
    }
    (folder / "compare.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    config = str(folder / "compare.yaml")
    with redirect_stdout(StringIO()) as printed:
        figures = run_comparison(load_comparison(config, []))
    saved = CompareFigures.load(locate(str(folder / "out/compare.json")))
    return Done(config, folder / "out", figures, printed.getvalue(), saved)


def test_a_comparison_from_config_to_report(done):
    figures = done.figures
    assert done.printed.count("loading fake") == 1
    assert figures == done.saved
    stars = figures.contender("stars")
    assert (stars.num_responses, stars.num_error_rows, stars.error_rows_by_type) == (10, 2, {"null_prompt": 2})
    assert stars.seeds == (0, 1) and stars.acceptance_rate and stars.segments
    assert set(stars.judges) == {"gold", "again", "reward"} and figures.primary_judge == "gold"
    for file in ("report.md", "report.html", "pareto.png", "compare.json"):
        assert (done.output / file).stat().st_size > 500
    entries = json.loads((done.output / "alpaca_eval/stars-1.json").read_text())
    rows = read_run(str(done.output / "runs/stars-1"))
    assert [entry["output"] for entry in entries] == rows.responses
    assert {entry["dataset"] for entry in entries} == {"in"}


def test_the_steering_reward_model_as_judge_gives_the_rewards_again(done):
    rows = read_run(str(done.output / "runs/stars-0"))
    again = load_comparison(done.config, []).judges["again"]
    judge = reward_judge.reward_model_judge(again, {"stars": [rows]}, done.output / "judgements/again.jsonl", None)
    is_whole = [response.isascii() for response in rows.responses]  # other bytes of a fake policy are no text
    assert sum(is_whole) >= 3
    assert np.allclose(judge(rows)[is_whole], rows.figure("reward")[is_whole])


def test_what_is_done_is_not_done_again(done, capsys, monkeypatch):
    monkeypatch.setattr(reward_judge, "start_reward", None)  # no judge is loaded: every verdict is on disk
    assert run_comparison(load_comparison(done.config, [])) == done.figures
    assert "loading" not in capsys.readouterr().out
    with pytest.raises(OutputError, match=r"generation\.temperature was 1\.0, now 0\.5"):
        load_comparison(done.config, ["base.generation.temperature=0.5"])
    more = run_comparison(load_comparison(done.config, ["contenders.soft.strategy.beta=5", "judges={}"]))
    out = capsys.readouterr().out
    assert "to do: soft (seed 0), soft (seed 1)" in out and out.count("loading fake") == 1
    assert more.contender("stars").policy_tokens == done.figures.contender("stars").policy_tokens


def test_an_output_that_exists_is_a_contender(done, tmp_path):
    old = done.output / "runs/stars-1"
    overrides = [
        f"output={tmp_path}/other",
        "seeds=[0]",
        f"contenders={{v: {{strategy: {{name: vanilla}}}}, old: {{output: {old}}}}}",
    ]
    figures = run_comparison(load_comparison(done.config, overrides))
    assert figures.contender("old").seeds == (1,) and figures.contender("old").outputs == (str(old),)
    assert not figures.contender("old").shares_draws_with_baseline
