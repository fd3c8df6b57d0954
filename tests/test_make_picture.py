"""The README's picture is what a terminal shows: lines written over, colours, and the last screen without animation."""

import importlib.util
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def picture():
    spec = importlib.util.spec_from_file_location("make_picture", ROOT / "docs" / "make_picture.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def texts(svg, animated):
    """What the picture's groups say: those that only animation shows, or those that also stand without it."""
    root = ElementTree.fromstring(svg)
    groups = [g for g in root.iter(f"{SVG}g") if (g.get("class") == "gone") == animated]
    return [text.text for g in groups for text in g.iter(f"{SVG}text")]


def test_a_line_that_is_written_over_is_gone_from_the_last_screen(picture):
    recording = [(0.1, "1/2 rows so far\x1b[0m"), (2.0, "\r\x1b[2K2/2 rows\r\n"), (2.1, "all <good>\r\n")]
    svg = picture.draw(picture.screens(recording, "run it"))
    assert texts(svg, animated=True) == ["1/2 rows so far"]
    assert texts(svg, animated=False) == ["$", "run it", "2/2 rows", "all <good>"]


def test_a_cursor_that_goes_up_writes_there(picture):
    terminal = picture.Terminal()
    terminal.write("one\r\ntwo\x1b[1A\rONE\n")
    assert ["".join(c for c, _ in line) for line in terminal.screen()] == ["ONE", "two"]


def test_looks(picture):
    terminal = picture.Terminal()
    terminal.write("\x1b[1mb\x1b[0m \x1b[38;5;237m-\x1b[38;2;249;38;114m=\x1b[0;2md\x1b[32mg")
    assert [look.classes for _, look in terminal.screen()[0]] == ["bold", "", "bar", "done", "dim", "dim green"]


def test_what_it_does_not_know_is_an_error_not_a_wrong_picture(picture):
    with pytest.raises(ValueError, match="control sequence 3B"):
        picture.Terminal().write("\x1b[3B")
    with pytest.raises(ValueError, match="style 48"):
        picture.Terminal().write("\x1b[48;5;1m")


def test_waiting_is_cut_short_and_the_rest_plays_in_proportion(picture):
    recording = [(60.0, "a\r\n"), (60.8, "b\r\n")]
    clocks = [clock for clock, _ in picture.screens(recording, "x")]
    assert clocks == pytest.approx([0, picture.LONGEST_WAIT_S / picture.SPEED, 1.8 / picture.SPEED])


def test_a_command_is_recorded_as_it_writes_to_a_terminal(picture):
    recording = picture.record("python -c 'import sys; print(sys.stdout.isatty(), \"…\")'")
    assert "".join(text for _, text in recording) == "True …\r\n"


def test_a_command_that_fails_draws_nothing(picture):
    with pytest.raises(SystemExit, match="no such row"):
        picture.record("python -c 'raise ValueError(\"no such row\")'")


def test_the_picture_in_the_readme_is_small_and_shows_a_finished_run():
    svg = ROOT / "docs" / "run.svg"
    said = " ".join(texts(svg.read_text(), animated=False))
    assert svg.stat().st_size < 1e6 and "python -m jobs.align" in said and "win-rate" in said
