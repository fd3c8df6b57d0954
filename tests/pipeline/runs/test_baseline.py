"""Aligned against vanilla on the same prompts: only rows where both answered, a tie is half a win."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.align import AlignConfig
from pipeline.dataset.parts import part_files
from pipeline.runs import baseline
from pipeline.runs.baseline import compare_outputs, read_pairs
from pipeline.runs.outputs import StageOutput
from pipeline.runs.text_judge import TEXT_JUDGES, load_text_judge
from pipeline.storage import locate
from tests.configs import fake_config

JUDGED = fake_config(judge="embedded")


@pytest.fixture
def outputs(tmp_path):
    """Four prompts; the third has no aligned response, and its prompt is not even text."""
    raw = pa.array([b"p0", b"p1", b"\xff", b"p3"], pa.binary())
    prompts = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "asked"}]
    messages = pa.array(
        [None, None, None, turns], pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    )
    for name, responses, rewards in (
        ("aligned", ["long answer", "same", None, "x"], [2.0, 1.0, None, 0.0]),
        ("vanilla", ["short", "same", "y", "longer"], [1.0, 1.0, 5.0, 3.0]),
    ):
        (tmp_path / name).mkdir()
        errors = [None if response else "prompt_not_text" for response in responses]
        columns = {"prompt": prompts, "messages": messages, "response": responses, "reward": rewards}
        pq.write_table(pa.table(columns | {"error_type": errors}), tmp_path / name / "part-00000.parquet")
    return tuple(StageOutput(tuple(part_files(locate(str(tmp_path / name))))) for name in ("aligned", "vanilla"))


def test_win_rate_and_its_standard_error(outputs, monkeypatch):
    monkeypatch.setattr(baseline, "load_text_judge", lambda name: lambda prompt, response: float(len(response)))
    result = compare_outputs(JUDGED, JUDGED.judge, *outputs)
    assert result.num_prompts == 3
    assert result.mean_reward == 1.0 and result.baseline_mean_reward == pytest.approx(5 / 3)
    assert result.win_rate == 0.5 and result.win_rate_standard_error == pytest.approx((0.5 / 3 / 3) ** 0.5)


def test_without_a_judge_or_without_pairs_there_is_no_win_rate(outputs):
    assert compare_outputs(fake_config(), None, *outputs).win_rate is None
    nothing = compare_outputs(JUDGED, JUDGED.judge, StageOutput(()), outputs[1])
    assert nothing.num_prompts == 0 and nothing.win_rate is None


def test_pairs_carry_what_the_user_asked_last(outputs):
    pairs = list(read_pairs(JUDGED, *outputs))
    assert [pair.prompt for pair in pairs] == ["p0", "p1", "asked"]
    assert pairs[0].response == "long answer" and pairs[0].baseline_response == "short"


def test_every_judge_of_the_config_exists():
    names = AlignConfig.model_fields["judge"].annotation.__args__[0].__args__
    assert set(TEXT_JUDGES) == set(names)
    for name in names:
        assert isinstance(load_text_judge(name)("What is it?", "It is."), float)
