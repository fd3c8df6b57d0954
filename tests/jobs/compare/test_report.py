"""From finished runs to figures and a report: worked out by hand on a few rows."""

import html
import json
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from jobs.compare.alpaca_eval import write_alpaca_eval
from jobs.compare.figures.analysis import analyse
from jobs.compare.figures.evidence import REWARD, Evidence
from jobs.compare.figures.records import CompareFigures
from jobs.compare.figures.resampling import Resampler
from jobs.compare.judges.judgements import Prompts, judge_pairs, judge_scores
from jobs.compare.report.markdown import answers, heading, picture, points, table
from jobs.compare.report.page import to_page
from jobs.compare.report.sections import report_markdown
from jobs.compare.report.verdict import verdict
from jobs.compare.report.writing import write_report
from pipeline.errors import InputError
from pipeline.runs.run_rows import read_run
from pipeline.storage import locate
from tests.jobs.compare.made_up_runs import row, segment, write_run

HOSTILE = "<script>alert('x')</script> | **not bold** `code`"


def length(rows):
    return np.array([float(len(response)) for response in rows.responses])


def evidence_of(outputs, judge=("length", length), baseline="plain", num_examples=3):
    runs = {name: [read_run(output) for output in found] for name, found in outputs.items()}
    prompts = Prompts(runs)
    reward = judge_scores(REWARD, lambda rows: rows.figure("reward"), runs, prompts, baseline)
    judged, kinds = {REWARD: reward}, {REWARD: "steering"}
    if judge is not None:
        judged = {judge[0]: judge_scores(*judge, runs, prompts, baseline)} | judged
        kinds = {judge[0]: "a ruler"} | kinds
    return Evidence(runs, prompts, judged, kinds, baseline, num_examples, Resampler(len(prompts), 500, 0))


@pytest.fixture
def outputs(tmp_path):
    """Three prompts. `ours` has an error row on c; on b its reward rises and its length falls: it is hacked."""
    kept = [segment(3, 0.5, 2), segment(2, 1.0, 4, "fallback")]
    ours = [
        row("a", "xxxxxx", 2.0, 30, kept),
        row("b", HOSTILE[:1], 9.0, 50, [segment(1, 9.0, 2)]),
        row("c", "", 0.0, error_type="prompt_too_long"),
    ]
    plain = [row("a", "xx", 1.0), row("b", HOSTILE, 1.0), row("c", "xxx", 1.0)]
    return {
        "plain": [write_run(tmp_path / "plain", plain)],
        "ours": [write_run(tmp_path / "ours", ours, seed=1)],
    }


def test_figures_by_hand(outputs):
    figures = analyse(evidence_of(outputs))
    ours, plain = figures.contender("ours"), figures.contender("plain")
    assert figures.num_prompts == 3 and (ours.num_responses, ours.num_error_rows) == (2, 1)
    assert ours.error_rows_by_type == {"prompt_too_long": 1} and plain.num_error_rows == 0
    assert ours.judges["length"].score.mean == 3.5 and ours.judges["length"].score.num_prompts == 2
    assert ours.judges["length"].win_rate.mean == 0.5 and ours.judges[REWARD].win_rate.mean == 1.0
    assert ours.judges["length"].difference.mean == pytest.approx(((6 - 2) + (1 - len(HOSTILE))) / 2)
    assert ours.policy_tokens.mean == 40 and plain.policy_tokens.mean == 10 and ours.reward_calls.mean == 1
    assert ours.hacked_fraction == 0.5 and plain.hacked_fraction is None
    assert plain.judges["length"].win_rate.mean == 0.5 and plain.on_frontier
    assert not ours.shares_draws_with_baseline, "their seeds differ"


def test_segments_by_hand(outputs):
    first, second = analyse(evidence_of(outputs)).contender("ours").segments
    assert (first.num_segments, first.num_attempts, first.num_fallbacks) == (2, 4, 0)
    assert first.acceptance_rate == 0.5 and first.position_tokens == 2.0 and first.reward == 4.75
    assert (second.num_segments, second.acceptance_rate, second.position_tokens) == (1, 0.0, 5.0)
    ours = analyse(evidence_of(outputs)).contender("ours")
    assert ours.acceptance_rate == 2 / 8 and ours.fallback_fraction == pytest.approx(1 / 3)


def test_hacked_pairs_are_shown_and_counted(outputs):
    found = analyse(evidence_of(outputs)).disagreements
    assert [(d.contender, d.prompt_id, d.reward, d.score) for d in found] == [("ours", "b", 9.0, 1.0)]
    assert analyse(evidence_of(outputs, num_examples=0)).disagreements == ()


def test_the_report_is_whole_and_self_contained(outputs, tmp_path):
    figures = analyse(evidence_of(outputs))
    write_report(figures, locate(str(tmp_path / "report")))
    folder = tmp_path / "report"
    assert CompareFigures.load(locate(str(folder / "compare.json"))) == figures
    page, markdown = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for file in ("pareto.png", "win_rates.png", "acceptance.png", "reward_by_position.png", "reward_and_judge.png"):
        assert (folder / file).read_bytes().startswith(b"\x89PNG") and f"]({file})" in markdown
    assert page.count("data:image/png;base64,") == 5
    assert not re.search(r"(src|href)=.?https?:", page) and "<script" not in page
    assert "&lt;script&gt;" in page and "\\<script\\>" in markdown
    for words in ("1 error rows (1 prompt_too_long)", "500 draws", "reward model mislead", "| ours"):
        assert words in markdown


def test_the_verdict_comes_first_and_names_what_to_use(outputs):
    sentences = verdict(analyse(evidence_of(outputs)))
    assert sentences[0].startswith("**Use plain**") or sentences[0].startswith("**plain")
    assert "1 error rows" in sentences[-1]
    without = verdict(analyse(evidence_of(outputs, judge=None)))
    assert without[0].startswith("**ours answers best**") and "no judge was given" in " ".join(without)


def test_seeds_are_one_contender(tmp_path):
    """Two seeds: values average within a prompt, wins pair seed 0 with seed 1."""
    outputs = {
        "plain": [write_run(tmp_path / f"p{s}", [row("a", "x" * (2 + s), 0.0)], s) for s in (0, 1)],
        "ours": [write_run(tmp_path / f"o{s}", [row("a", "x" * (3 + s), 0.0)], s) for s in (0, 1)],
    }
    ours = analyse(evidence_of(outputs)).contender("ours")
    assert ours.seeds == (0, 1) and ours.judges["length"].score.mean == 3.5
    assert ours.judges["length"].by_seed == (3.0, 4.0)
    assert ours.judges["length"].win_rate.mean == 0.75, "3 against 3 ties, 4 against 2 wins"
    assert ours.judges["length"].score.num_prompts == 1 and ours.judges["length"].score.low is None


def test_a_judge_of_pairs_is_asked_about_every_contender_and_counted(outputs):
    evidence = evidence_of(outputs)

    def first_prompt_only(ours, theirs, pairs):
        assert [(ours.ids[i], theirs.ids[j]) for i, j in pairs] == [("a", "a"), ("b", "b")]
        return np.array([1.0, np.nan])

    judged = judge_pairs("pairs", first_prompt_only, evidence.runs, evidence.prompts, "plain")
    assert judged.num_unjudged == {"plain": 0, "ours": 1} and judged.scores == {}
    both = Evidence(
        evidence.runs,
        evidence.prompts,
        {"pairs": judged} | {REWARD: evidence.reward},
        {"pairs": "llm", REWARD: "steering"},
        "plain",
        3,
        evidence.resampler,
    )
    figures = analyse(both)
    assert figures.contender("ours").judges["pairs"].win_rate.mean == 1.0
    assert figures.contender("ours").quality("pairs").mean == 1.0 and figures.win_matrix is None
    assert "1 without a verdict by pairs" in report_markdown(figures, {})


def test_runs_over_other_prompts_cannot_be_compared(tmp_path):
    outputs = {
        "plain": [write_run(tmp_path / "p", [row("a", "x", 0.0, prompt="one")])],
        "ours": [write_run(tmp_path / "o", [row("a", "x", 0.0, prompt="another")])],
    }
    with pytest.raises(InputError, match=r"contenders\.ours: its prompt 'a' is not that of the other contenders"):
        evidence_of(outputs)


def test_only_finished_runs_are_read(tmp_path):
    write_run(tmp_path / "half", [row("a", "x", 0.0)], status="running")
    with pytest.raises(InputError, match="is not finished"):
        read_run(str(tmp_path / "half"))
    with pytest.raises(InputError, match=r"holds no run of jobs\.align"):
        read_run(str(tmp_path))


def test_runs_without_any_response_have_no_verdict(tmp_path):
    bad = [row("a", "", 0.0, error_type="prompt_too_long")]
    with pytest.raises(InputError, match="no contender has a response"):
        evidence_of({"plain": [write_run(tmp_path / "p", bad)]})
    outputs = {
        "plain": [write_run(tmp_path / "q", [row("a", "x", 0.0)])],
        "ours": [write_run(tmp_path / "o", bad)],
    }
    figures = analyse(evidence_of(outputs))
    assert figures.contender("ours").policy_tokens is None and figures.contender("ours").num_error_rows == 1
    assert verdict(figures) == ["**No verdict**: length judged no response of ours."]
    outputs["better"] = [write_run(tmp_path / "b", [row("a", "xxx", 0.0)])]
    sentences = verdict(analyse(evidence_of(outputs)))
    assert sentences[0].startswith("**better answers best**")
    assert "**Not judged** and left out of this verdict: ours." in sentences
    assert "– |" in report_markdown(figures, {})


def test_alpaca_evals_format(outputs, tmp_path):
    rows = read_run(outputs["ours"][0])
    file = write_alpaca_eval(locate(str(tmp_path / "alpaca")), "ours", rows, "made_up")
    entries = json.loads(file.read_text())
    assert [set(entry) for entry in entries] == [{"instruction", "output", "generator", "dataset"}] * 2
    assert entries[0] == {
        "instruction": "prompt a",
        "output": "xxxxxx",
        "generator": "ours-1",
        "dataset": "made_up",
    }


def test_every_form_renders_in_markdown_and_in_html():
    blocks = [
        heading("H"),
        "a **b** <c>",
        points(["p"]),
        table(["t", "n"], [["r|s", "1"]]),
        picture("f.png", "caption"),
        answers("why?\nso", [("me", HOSTILE), ("nobody", "")]),
    ]
    markdown = "\n\n".join(blocks)
    page = to_page("<T>", markdown, {"f.png": b"png"})
    assert "| r&#124;s | 1 |" in markdown and "![caption](f.png)" in markdown and "> so" in markdown
    assert "<title>&lt;T&gt;</title>" in page and "<h2>H</h2>" in page
    assert "<strong>b</strong> &lt;c&gt;" in page and "<li>p</li>" in page and "<em>caption</em>" in page
    assert 'src="data:image/png;base64,cG5n" alt="caption"' in page
    assert "<td>r|s</td>" in page and '<td style="text-align:right">1</td>' in page
    assert page.count("<blockquote>") == 1 and "<strong>nobody</strong><br />\n–" in page
    assert "<script" not in page and "\\*\\*not bold\\*\\*" in markdown


MARKUP = some.text(some.sampled_from("\\`*_{}[]<>#|&~-+=.)1a !\n\t:'\";@^%$/(é"), max_size=40)


@settings(max_examples=300, deadline=None)
@given(text=MARKUP)
@example(text=HOSTILE)
@example(text="# no heading\n===\n- no list\n1. nor this\n\n    no code\n> no quote\n|a|\n|-|")
@example(text="&lt; [a](http://b) ![c](d.png) <http://e> a\\b \\")
@example(text="two  spaces  \n\n\tand blank lines")
def test_foreign_text_comes_out_as_it_is(text):
    """What a browser shows: each line of the text, blank ones and spaces at a line's start too."""
    page = to_page("T", answers("p", [("me", text), ("you", "x")]), {})
    (inside,) = re.findall(r"<strong>me</strong><br />\n(.*?)</li>", page, re.DOTALL)
    seen = html.unescape(inside.replace("<br />\n", "\n")).replace("\xa0", " ").replace("\t", " ")
    assert seen.strip("–\n ") == text.replace("\t", " ").strip("\n ") and page.count("<li>") == 2
