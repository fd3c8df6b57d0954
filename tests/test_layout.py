"""The rules of the tree: imports point inward and in no circle, the core needs no Ray and no torch, names are unique.

What is held is read off the sources; each rule is a function over a folder, and is tried on a folder that breaks it.
"""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "actors", "jobs")
OUTWARD = {
    "pipeline": {"actors", "jobs", "tests", "torch", "transformers", "ray"},
    "actors": {"jobs", "tests"},
    "jobs": {"tests"},
}
GRAPH = "pipeline.dataset.graph"  # the Ray Data graph, and the one module of the core that knows Ray
MOST_FLAT_MODULES = 8
MOST_LINES = 300


def modules(root, package):
    """Dotted name → syntax tree of every module of a package."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return found


def imports(tree):
    """Every module that a tree imports, also inside functions, but not for type checkers alone."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(ast.Module(node.body, []))
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def named_modules(tree, known):
    """Modules that strings name: what is imported by name or started by `-m` is a dependency too."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in known}


def outward_imports(root):
    """`module imports name` for every import that points outward."""
    found = []
    for package, forbidden in OUTWARD.items():
        known = {name for other in PACKAGES for name in modules(root, other)}
        for name, tree in modules(root, package).items():
            used = imports(tree) | (named_modules(tree, known) if package != "jobs" else set())
            allowed = {"ray"} if name == GRAPH else set()
            found += [f"{name} imports {other}" for other in used if other.split(".")[0] in forbidden - allowed]
    return sorted(set(found))


def circles(root):
    """Groups of modules that import each other in a circle, found as strongly connected components."""
    trees = {name: tree for package in PACKAGES for name, tree in modules(root, package).items()}
    edges = {name: (imports(tree) & trees.keys()) - {name} for name, tree in trees.items()}
    index, low, on_stack, stack, found = {}, {}, set(), [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        on_stack.add(name)
        for other in edges[name]:
            if other not in index:
                visit(other)
            if other in on_stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
                on_stack.discard(group[-1])
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def names_of_two_modules(root):
    """Names that two modules of pipeline/ and actors/ share, packages left out."""
    stems = Counter(
        path.stem
        for package in ("pipeline", "actors")
        for path in (root / package).rglob("*.py")
        if path.stem[0] != "_"
    )
    return sorted(name for name, count in stems.items() if count > 1)


def jobs_started_by_a_string(root):
    """Modules of pipeline/ and actors/ that hold a string `jobs.NAME` or `-m jobs…`."""
    found = []
    for package in ("pipeline", "actors"):
        for name, tree in modules(root, package).items():
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and node.value.startswith(("-m jobs", "jobs."))
                ):
                    found.append(name)
    return found


def drawers(root):
    """Folders of which pipeline/ and actors/ are made that hold too many modules directly."""
    counts = {p: len([f for f in (root / p).glob("*.py") if f.stem != "__init__"]) for p in ("pipeline", "actors")}
    return [package for package, count in counts.items() if count > MOST_FLAT_MODULES]


RULES = (outward_imports, circles, names_of_two_modules, jobs_started_by_a_string, drawers)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule):
    assert all(len(modules(ROOT, package)) > 10 for package in PACKAGES)
    assert rule(ROOT) == []


BROKEN = {
    outward_imports: {"pipeline/a.py": "import torch", "actors/b.py": "def f():\n    from jobs import align"},
    circles: {"pipeline/a.py": "from pipeline.b import x", "pipeline/b.py": "def f():\n    import pipeline.a"},
    names_of_two_modules: {"pipeline/one/a.py": "", "actors/two/a.py": ""},
    jobs_started_by_a_string: {"actors/a.py": 'COMMAND = ["python", "-m", "jobs.align"]'},
    drawers: {f"actors/a{number}.py": "" for number in range(MOST_FLAT_MODULES + 1)},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_can_be_broken(rule, tmp_path):
    for path, text in BROKEN[rule].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert rule(tmp_path)


def test_no_module_takes_a_standard_library_name():
    names = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")} - {"__init__", "__main__"}
    assert not names & set(sys.stdlib_module_names)


def test_files_stay_small():
    """The house rule of about 200 lines, with room for a long docstring."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= MOST_LINES, path
