"""The file that buffers an attempt's output while it lasts, and that survives the process, however that ends.

The first line is JSON and names the attempt; the rest is what was printed. Standard library only.
"""

import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.pool.output_files import KEPT_BYTES

MAX_BUFFER_BYTES = 1024 * 1024
"""A longer file is truncated to the part that will be kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CapturedOutput:
    """What an attempt printed.

    Attributes:
        child_id, key: the child, and the attempt's key.
        text: the last `KEPT_BYTES` of the output, after a line that says how much is missing.
    """

    child_id: int
    key: str
    text: str


class OutputBuffer:
    """The file of one worker. Where it cannot be written, as on a full disk, output is lost and nothing else.

    Args:
        path: the file, which no two running workers may share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._owner = 0, ""
        self._dropped = 0
        self._file: int | None = None

    def recover(self) -> CapturedOutput | None:
        """Return the output that a process left of its last attempt when it died, and remove the file."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return self._read()
        return None

    def begin(self, child_id: int, key: str) -> None:
        """Begin the output of another attempt. The first write creates the file."""
        with self._lock:
            self._owner, self._dropped = (child_id, key), 0

    def descriptor(self) -> int | None:
        """Return the open file's descriptor, which appends; `None` where the file cannot be created."""
        with self._lock:
            return self._opened()

    def write(self, text: str) -> None:
        """Append the text."""
        with self._lock:
            file = self._opened()
            if file is not None:
                with suppress(OSError):
                    os.write(file, text.encode(errors="replace"))
        self.truncate()

    def truncate(self) -> None:
        """Remove the first part of a file that has grown too long. Must be called from time to time."""
        with self._lock, suppress(OSError):
            if self._file is None or os.fstat(self._file).st_size <= MAX_BUFFER_BYTES:
                return
            with self._path.open("r+b") as file:  # another descriptor: the first one always appends
                header = len(file.readline())
                size = file.seek(0, os.SEEK_END)
                file.seek(-KEPT_BYTES, os.SEEK_END)
                rest = file.read(KEPT_BYTES)
                self._dropped += size - header - len(rest)
                file.truncate(0)
                file.seek(0)
                file.write(self._header() + rest)

    def end(self) -> CapturedOutput | None:
        """End the attempt's output, and return it; `None` if nothing was printed."""
        with self._lock:
            if self._file is None:
                return None
            os.close(self._file)
            self._file = None
            with suppress(OSError, ValueError, KeyError, TypeError):
                return self._read()
            return None

    def _opened(self) -> int | None:
        if self._file is None:
            with suppress(OSError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
                os.write(self._file, self._header())
        return self._file

    def _header(self) -> bytes:
        child_id, key = self._owner
        return f"{json.dumps({'child': child_id, 'key': key, 'dropped': self._dropped})}\n".encode()

    def _read(self) -> CapturedOutput | None:
        with self._path.open("rb") as file:
            header = file.readline()
            start = file.tell()
            size = file.seek(0, os.SEEK_END)
            kept_from = max(start, size - KEPT_BYTES)
            file.seek(kept_from)
            text = file.read().decode(errors="replace")
        self._path.unlink()
        owner = json.loads(header)
        dropped = owner["dropped"] + kept_from - start
        if dropped:
            text = f"[the first {dropped:,} bytes were not kept]\n{text}"
        return CapturedOutput(child_id=owner["child"], key=owner["key"], text=text) if text else None
