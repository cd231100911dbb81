"""`SnapshotFile`: a shard's state as a safetensors file that is replaced atomically, and the previous such file.

The files of shard 3 are `shard-003.safetensors` and `shard-003.previous.safetensors`. The safetensors metadata has the
run, the layout's fingerprint, the shard's JSON data and a checksum of the whole file. The file is put together here, as
its tensors lie end to end in memory; the library, which looks at each of them, takes ten times as long.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ps.codec import encode
from ps.errors import CorruptSnapshot, WrongRun
from ps.identifiers import CORRUPT
from ps.shard.journal import Content, journals, records, sync_directory
from ps.shard.messages import ShardState
from ps.slices import as_slices
from ps.status import ShardStatus
from ps.store import Layout

_LOG = logging.getLogger(__name__)

FORMAT = "nascluster-shard-2"
"""The name of the file's format; a reader refuses a file with another one, except `_FORMAT_1`."""

_FORMAT_1 = "nascluster-shard-1"
"""The format of files of earlier versions: the same, but for what the checksum covers."""

_NO_CHECKSUM = "0" * 64
"""What a file has instead of its checksum while that is computed."""


class SnapshotFile:
    """The files that one shard's state is written to and read from. `clock` is a monotonic clock in seconds."""

    def __init__(
        self, directory: Path, layout: Layout, index: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._layout = layout
        self._index = index
        self._clock = clock
        self._writes = 0
        self._entries: tuple[Mapping[str, int], str] = {}, ""  # the last tensors' sizes, and their part of the header
        identity = {"format": FORMAT, "run": layout.run, "fingerprint": layout.fingerprint, "shard": str(index)}
        self._identity = json.dumps(identity).removesuffix("}")  # how the metadata of every file begins
        self._last_write: tuple[float, float, int] | None = None  # when it ended, how many seconds it took, its bytes
        self.path = directory / f"shard-{index:03d}.safetensors"
        """The newest snapshot."""
        self.previous = directory / f"shard-{index:03d}.previous.safetensors"
        """The snapshot before it, which is valid whenever `path` is being replaced."""
        # As texts, as each write of a path by `pathlib` takes as long as that of its file's name by the system.
        self._directory, self._newest, self._before = map(str, (directory, self.path, self.previous))
        self._temporary = str(self.path.with_suffix(".tmp"))

    def write(self, state: ShardState) -> None:
        """Replace the newest snapshot. When this returns, the state survives a crash of the machine.

        Raises:
            OSError: the state may or may not be on disk; the snapshot from before is still readable.
        """
        started_at = self._clock()
        content = self.content(state)
        _write_durably(self._temporary, content)
        # A crash between the renames leaves no newest file; the previous one then has everything that was acked.
        with suppress(FileNotFoundError):
            os.replace(self._newest, self._before)
        os.replace(self._temporary, self._newest)
        sync_directory(self._directory)
        ended_at = self._clock()
        self._writes += 1
        self._last_write = ended_at, ended_at - started_at, sum(map(len, content))

    def with_write_counters(self, status: ShardStatus) -> ShardStatus:
        """Return the status with this process' number of writes and the figures of the last one, if there was one."""
        last_write = self._last_write
        if last_write is None:
            return status
        ended_at, seconds, size = last_write
        age = self._clock() - ended_at
        return replace(status, writes=self._writes, snapshot_age_s=age, snapshot_write_s=seconds, snapshot_bytes=size)

    def read_all(self) -> dict[Path, ShardState | CorruptSnapshot]:
        """Return the state in each existing file and journal, or a file's error. Change nothing.

        The newest file is the first. A journal's state is the newest that is whole, and may be older than the files'.

        Raises:
            WrongRun: a file belongs to another run, layout or shard.
            OSError: the directory cannot be read; the files may be valid.
        """
        states: dict[Path, ShardState | CorruptSnapshot] = {}
        for path in (self.path, self.previous):
            if path.exists():
                try:
                    states[path] = self._read(path)
                except CorruptSnapshot as error:
                    states[path] = error
        return states | self._journaled()

    def newest(self) -> ShardState | None:
        """Return the newest valid state without changing anything; `None` if nothing was ever written.

        Raises:
            WrongRun: a file belongs to another run, layout or shard.
            CorruptSnapshot: files exist, but none of them is valid.
            OSError: the directory cannot be read, or a shard has just replaced a file.
        """
        found = list(self.read_all().values())
        valid = [state for state in found if isinstance(state, ShardState)]
        for state in found if not valid else ():
            if isinstance(state, CorruptSnapshot):
                raise state
        return max(valid, key=_order, default=None)

    def load(self) -> tuple[ShardState, bool] | None:
        """Return the newest valid state and whether the newest file is not; `None` if nothing was ever written.

        A journal's state counts where it is newer than the files'.

        Set a corrupt newest file aside as `*.corrupt`, so that the next write does not replace the valid previous one
        with it.

        Raises:
            WrongRun: the file belongs to another run, layout or shard.
            CorruptSnapshot: files exist, but none of them is valid.
            OSError: the directory cannot be read; the files may be valid.
        """
        journaled = max(self._journaled().values(), key=_order, default=None)
        try:
            loaded = self._load_files()
        except CorruptSnapshot:
            if journaled is None:
                raise
            loaded = None
        if journaled is None or (loaded is not None and _order(loaded[0]) >= _order(journaled)):
            return loaded
        return journaled, loaded is None or loaded[1]

    def _load_files(self) -> tuple[ShardState, bool] | None:
        if not self.path.exists():
            # Either nothing was ever written, or a crash between the two renames of `write` lost nothing.
            return (self._read(self.previous), True) if self.previous.exists() else None
        try:
            return self._read(self.path), False
        except CorruptSnapshot as error:
            if not self.previous.exists():
                raise
            try:
                state = self._read(self.previous)
            except CorruptSnapshot as previous_error:
                raise CorruptSnapshot(f"{error}; and the previous one: {previous_error}") from previous_error
            _LOG.warning("%s; falling back to %s; clients will push again what it lacks", error, self.previous)
            set_aside(self.path)
            return state, True

    def _journaled(self) -> dict[Path, ShardState]:
        """Return the newest whole state that each journal has of this shard."""
        newest: dict[Path, ShardState] = {}
        for path in journals(self.path.parent):
            for content in records(path, self._index):
                with suppress(CorruptSnapshot):  # torn: it was not acked
                    state = self._parse(path, content)
                    newest[path] = max(newest.get(path, state), state, key=_order)
        return newest

    def _read(self, path: Path) -> ShardState:
        return self._parse(path, path.read_bytes())

    def _parse(self, path: Path, content: bytes) -> ShardState:
        try:
            tensors = safetensors.torch.load(content)
        except SafetensorError as error:
            raise CorruptSnapshot(f"{path} is not a complete safetensors file: {error}") from error
        data_at = 8 + int.from_bytes(content[:8], "little")
        header: dict[str, str] = json.loads(content[8:data_at]).get("__metadata__") or {}
        if header.get("format") not in (FORMAT, _FORMAT_1):
            raise CorruptSnapshot(f"{path} must have the format {FORMAT!r}, got {header.get('format')!r}")
        checksum = header.pop("checksum", "")
        head = content[:data_at].replace(checksum.encode(), _NO_CHECKSUM.encode(), 1)
        computed = (
            _digest(head, memoryview(content)[data_at:]) if header["format"] == FORMAT else _checksum_1(header, tensors)
        )
        if checksum != computed:
            raise CorruptSnapshot(f"{path} does not match its checksum")
        actual = header["run"], header["fingerprint"], header["shard"]
        expected = self._layout.run, self._layout.fingerprint, str(self._index)
        if actual != expected:
            raise WrongRun(
                f"{path} belongs to (run, layout, shard) {actual}, not to {expected}: each shard's files must be those"
                " that this run has written, under their original names"
            )
        return ShardState(tensors, json.loads(header["state"]))

    def content(self, state: ShardState) -> Content:
        """Return what `write` makes the file's content; may be called from several threads."""
        slices = as_slices(state.tensors)
        sizes, entries = self._entries  # read once, as another thread may replace it
        if sizes is not slices.sizes:
            entries = _entries(slices.sizes)
            self._entries = slices.sizes, entries
        metadata = f'{self._identity}, "state": {_LAST_TEXT.of(state.metadata)}, "checksum": "{_NO_CHECKSUM}"}}'
        header = f'{{"__metadata__":{metadata}{entries}}}'.encode()
        header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
        head = len(header).to_bytes(8, "little") + header
        data = slices.flat.numpy().astype("<f4", copy=False).data.cast("B")
        return [head.replace(_NO_CHECKSUM.encode(), _digest(head, data).encode(), 1), data]


def _write_durably(path: str, content: Content) -> None:
    """Write a file, and create its folder if there is none."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        file = os.open(path, flags, 0o666)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, flags, 0o666)
    try:
        for part in content:
            left = memoryview(part)
            while left:
                left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)


class _LastText:
    """Makes a shard's data a JSON string of JSON, once for all shards of a process that have the same.

    Those that take the same pushes mostly do, and with a hundred clients it takes longer than the arithmetic.
    """

    def __init__(self) -> None:
        self._last: tuple[Mapping[str, Any], str] = {}, '"{}"'

    def of(self, metadata: Mapping[str, Any]) -> str:
        """Return the text of a state's metadata, which must not change any more."""
        last, text = self._last
        if metadata != last:
            text = json.dumps(json.dumps(metadata))
            self._last = metadata, text
        return text


_LAST_TEXT = _LastText()


def _order(state: ShardState) -> tuple[int, int]:
    """Return a number that is larger for a later state of a shard; files of format 1 lack its second part."""
    return state.metadata.get("incarnation", 0), state.metadata.get("commits", 0)


def set_aside(path: Path) -> None:
    """Rename a corrupt file to `*.corrupt`, which no shard reads."""
    path.replace(path.with_suffix(CORRUPT))


def _entries(sizes: Mapping[str, int]) -> str:
    """Return the tensors' part of a safetensors header, with a comma before each entry."""
    entries, start = "", 0
    for name, size in sizes.items():
        offsets = [4 * start, 4 * (start + size)]
        entries += f",{json.dumps(name)}:" + json.dumps({"dtype": "F32", "shape": [size], "data_offsets": offsets})
        start += size
    return entries


def _digest(head: bytes, data: memoryview) -> str:
    digest = hashlib.sha256(head)
    digest.update(data)
    return digest.hexdigest()


def _checksum_1(header: dict[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(encode({name: tensors[name]}))
    return digest.hexdigest()
