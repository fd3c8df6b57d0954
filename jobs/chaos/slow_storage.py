"""`slow:///path`: the local file system with slow writes, so that a kill inside a file write really happens.

Importing this module registers the scheme in this process; workers get the class itself, pickled.
"""

import io
import time
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

WRITE_S = 0.01  # a shard is some hundred writes


class SlowFile(io.FileIO):
    def write(self, data: Any) -> int:
        time.sleep(WRITE_S)
        return super().write(data) or 0


class SlowFileSystem(LocalFileSystem):
    protocol = "slow"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return SlowFile(path, mode) if "w" in mode else super()._open(path, mode, **options)


fsspec.register_implementation("slow", SlowFileSystem)
