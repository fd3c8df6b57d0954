"""What the pages name exists: links, anchors, jobs, options, keys, paths, make targets; and the README stays short."""

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from actors.serving.server_config import ServeConfig
from jobs.benchmark.config import BenchmarkConfig
from jobs.compare.config import CompareConfig
from jobs.train_baselines.config import BaselinesConfig
from pipeline.config.align import AlignConfig
from pipeline.config.loading import field_paths, validate

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
EXTENDING = ROOT / "docs" / "extending.md"  # adds files and keys that are not there; test_extending.py follows it
README = (ROOT / "README.md").read_text()
JOBS = sorted(
    path.stem for path in (ROOT / "jobs").iterdir() if (path / "__main__.py").is_file() or path.stem == "serve"
)
KEYS = {
    "serve": ServeConfig,
    "compare": CompareConfig,
    "benchmark": BenchmarkConfig,
    "train_baselines": BaselinesConfig,
}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w./-])(?:pipeline|actors|jobs|tests|docs|deploy|grafana)/[\w./-]*\w")
SECTIONS = r"policy|reward|generation|strategy|engine|cluster|coordinator|dataset|serve"
DOTTED_KEY = re.compile(rf"^((?:{SECTIONS})\.(?!yaml)[a-z_.]+)(?:=|: |$)")

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def code(text):
    """What a page writes as code, one command or phrase an item; lines that go on are joined."""
    fenced = [line for _, block in FENCED.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return fenced + [" ".join(phrase.split()) for phrase in INLINE.findall(FENCED.sub("", text))]


def commands(text):
    """(job, arguments) of every `python -m jobs.NAME …` of a page."""
    calls = [call for phrase in code(text) for call in re.findall(r"python -m jobs\.(\w+)([^;&|]*)", phrase)]
    return [(job, shlex.split(rest, comments=True)) for job, rest in calls]


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def options(job, capsys):
    """The options that a job takes, as its usage line names them."""
    name = f"jobs.{job}" if job == "serve" else f"jobs.{job}.__main__"
    with pytest.raises(SystemExit):
        importlib.import_module(name).main(["--help"])
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out.partition("\n\n")[0]))


def is_key(job, key):
    known = field_paths(KEYS.get(job, AlignConfig))
    if job == "compare" and key.startswith("base."):
        known, key = field_paths(AlignConfig), key.removeprefix("base.")
    return key in known


def test_a_five_minute_readme():
    assert len(README.splitlines()) <= 150


@every_page
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if not link.startswith(("http://", "https://")):
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text()), link


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert set(PAGES) - linked == {index}


@pytest.mark.parametrize("page", [page for page in PAGES if page != EXTENDING])
def test_jobs_exist_and_take_what_is_shown(page, capsys):
    for job, arguments in commands(page.read_text()):
        assert job in JOBS or job == "NAME", job
        for argument in arguments if job in JOBS else ():
            name, _, value = argument.partition("=")
            if name.startswith("--"):
                assert name in {"--help", *options(job, capsys)}, (job, argument)
            elif value and re.fullmatch(r"[a-z_.]+", name):
                assert is_key(job, name), (job, argument)


def test_some_commands_were_read():
    """The check above would hold of a page in which it finds none."""
    found = commands((ROOT / "docs" / "baselines.md").read_text())
    assert ("export_pairs", ["outputs/kept", "--output", "outputs/segments.parquet", "--level", "segment"]) in found
    assert ("train_baselines", ["output=outputs/baselines"]) in found
    assert any(job == "align" and "keep_rejected=true" in arguments for job, arguments in found), "a joined line"


@pytest.mark.parametrize("job", JOBS)
def test_the_jobs_page_has_every_option(job, capsys):
    section = (ROOT / "docs" / "jobs.md").read_text().partition(f"\n## {job}\n")[2].partition("\n## ")[0]
    shown = {flag for phrase in code(section) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", phrase)}
    assert options(job, capsys) <= shown
    assert f"python -m jobs.{job}" in section


@every_page
def test_dotted_keys_exist(page):
    known = field_paths(ServeConfig)
    found = [match[1] for phrase in code(page.read_text()) if (match := DOTTED_KEY.match(phrase))]
    assert [key for key in found if key not in known] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in (EXTENDING, ROOT / "CHANGELOG.md")])
def test_paths_exist(page):
    paths = {path for phrase in code(page.read_text()) for path in PATH.findall(phrase)}
    named = {path for path in paths if not re.search(r"/[A-Z]+\b", path)}  # jobs/NAME stands for any of them
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@every_page
def test_make_targets_exist(page):
    targets = re.findall(r"^([\w.$()/]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {target.replace("$(VENV)", ".venv") for target in targets}
    named = {name for phrase in code(page.read_text()) for name in re.findall(r"(?<!\S)make ([\w./]+)", phrase)}
    assert named <= targets


def test_the_tree_of_the_readme_exists():
    (block,) = [block for _, block in FENCED.findall(README) if block.startswith("pipeline/")]
    assert len(block.splitlines()) <= 25
    top = Path()
    for line in block.splitlines():
        is_below = line.startswith("  ")
        names = line.split()[:1] if is_below else line.split("   ")[0].split()
        for name in names:
            assert (ROOT / (top / name if is_below else name)).exists(), line
        top = top if is_below else Path(names[0])


def test_the_config_of_the_readme_is_valid():
    (block,) = [block for language, block in FENCED.findall(README) if language == "yaml"]
    config = validate(AlignConfig, yaml.safe_load(block))
    assert config.policy.model and config.reward.model and "embedded" not in block
    assert len(block.splitlines()) <= 7


def test_nobody_s_data_goes_to_the_toy_models():
    """A command with the toy config reads the toy prompts."""
    for job, arguments in commands(README):
        if any("embedded" in argument for argument in arguments):
            assert not any(argument.startswith(("input=", "--prompts")) for argument in arguments), (job, arguments)


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for file in [*(ROOT / "deploy").iterdir(), ROOT / "docs" / "cluster.md"]:
        assert set(re.findall(r"stars-align:([\d.]+\d)", file.read_text())) == {version}, file
