"""A model actor's engine, and the one place where a model's foreign out-of-memory errors become ours.

torch's allocators raise plain RuntimeErrors that only their text tells apart, so this is the one file that reads it.
Invariant: no engine is used again after it ran out of memory. Its caches may be half written and its memory is in
fragments, so it is loaded anew before the next call.
"""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from actors.engines.backends import Role
from pipeline.errors import ModelOutOfMemory

ALLOCATION_FAILURES = ("out of memory", "allocate memory")
MAX_MESSAGE_CHARACTERS = 200


class EngineHolder:
    """Loads an engine, lends it call by call, loads it again after it ran out of memory.

    Args:
        role: whose engine it is.
        load: loads it.
    """

    def __init__(self, role: Role, load: Callable[[], Any]) -> None:
        self.role: Role = role
        self.load = load
        self._engine: Any = load()
        self._one_at_a_time = threading.Lock()  # Serve runs calls in threads

    @contextmanager
    def engine(self) -> Iterator[Any]:
        """The engine for one call.

        Raises:
            ModelOutOfMemory: the call found no memory; a smaller one may.
        """
        with self._one_at_a_time:
            if self._engine is None:
                _free_memory()
                self._engine = self.load()
            try:
                yield self._engine
                return
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                message = (" ".join(str(error).split()) or type(error).__name__)[:MAX_MESSAGE_CHARACTERS]
                self._engine = None
        raise ModelOutOfMemory(f"the {self.role} model ran out of memory: {message}")  # unchained: frames hold tensors


def _is_out_of_memory(error: Exception) -> bool:
    is_allocator = isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATION_FAILURES)
    return is_allocator or isinstance(error, MemoryError)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
