"""The code that a fingerprint covers: all of it, a changed file is named, a name that matches nothing is refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.plan import plan_input
from pipeline.errors import OutputError
from pipeline.runs.directory import RunDirectory
from pipeline.runs.fingerprint import Sources
from tests.configs import fake_config


@pytest.fixture
def root(tmp_path):
    for name in ("rules/__init__.py", "rules/deep/stars.py", "rules/table.txt", "records.py", "other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def test_directories_are_covered_with_all_modules_below_them(root):
    digests = Sources(root, ("rules", "records.py")).digests()
    assert list(digests) == ["records.py", "rules/__init__.py", "rules/deep/stars.py"]
    assert len(set(digests.values())) == 3
    (root / "records.py").write_bytes(b"# records.py\r\n")
    assert Sources(root, ("rules", "records.py")).digests() == digests, "line ends are a checkout's own"


@pytest.mark.parametrize("name", ["strategies", "rules/table", "rules/*.py", "rules/deep/deeper"])
def test_a_name_that_matches_nothing_is_an_error(root, name):
    (root / "rules/deep/deeper").mkdir()
    with pytest.raises(LookupError, match=r"the fingerprint covers '.*', but there is no source of that name"):
        Sources(root, ("records.py", name)).digests()


def test_a_refusal_names_the_file_that_changed(root):
    pq.write_table(pa.table({"prompt": ["x"] * 8}), root / "in.parquet")
    config = fake_config(input=str(root / "in.parquet"), output=str(root / "out"))
    plan, sources = plan_input(config.input, 4, None), Sources(root, ("rules", "records.py"))
    run = RunDirectory.open(config, plan, sources)
    with run.held(print):
        run.aligned.shards.create_directory()
    (root / "out/_run/shards/shard-00000000.parquet").write_bytes(b"rows")
    (root / "other.py").write_text("changed")
    RunDirectory.open(config, plan, sources)
    (root / "rules/deep/stars.py").write_text("changed")
    with pytest.raises(OutputError, match=r"Changed: code of rules/deep/stars\.py was '\w+', now '\w+'$"):
        RunDirectory.open(config, plan, sources)


def test_a_rewards_own_files_are_covered_and_its_speed_is_not(root):
    pq.write_table(pa.table({"prompt": ["x"] * 8}), root / "in.parquet")
    function = {"kind": "function", "function": f"{root}/other.py:score", "input_columns": []}

    def opened(source, **keys):
        (root / "other.py").write_text(source)
        config = fake_config(input=str(root / "in.parquet"), output=str(root / "out"), reward=function | keys)
        return RunDirectory.open(config, plan_input(config.input, 4, None), Sources(root, ("records.py",)))

    run = opened("def score(completions): ...")
    with run.held(print):
        run.aligned.shards.create_directory()
    (root / "out/_run/shards/shard-00000000.parquet").write_bytes(b"rows")
    opened("def score(completions): ...", processes=4, num_cpus=2, timeout_s=3, rows_per_call=1)
    with pytest.raises(OutputError, match=r"Changed: reward files was \['other.py, digest \w+'\], now \['other.py, "):
        opened("def score(completions): return []")
    with pytest.raises(OutputError, match=r"Changed: reward\.input_columns was \[\], now \['prompt'\]"):
        opened("def score(completions): ...", input_columns=["prompt"])
