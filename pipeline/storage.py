"""Where files are: a path on any filesystem that pyarrow or fsspec knows, and the one way a file comes into being.

Invariant: a file is written under a temporary name (`.tmp-…`, which no reader of ours looks at), flushed to the disk,
and then renamed, so under its final name it is whole or it is not there, after a loss of power too. On an object store
too: pyarrow completes an upload however its stream is closed, also by an error half way, and only the store's own copy
to the final name is all or nothing.
"""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

from pipeline.errors import OutputError

TEMPORARY_PREFIX = ".tmp-"
PYARROW_SCHEMES = frozenset({"file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"})  # fsspec has the others
BLOCK_BYTES = 1 << 16
SAMPLED_BLOCKS = 16


def temporary_prefix(writer: str) -> str:
    """What the temporary files of one writer are named after, so that nobody else takes them for left over."""
    return f"{TEMPORARY_PREFIX}{writer}-" if writer else TEMPORARY_PREFIX


@dataclass(frozen=True, slots=True)
class Location:
    """A path on a filesystem; pickles, so tasks on other machines can use it. `writer` is in the names of temporary
    files that are written here and below."""

    filesystem: fs.FileSystem
    path: str
    writer: str = ""

    def __truediv__(self, name: str) -> "Location":
        return replace(self, path=f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        if isinstance(self.filesystem, fs.PyFileSystem):
            return self.filesystem.handler.fs.unstrip_protocol(self.path)
        kind = self.filesystem.type_name
        return self.path if kind == "local" else f"{kind}://{self.path}"

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Location":
        return replace(self, path=self.path.rstrip("/").rpartition("/")[0] or "/")

    def exists(self) -> bool:
        return self.filesystem.get_file_info(self.path).type != fs.FileType.NotFound

    def is_directory(self) -> bool:
        return self.filesystem.get_file_info(self.path).type == fs.FileType.Directory

    def create_directory(self) -> None:
        with _as_output_error(self.path):
            missing = [] if not _is_local(self.filesystem) else takewhile(lambda at: not at.exists(), self._upwards())
            parents = [place.parent for place in missing]
            self.filesystem.create_dir(self.path, recursive=True)
            for parent in parents:
                _flush(parent)

    def _upwards(self) -> Iterator["Location"]:
        place = self
        while place.path.strip("/"):
            yield place
            place = place.parent

    def delete_directory(self) -> None:
        if self.exists():
            self.filesystem.delete_dir(self.path)

    def children(self, recursive: bool = False) -> list[fs.FileInfo]:
        """What the directory holds; nothing when it is not there."""
        return self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True, recursive=recursive))

    def names(self) -> list[str]:
        return [info.base_name for info in self.children()]

    def sampled_digest(self) -> str:
        """A digest of the content: of all of it up to 1 MiB, beyond that of sixteen blocks and the last bytes, so that
        a file of any size is told apart from another one in a moment."""
        digest = hashlib.blake2b(digest_size=8)
        with self.filesystem.open_input_file(self.path) as file:
            size = file.size()
            digest.update(str(size).encode())
            stride = max(BLOCK_BYTES, -(-(size - BLOCK_BYTES) // SAMPLED_BLOCKS))
            for offset in (*range(0, max(0, size - BLOCK_BYTES), stride), max(0, size - BLOCK_BYTES)):
                digest.update(file.read_at(BLOCK_BYTES, offset))
        return digest.hexdigest()

    def read_text(self) -> str:
        with self.filesystem.open_input_stream(self.path) as stream:
            return stream.read().decode("utf-8")

    def write_text(self, text: str) -> None:
        with self.atomic_writer() as stream:
            stream.write(text.encode("utf-8"))

    def create_text(self, text: str) -> bool:
        """Write a file unless there is one; whether it was written. On a local filesystem, of several that try at the
        same moment one succeeds; elsewhere each may, and the last one's text stays."""
        if not _is_local(self.filesystem):
            is_free = not self.exists()
            if is_free:
                self.write_text(text)
            return is_free
        with _as_output_error(self.path):
            try:
                with open(self.path, "x", encoding="utf-8") as stream:
                    stream.write(text)
            except FileExistsError:
                return False
        return True

    @contextmanager
    def atomic_writer(self) -> Iterator[Any]:
        """An output stream; the file appears under its name when the block ends without an error.

        Raises:
            OutputError: no space, no permission, no such place.
        """
        temporary = self.parent / f"{temporary_prefix(self.writer)}{uuid.uuid4().hex}"
        with _as_output_error(self.path):
            try:
                with self.filesystem.open_output_stream(temporary.path) as stream:
                    yield stream
            except BaseException:
                if temporary.exists():
                    self.filesystem.delete_file(temporary.path)
                raise
            _flush(temporary)
            self.filesystem.move(temporary.path, self.path)
            _flush(self.parent)


def _flush(location: Location) -> None:
    """Have the disk hold what was written to a local file, or which names a local directory holds. Other filesystems
    keep what they have accepted."""
    if not _is_local(location.filesystem):
        return
    descriptor = os.open(location.path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_local(filesystem: fs.FileSystem) -> bool:
    if isinstance(filesystem, fs.PyFileSystem):
        return isinstance(filesystem.handler.fs, LocalFileSystem)
    return isinstance(filesystem, fs.LocalFileSystem)


@contextmanager
def _as_output_error(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"output {path!r} cannot be written: {' '.join(str(error).split())}") from None


def locate(text: str) -> Location:
    """The location a user named: a local path, relative or not, or a URI such as `s3://bucket/folder`.

    Raises:
        ValueError, OSError: no filesystem is known for this URI, or not at hand.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Location(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text)))
    if scheme in PYARROW_SCHEMES:
        return Location(*fs.FileSystem.from_uri(text))
    try:
        filesystem, path = fsspec.core.url_to_fs(text)
    except ImportError as error:  # fsspec knows which package has it
        raise ValueError(str(error)) from None
    return Location(fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path)
