"""What an endpoint has replied and what that cost, kept in a folder that several processes share.

Every process appends to a file of its own, a JSON object a line, and reads on in all of them: `{"key", "tokens"}` for a
reply that was of no use, with "reply" for one that was.

Invariants: a key names everything that was asked, so no reply is used for another question; a line that a killed
process left half written is never read; what was paid is counted once, in this start and in all before.
"""

import hashlib
import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

REFRESH_S = 1.0


class ReplyStore:
    """The replies in a folder; safe to use from several threads.

    Args:
        folder: made if it is not there; None keeps nothing on disk and no reply in memory, but counts.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.spent_tokens = 0
        self._replies: dict[str, str] = {}
        self._read_until: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._refreshed_at_s = time.monotonic()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._own = folder / f"replies-{uuid.uuid4().hex}.jsonl"
            self._own.touch()
            self._read_on()

    def get(self, key: str) -> str | None:
        """The reply, by whichever process it was kept."""
        with self._lock:
            if self.folder is not None and time.monotonic() > self._refreshed_at_s + REFRESH_S:
                self._read_on()
                self._refreshed_at_s = time.monotonic()
            return self._replies.get(key)

    def put(self, key: str, tokens: int, reply: str | None) -> None:
        """Keep what was paid for; no reply for one that is of no use."""
        entry: dict[str, Any] = {"key": key, "tokens": tokens} | ({} if reply is None else {"reply": reply})
        with self._lock:
            if self.folder is None:
                self.spent_tokens += tokens
                return
            with self._own.open("ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
            self._read_file(self._own)

    def _read_on(self) -> None:
        assert self.folder is not None
        for path in sorted(self.folder.glob("replies-*.jsonl")):
            self._read_file(path)

    def _read_file(self, path: Path) -> None:
        start = self._read_until.get(path, 0)
        if path.stat().st_size == start:
            return
        with path.open("rb") as file:
            file.seek(start)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_until[path] = start + len(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            self.spent_tokens += entry["tokens"]
            if "reply" in entry:
                self._replies[entry["key"]] = entry["reply"]


def question_key(*parts: Any) -> str:
    """A digest of what is asked."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
