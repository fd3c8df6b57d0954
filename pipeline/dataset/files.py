"""Which files an input names: a file, a directory or a glob.

Invariant: the same files in the same order wherever and whenever it is asked; names that begin with `_` or `.` are
never among those of a directory.
"""

import difflib
import fnmatch

from pyarrow import fs

from pipeline.errors import InputError
from pipeline.storage import Location, locate


def reads(text: str, path: Location) -> bool:
    """Whether the input that `text` names includes a file of this path, or would if it were there."""
    root, pattern = _root_and_pattern(text)
    prefix = root.path.rstrip("/") + "/"
    is_under = root.filesystem.equals(path.filesystem) and path.path.startswith(prefix) and root.is_directory()
    return is_under and _is_wanted(path.path, path.path[len(prefix) :], pattern)


def _root_and_pattern(text: str) -> tuple[Location, str | None]:
    """The file or directory to look at, and the whole pattern where `text` is a glob."""
    root = locate(text)
    if not any(c in root.path for c in "*?[") or root.exists():
        return root, None
    pattern = root.path
    while any(c in root.path for c in "*?["):
        root = root.parent
    return root, pattern


def find_files(text: str) -> tuple[fs.FileSystem, list[tuple[fs.FileInfo, str]]]:
    """Every file with its path relative to what the user named, sorted; hidden names (`_…`, `.…`) are skipped."""
    root, pattern = _root_and_pattern(text)
    if root.is_directory():
        infos = [info for info in root.children(recursive=True) if info.type != fs.FileType.Directory]
        named = [(info, info.path[len(root.path.rstrip("/")) + 1 :]) for info in infos]
        found = [(info, relative) for info, relative in named if _is_wanted(info.path, relative, pattern)]
    else:
        info = root.filesystem.get_file_info(root.path)
        found = [(info, root.name)] if info.type != fs.FileType.NotFound else []
    if not found:
        raise InputError(f"input {text!r} {_what_is_missing(root, pattern)}")
    special = next((info.path for info, _ in found if info.type != fs.FileType.File), None)
    if special is not None:
        raise InputError(f"input file {special!r} is no regular file (a device, pipe or socket)")
    return root.filesystem, sorted(found, key=lambda pair: pair[1])


def _is_wanted(path: str, relative: str, pattern: str | None) -> bool:
    if any(part.startswith(("_", ".")) for part in relative.split("/")):
        return False
    if pattern is None:
        return relative.lower().endswith((".parquet", ".pq"))
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def _what_is_missing(root: Location, pattern: str | None) -> str:
    if pattern is not None:
        return "matches no file"
    if root.is_directory():
        return "holds no *.parquet file"
    near = difflib.get_close_matches(root.name, root.parent.names() if root.parent.is_directory() else [], n=1)
    return "does not exist" + (f"; did you mean {str(root.parent / near[0])!r}?" if near else "")
