"""Preference pairs of a run: what is paired, in which format, and what is refused; TRL's own reader takes the files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.export_pairs.__main__ import main
from jobs.export_pairs.preference_pairs import segment_pairs
from pipeline.dataset.schema import build_table
from pipeline.records import CandidateRecord, RowResult
from tests.configs import fake_config
from tests.run_folders import add_run_files


def candidate(segment, attempt, so_far, text, reward, is_kept=False, finished=False):
    return CandidateRecord(segment, attempt, so_far, text, finished, reward, 0.5, is_kept)


GOOD = RowResult(
    "stars",
    0,
    "stop",
    response="a b",
    reward=2.0,
    candidates=(
        candidate(0, 0, "", "x", 0.1),
        candidate(0, 1, "", "high", 9.0),
        candidate(0, 2, "", "a", 1.0, is_kept=True),
        candidate(1, 0, "a", " c", 0.5, finished=True),
        candidate(1, 1, "a", " d", 0.2),
        candidate(1, 2, "a", " b", 2.0, is_kept=True, finished=True),
    ),
)
CUT = RowResult("stars", 0, "length", response="zz", reward=1.0, candidates=GOOD.candidates[3:5])
BAD = RowResult("stars", 0, "error", error_type="null_prompt", error="the prompt is null")
MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
SEGMENTS = [("Q", "a", "x", 1.0, 0.1), ("Qa", " b", " c", 2.0, 0.5), ("Qa", " b", " d", 2.0, 0.2)]


def run_of(folder, results, keep_rejected=True, status="finished", gathered=(), **columns):
    """A run directory as jobs.align leaves it, of fake models: no end token, a prompt's text is its messages'."""
    add_run_files(folder, fake_config(keep_rejected=keep_rejected), status, gathered)
    rows = pa.table({"id": [f"r{i}" for i in range(len(results))]} | columns)
    pq.write_table(build_table(rows, results, "stars", keep_rejected), folder / "part-00000.parquet")
    return str(folder)


def export(run, tmp_path, level, name="pairs.parquet"):
    assert main([run, "--output", str(tmp_path / name), "--level", level]) == 0
    if name.endswith("jsonl"):
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    return pq.read_table(tmp_path / name).to_pylist()


@pytest.mark.parametrize("name", ["pairs.parquet", "pairs.jsonl"])
def test_segments_are_paired_where_they_were_proposed_and_only_below_the_kept_ones_reward(tmp_path, capsys, name):
    run = run_of(tmp_path / "run", [GOOD, BAD], prompt=["Q", None])
    pairs = export(run, tmp_path, "segment", name)
    assert [tuple(p[k] for k in list(p)[1:]) for p in pairs] == SEGMENTS
    assert list(pairs[0]) == ["id", "prompt", "chosen", "rejected", "chosen_reward", "rejected_reward"]
    assert "3 pairs of 2 rows, 1 left out" in capsys.readouterr().out


def test_responses_are_paired_when_both_ended(tmp_path):
    run = run_of(tmp_path / "run", [GOOD, CUT], prompt=["Q", "R"])
    (pair,) = export(run, tmp_path, "response")
    assert pair == {
        "id": "r0",
        "prompt": "Q",
        "chosen": "a b",
        "rejected": "a c",
        "chosen_reward": 2.0,
        "rejected_reward": 0.5,
    }


def test_inputs_with_messages_give_conversations(tmp_path):
    columns = {"prompt": ["Q", None], "messages": pa.array([None, MESSAGES])}
    pairs = export(run_of(tmp_path / "run", [GOOD, GOOD], **columns), tmp_path, "response")
    assert [p["prompt"] for p in pairs] == [[{"role": "user", "content": "Q"}], MESSAGES]
    assert pairs[1]["chosen"] == [{"role": "assistant", "content": "a b"}]
    assert pairs[1]["rejected"] == [{"role": "assistant", "content": "a c"}]


def test_what_was_not_asked_a_reward_is_in_no_pair():
    row = {"id": 1, "candidates": [{"reward": None, "is_kept": True, "segment": 0, "response_so_far": ""}]}
    assert not list(segment_pairs(row, MESSAGES))


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (lambda folder: run_of(folder, [GOOD], False, prompt=["Q"]), "p.jsonl", "kept no rejected candidates"),
        (lambda folder: run_of(folder, [BAD], prompt=["Q"]), "p.jsonl", "holds no pair of level segment"),
        (lambda folder: run_of(folder, [GOOD], status="running", prompt=["Q"]), "p.jsonl", "is not finished; start"),
        (
            lambda folder: run_of(folder, [GOOD], status="running", gathered=("aligned",), prompt=["Q"]),
            "p.jsonl",
            "is not finished; start",
        ),
        (lambda folder: run_of(folder, [GOOD], prompt=["Q"]), "p.csv", "must end with .parquet or .jsonl"),
        (lambda folder: str(folder), "p.jsonl", "holds no run of jobs.align"),
    ],
)
def test_what_cannot_be_exported_exits_2_with_one_line_and_leaves_no_file(tmp_path, capsys, make, name, words):
    run = make(tmp_path / "run")
    assert main([run, "--output", str(tmp_path / name), "--level", "segment"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] in ([], ["run"])
