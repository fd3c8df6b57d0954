"""Where a user's Python function is written, and what its signature names, read off the source: nothing of it runs.

rewards/brief.py:score      a file, and a function at its top level
my_package.rewards:score    a module that can be imported, and a function in it
"""

import ast
import difflib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

GIVEN = ("prompts", "completions", "finished")  # what every function may ask for


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A function's source file, and the parameters that a caller must give by name beside those of GIVEN; None for both
    where there is no such source, or no `def` of the name in it."""

    path: Path | None
    parameters: tuple[str, ...] | None


def split_name(function: str) -> tuple[str, str]:
    """The file or module, and the function's name; raises ValueError where it is neither."""
    place, separator, name = function.rpartition(":")
    if not separator or not place or not name.isidentifier():
        raise ValueError("must be file.py:name or module:name")
    return place, name


def is_file(place: str) -> bool:
    return place.endswith(".py")


def find_function(function: str) -> FunctionSource:
    """The source of `file.py:name` or `module:name`.

    Raises:
        ValueError: there is no such file or module, it is not Python, or it is plain that it has no such function.
    """
    place, name = split_name(function)
    path = Path(place).expanduser() if is_file(place) else _module_file(place)
    if path is None:
        return FunctionSource(None, None)
    if not path.is_file():
        raise ValueError(f"file {place!r} does not exist")
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not Python: {error}") from None
    return FunctionSource(path, _parameters(tree, name, str(path)))


def _parameters(tree: ast.Module, name: str, path: str) -> tuple[str, ...] | None:
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if name in functions:
        return _required(functions[name])
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {(a.asname or a.name).split(".")[0] for n in ast.walk(tree) for a in getattr(n, "names", ()) if _is(a)}
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in stored | imported | classes and "*" not in imported:
        near = difflib.get_close_matches(name, functions, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"its functions: {', '.join(functions) or 'none'}"
        raise ValueError(f"{path!r} has no function {name!r}; {hint}")
    return None


def _is(node: object) -> bool:
    return isinstance(node, ast.alias)


def _required(arguments: ast.arguments) -> tuple[str, ...]:
    """Parameters without a default that are no `*args` or `**kwargs`."""
    if arguments.posonlyargs:
        raise ValueError("takes arguments by position only; they are given by name")
    without = len(arguments.args) - len(arguments.defaults)
    names = [argument.arg for argument in arguments.args[:without]]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    names += [argument.arg for argument, default in pairs if default is None]
    return tuple(name for name in names if name not in GIVEN)


def _module_file(module: str) -> Path | None:
    """A module's source; None where it has none. Parents are looked into, not imported."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first) if first.isidentifier() else None
    if spec is None:
        raise ValueError(f"there is no module {first!r}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for part in rest:
        found = next((path for folder in folders if (path := _in_folder(folder, part)) is not None), None)
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
        if found is None and not folders:
            raise ValueError(f"there is no module {module!r}")
    return found


def _in_folder(folder: Path, part: str) -> Path | None:
    candidates = (folder / f"{part}.py", folder / part / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
