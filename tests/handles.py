"""Model handles without Ray: the same `.remote(...)` calls, run in one thread per model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor


class LocalMethod:
    def __init__(self, method, executor):
        self.method, self.executor = method, executor

    def remote(self, *args):
        return asyncio.wrap_future(self.executor.submit(self.method, *args))


class LocalHandle:
    """Wraps a policy or reward engine as its actor handle would; `close` ends its thread."""

    def __init__(self, engine):
        self.executor = ThreadPoolExecutor(1)
        for name in ("propose", "score"):
            if hasattr(engine, name):
                setattr(self, name, LocalMethod(getattr(engine, name), self.executor))

    def close(self):
        self.executor.shutdown()
