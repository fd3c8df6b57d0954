"""200 broken configs and files of every kind: each exits 2 with one clear line, no traceback, and touches nothing."""

import random
import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as some

from jobs.align.__main__ import main
from pipeline.config.align import AlignConfig
from pipeline.config.loading import field_paths, load_config
from pipeline.dataset.plan import plan_input
from pipeline.errors import ConfigError

NUM_CONFIGS = 200
VALID = {
    "policy": {"backend": "fake"},
    "reward": {"backend": "fake"},
    "strategy": {"name": "stars", "reward_threshold": 0.5},
}
WRONG_VALUES = (
    [],
    {},
    {"a": {"b": []}},
    "none of it",
    "\ud800",
    float("nan"),
    float("inf"),
    -(10**30),
    b"\xff",
    [None],
)
WRONG_FILES = (
    b"",
    b"\x00\x01\x02",
    b"\xff\xfe\x00",
    b"- a\n- list\n",
    b"just text",
    b"policy: [unclosed",
    b"a: &a [*a]\n",
    b"policy: !!python/object:os.system {}\n",
    b"? {complex: key}\n: value\n",
    b"12: number\n",
    b"policy: {backend: fake}\npolicy: {backend: fake}\n",
    b"strategy: stars\n",
    b"%YAML 9.9\n---\n",
    b"\ttab: indented\n",
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(VALID))
    pq.write_table(pa.table({"id": ["a"], "prompt": ["hi"]}), tmp_path / "in.parquet")
    return tmp_path


def refuses(folder, capsys, *arguments):
    """The one line of a job that must not have begun."""
    before = sorted(folder.rglob("*"))
    code = main([*map(str, arguments)])
    shown = capsys.readouterr()
    assert code == 2, (arguments, shown)
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1 and "Traceback" not in shown.err, shown.err
    assert 15 < len(shown.err) < 2000, shown.err
    assert sorted(folder.rglob("*")) == before
    return shown.err


def break_config(rng, tree):
    """One fault in a valid tree; what it is."""
    paths = [path for path in field_paths(AlignConfig) if path.partition(".")[0] not in ("strategy", "input", "output")]
    kind, path = rng.randrange(4), rng.choice(paths)
    *parents, last = path.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    if kind == 0 or not isinstance(node, dict):
        letters = list(last)
        letters.insert(rng.randrange(len(letters)), rng.choice("xyz_é "))
        node["".join(letters)] = 1
    elif kind == 1:
        node[last] = rng.choice(([["a"], "list"], {"no": {"such": "key"}}, [None]))
    elif kind == 2:
        tree[rng.choice(("policy", "reward", "strategy", "engine", "coordinator"))] = rng.choice((3, "text", [1], True))
    else:
        node_path, value = rng.choice(
            (
                (("generation", "temperature"), float("nan")),
                (("generation", "max_new_tokens"), 0),
                (("engine", "slots"), -1),
                (("engine", "slots"), 2.5),
                (("strategy", "reward_threshold"), "high"),
                (("strategy", "reward_threshold"), float("inf")),
                (("coordinator", "call_timeout_s"), 0),
                (("seed",), 2**63),
                (("seed",), -1),
            )
        )
        for name in node_path[:-1]:
            tree = tree.setdefault(name, {})
        tree[node_path[-1]] = value
    return path


def test_two_hundred_broken_configs_are_refused_in_one_line(folder, capsys):
    rng = random.Random(5)
    for number in range(NUM_CONFIGS - len(WRONG_FILES)):
        tree = yaml.safe_load(yaml.safe_dump(VALID))
        break_config(rng, tree)
        path = folder / "broken.yaml"
        path.write_text(yaml.safe_dump(tree))
        line = refuses(folder, capsys, "--config", path, f"input={folder}/in.parquet", f"output={folder}/out{number}")
        assert ":" in line
    for text in WRONG_FILES:
        path = folder / "broken.yaml"
        path.write_bytes(text)
        overrides = [f"input={folder}/in.parquet", f"output={folder}/out"]
        refuses(folder, capsys, "--config", path, *overrides, "strategy.name=starz")


scalars = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20)
trees = some.recursive(
    scalars, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(path=some.sampled_from(sorted(field_paths(AlignConfig))), value=trees)
@example(path="cluster", value={"\n": None})
def test_any_value_anywhere_is_a_config_or_a_config_error(path, value):
    try:
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=False).removesuffix("...\n").strip()
        config = load_config(None, ["input=a", "output=b", "policy.backend=fake", "reward.backend=fake",
                                    "strategy.reward_threshold=1", f"{path}={text}"])  # fmt: skip
    except ConfigError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert isinstance(config, AlignConfig)


@settings(max_examples=100, deadline=None)
@given(override=some.text(max_size=40))
def test_any_override_text_is_a_config_error(override):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


def parquet_bytes(table, tmp_path):
    pq.write_table(table, tmp_path / ".scratch.parquet", compression="none")
    data = (tmp_path / ".scratch.parquet").read_bytes()
    (tmp_path / ".scratch.parquet").unlink()
    return data


def test_broken_input_files_are_refused_by_name(folder, capsys):
    whole = parquet_bytes(pa.table({"id": ["a"] * 100, "prompt": ["hi"] * 100}), folder)
    broken = {
        "empty": b"",
        "four": b"PAR1",
        "eight": b"PAR1PAR1",
        "csv": b"id,prompt\n1,hi\n",
        "head": whole[: len(whole) // 2],
        "tail": whole[len(whole) // 2 :],
        "length": whole[:-8] + b"\xff\xff\xff\x7fPAR1",
        "footer": whole[:-60] + bytes(52) + whole[-8:],
    }
    for name, data in broken.items():
        (folder / f"{name}.parquet").write_bytes(data)
        line = refuses(
            folder, capsys, "--config", folder / "job.yaml", f"input={folder}/{name}.parquet", f"output={folder}/out"
        )
        assert name in line


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (pa.table({"id": [1], "prompt": ["hi"]}), "column 'id' is int64, but string"),
        (pa.table({"id": ["b"], "prompt": [3]}), "column 'prompt' is int64, but string"),
        (pa.table([["b"], ["x"], ["y"]], names=["id", "prompt", "prompt"]), "two columns named 'prompt'"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(folder, capsys, second, words):
    (folder / "mixed").mkdir()
    pq.write_table(pa.table({"id": ["a"], "prompt": ["hi"]}), folder / "mixed/1.parquet")
    pq.write_table(second, folder / "mixed/2.parquet")
    line = refuses(folder, capsys, "--config", folder / "job.yaml", f"input={folder}/mixed", f"output={folder}/out")
    assert words in line and "2.parquet" in line


def test_places_that_cannot_be_written_are_refused(folder, capsys):
    (folder / "file").touch()
    for output in (f"{folder}/file", f"{folder}/file/out", "/proc/out", "/dev/full/out", "nosuch://bucket/out", "\\0"):
        arguments = ("--config", folder / "job.yaml", f"input={folder}/in.parquet", f'output="{output}"')
        assert "output" in refuses(folder, capsys, *arguments)


def test_ten_thousand_tiny_files_are_one_plan(tmp_path):
    data = parquet_bytes(pa.table({"prompt": ["hi", "ho"]}), tmp_path)
    for i in range(10_000):
        (tmp_path / f"{i:05d}.parquet").write_bytes(data)
    plan = plan_input(str(tmp_path), None, None)
    spans = list(plan.spans(4096))
    assert plan.num_rows == 20_000 and len(plan.files) == 10_000
    assert [span.first_row for span in spans[1:]] == [span.end_row for span in spans[:-1]]
    assert len(spans) < 100 and spans[-1].end_row == 20_000


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 300 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.ray
def test_a_full_disk_is_told_in_one_line_and_with_room_the_same_command_goes_on(ray_cluster, folder, tiny_disk, capsys):
    rng = random.Random(0)
    texts = ["".join(rng.choices("abcdefghij", k=300)) for _ in range(1200)]
    pq.write_table(pa.table({"id": range(1200), "prompt": texts}), folder / "in.parquet")
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(150_000))
    overrides = [f"input={folder}/in.parquet", f"output={tiny_disk}/out", "generation.max_new_tokens=4"]
    job = ["--config", str(folder / "job.yaml"), *overrides]
    assert main(job) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: output") and "No space left on device" in line, line
    assert not list(tiny_disk.rglob(".tmp-*"))
    subprocess.run(["mount", "-o", "remount,size=20m", str(tiny_disk)], check=True)
    assert main(job) == 0
    assert pq.read_table(tiny_disk / "out")["id"].to_pylist() == list(range(1200))
