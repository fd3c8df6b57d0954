"""Verdicts of judges that cost something, kept on disk: one JSON object per line, appended as they come.

Invariants: a key names everything the verdict depends on, so no question is asked twice and no verdict is used for
another question; a line that a killed process left half written is ignored.
"""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any


class VerdictStore:
    """The verdicts of one judge; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.verdicts: dict[str, Any] = {}
        text = path.read_text("utf-8") if path.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                entry = json.loads(line)
                self.verdicts[entry["key"]] = entry["verdict"]
        if text and not text.endswith("\n"):
            path.write_text(text[: text.rfind("\n") + 1], "utf-8")

    def get(self, key: str) -> Any:
        """The verdict, or None."""
        return self.verdicts.get(key)

    def put(self, key: str, verdict: Any) -> None:
        with self.lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "verdict": verdict}, ensure_ascii=False) + "\n")
            self.verdicts[key] = verdict


def verdict_key(*parts: Any) -> str:
    """A digest of what a verdict depends on."""
    return hashlib.blake2b(json.dumps(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
