"""A file is written whole or not at all, on every kind of filesystem there is a server or a folder for."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.plan import plan_input
from pipeline.errors import InputError, OutputError
from pipeline.storage import locate
from tests.s3_server import BUCKET, s3_server

KINDS = ("path", "file", "fsspec-local", "fsspec-memory", "s3")


@pytest.fixture(scope="module")
def s3_environment(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(params=KINDS)
def folder(request, tmp_path):
    """A folder nobody used before, as a user names it."""
    if request.param == "s3":
        request.getfixturevalue("s3_environment")
        return f"s3://{BUCKET}/{tmp_path.name}"
    return {
        "path": str(tmp_path),
        "file": f"file://{tmp_path}",
        "fsspec-local": f"local://{tmp_path}",
        "fsspec-memory": f"memory://{tmp_path}",
    }[request.param]


def test_a_file_is_there_whole_or_not_at_all(folder):
    place = locate(folder) / "run"
    place.create_directory()
    file = place / "manifest.json"
    with pytest.raises(KeyboardInterrupt), file.atomic_writer() as stream:
        stream.write(b"x" * 6_000_000)  # more than one part of an upload
        raise KeyboardInterrupt
    assert not file.exists() and place.names() == []
    file.write_text("first")
    with pytest.raises(KeyboardInterrupt), file.atomic_writer() as stream:
        stream.write(b"sec")
        raise KeyboardInterrupt
    assert file.read_text() == "first"
    file.write_text("second")
    assert file.read_text() == "second" and place.names() == ["manifest.json"]


def test_a_location_is_shown_as_it_can_be_named_again(folder):
    place = locate(folder) / "run"
    place.create_directory()
    (place / "a.txt").write_text("text")
    shown = locate(str(place / "a.txt"))
    assert shown.read_text() == "text" and shown.parent.is_directory() and shown.name == "a.txt"
    place.delete_directory()
    assert not shown.exists() and place.names() == []


def test_input_is_found_by_folder_and_by_glob(folder):
    place = locate(folder) / "prompts"
    for day, num_rows in (("1", 3), ("2", 4)):
        (place / day).create_directory()
        with (place / day / "p.parquet").atomic_writer() as stream:
            pq.write_table(pa.table({"prompt": ["hi"] * num_rows}), stream)
    for text in (f"{folder}/prompts", f"{folder}/prompts/*/p.parquet"):
        plan = plan_input(text, None, None)
        assert plan.num_rows == 7 and [os.path.dirname(file.relative_path) for file in plan.files] == ["1", "2"]
    with pytest.raises(InputError, match=r"does not exist; did you mean '.*prompts'"):
        plan_input(f"{folder}/promts", None, None)


def test_a_bucket_that_does_not_exist_is_an_error_of_one_line(s3_environment):
    with pytest.raises(OutputError, match="cannot be written") as caught:
        (locate("s3://no-such-bucket/out") / "_run").create_directory()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["hdsf://host/in", "hdfs://host:1/in", "s3a://bucket/in"])
def test_a_filesystem_that_is_not_known_or_not_installed_is_an_error_of_one_line(text):
    with pytest.raises(InputError, match="cannot be read") as caught:
        plan_input(text, None, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["", "file://", "local://"])
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_writer_goes_on(
    tmp_path, monkeypatch, scheme
):
    final, flushed = tmp_path / "a/b/manifest.json", []

    def record(descriptor):
        path = os.path.realpath(f"/proc/self/fd/{descriptor}")
        flushed.append((os.path.relpath(path, tmp_path), final.exists() and final.read_text()))

    monkeypatch.setattr(os, "fsync", record)
    file = locate(f"{scheme}{final}")
    file.parent.create_directory()
    assert flushed == [("a", False), (".", False)], "the new directories' names, in those that hold them"
    flushed.clear()
    file.write_text("whole")
    (temporary, before), (folder, after) = flushed
    assert temporary.startswith("a/b/.tmp-") and before is False
    assert (folder, after) == ("a/b", "whole")
