"""The architecture's rules: imports point inward, the core needs no Ray and no torch, no standard name is taken."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "pipeline": {"actors", "jobs", "tests", "torch", "transformers", "ray"},
    "actors": {"jobs", "tests"},
    "jobs": {"tests"},
}
GRAPH = ROOT / "pipeline" / "dataset" / "graph.py"  # the Ray Data graph, and the one file of the core that knows Ray


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """Top-level names of everything a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_inward(package):
    assert len(modules(package)) > 1
    for path in modules(package):
        allowed = {"ray"} if path == GRAPH else set()
        outward = (imported(path) & FORBIDDEN[package]) - allowed
        assert not outward, f"{path.relative_to(ROOT)} imports {sorted(outward)}"


def test_no_module_takes_a_standard_library_name():
    names = {path.stem for package in FORBIDDEN for path in modules(package)} - {"__init__"}
    assert not names & set(sys.stdlib_module_names)


def test_files_stay_small():
    """The house rule of about 200 lines, with room for a long docstring."""
    for package in FORBIDDEN:
        for path in modules(package):
            assert len(path.read_text().splitlines()) <= 300, path
