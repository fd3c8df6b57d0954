"""docs/configuration.md: current, complete, and right about defaults and ranges."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from actors.serving.server_config import ServeConfig
from jobs.benchmark.config import BenchmarkConfig
from jobs.compare.config import JUDGE_KINDS, CompareConfig
from jobs.config_reference.__main__ import PAGE, main
from jobs.config_reference.reference import configuration_page
from jobs.config_reference.values import allowed, is_hidden, shown
from jobs.train_baselines.config import BaselinesConfig
from pipeline.config.loading import described_fields
from pipeline.config.model import ModelConfig
from pipeline.section import Section
from pipeline.strategies import ALL

ROOT = Path(__file__).parent.parent.parent


def table(page, heading):
    """The rows of the table below a heading: key → (default, values, meaning)."""
    below = page.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in below.splitlines() if line.startswith("| `")]
    return {key.strip("`"): cells for key, *cells in rows}


def test_the_page_is_what_the_command_writes(tmp_path):
    assert main(["--output", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == (ROOT / PAGE).read_text(), "run python -m jobs.config_reference"


def test_a_page_that_cannot_be_written_exits_2(tmp_path, capsys):
    assert main(["--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} cannot be written: Is a directory\n"


@pytest.mark.parametrize("root", [ServeConfig, CompareConfig, BenchmarkConfig, BaselinesConfig])
def test_every_key_of_the_help_is_on_the_page(root):
    page, helped = configuration_page(), [re.match(r" +([a-z_.*]+) +(.*)", line) for line in described_fields(root)]
    keys = {match[1] for match in helped if match and not match[2].startswith("which of those below")}
    assert len(keys) > 10 and [key for key in sorted(keys) if f"| `{key}` |" not in page] == []


def test_keys_for_tests_are_left_out():
    assert "fake_call_ms" in ModelConfig.model_fields and "fake_call_ms" not in configuration_page()


@pytest.mark.parametrize("kind", JUDGE_KINDS)
def test_every_key_of_a_judge_is_on_the_page(kind):
    rows = table(configuration_page(), f"### A judge of `kind: {kind}`")
    assert {key.removeprefix("judges.*.") for key in rows} == {
        name for name, info in JUDGE_KINDS[kind].model_fields.items() if name != "kind" and not is_hidden(info)
    }


@pytest.mark.parametrize("section", ALL)
def test_every_strategy_has_its_own_defaults(section):
    name = section.model_fields["name"].default
    rows = table(configuration_page(), f"#### {name}")
    for knob, info in section.model_fields.items():
        if knob != "name":
            default = "required" if info.is_required() else f"`{info.default}`"
            assert rows[f"strategy.{knob}"][0] == default, (name, knob)


def test_a_default_that_is_refused_is_shown_as_required():
    page = configuration_page()
    assert table(page, "### policy")["policy.model"][0] == "required"
    assert table(page, "## jobs.benchmark")["size"][0] == "`5M`"


@pytest.mark.parametrize(
    ("annotation", "metadata", "words"),
    [
        (int, Field(ge=1).metadata, "whole number ≥ 1"),
        (float, Field(gt=0, le=1).metadata, "number > 0, ≤ 1"),
        (Annotated[float, Field(ge=0.0, le=1.0)], [], "number 0 to 1"),
        (int | None, Field(ge=0, lt=2**63).metadata, "whole number ≥ 0, < 2^63, or null"),
        (tuple[Annotated[int, Field(ge=2)], ...], [], "list of: whole number ≥ 2"),
        (tuple[Section, ...], [], "list of mappings"),
        (Literal["a", "b"], [], "`a`, `b`"),
        (bool, [], "`true`, `false`"),
        (dict[str, str], [], "mapping"),
    ],
)
def test_values_in_words(annotation, metadata, words):
    assert allowed(annotation, metadata) == words


def test_values_in_yaml():
    assert [shown(value) for value in (None, True, (), ("a", 1), 3e-4, "x")] == [
        "null",
        "true",
        "[]",
        "[a, 1]",
        "0.0003",
        "x",
    ]
    assert shown(str(ROOT / "pipeline" / "embedded")) == "pipeline/embedded"
