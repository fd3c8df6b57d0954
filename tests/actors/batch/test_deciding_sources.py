"""The fingerprint of a run covers all code that its rows go through, as the imports tell it."""

from actors.batch.deciding_sources import DECIDING_SOURCES
from tests.test_layout import PACKAGES, ROOT, imports, modules, named_modules

ROW_PATH = (
    "actors.batch.align_shards",
    "actors.models.policy",
    "actors.models.reward",
    "pipeline.dataset.graph",
    "pipeline.runs.retry",
)
NOT_DECIDING = {
    "pipeline.config": "its values are compared one by one",
    "pipeline.section": "what every section is",
    "pipeline.errors": "names of errors",
    "pipeline.storage": "where files are",
    "pipeline.runs": "what a run did, and its directory",
    "actors.batch": "supervision, progress, live figures",
    "actors.cluster": "where models are started",
}


def imported_from(names):
    """These modules and all of ours that they import, directly or not."""
    trees = {name: tree for package in PACKAGES for name, tree in modules(ROOT, package).items()}
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += (imports(trees[name]) | named_modules(trees[name], trees.keys())) & trees.keys()
    return found


def test_whatever_a_row_goes_through_is_covered():
    files = (name.removesuffix(".py").replace("/", ".") for name in DECIDING_SOURCES.digests())
    covered = {name.removesuffix(".__init__") for name in files}
    path = imported_from(ROW_PATH)
    others = {part: {name for name in path if f"{name}.".startswith(f"{part}.")} for part in NOT_DECIDING}
    assert path - covered - set().union(*others.values()) == set(), (
        "add it to DECIDING_SOURCES, or say here why it decides no row"
    )
    assert all(others.values()), "what is said to decide no row is imported"
    assert {*ROW_PATH, "pipeline.dataset.schema", "pipeline.records", "actors.engines.sampling"} <= path & covered
