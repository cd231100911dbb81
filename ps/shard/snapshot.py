"""A shard's state as a safetensors file that is either whole or not there, with the one before it kept beside.

The files of shard 3 are `shard-003.safetensors` and `shard-003.previous.safetensors`. Run, layout fingerprint, the
shard's JSON data and a checksum over everything lie in the safetensors metadata.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ps.codec import encode
from ps.errors import CorruptSnapshot, WrongRun
from ps.identifiers import CORRUPT
from ps.shard.messages import ShardState
from ps.status import ShardStatus
from ps.store import Layout

_LOG = logging.getLogger(__name__)

FORMAT = "nascluster-shard-1"
"""Names the meaning of the file; a reader that does not know it refuses the file."""


class SnapshotFile:
    """Where one shard's state is written to and read from. `clock` gives seconds that never go back."""

    def __init__(
        self, directory: Path, layout: Layout, index: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._layout = layout
        self._index = index
        self._clock = clock
        self._writes = 0
        self._last: tuple[float, float, int] | None = None  # the last write: when it ended, its seconds and bytes
        self.path = directory / f"shard-{index:03d}.safetensors"
        """The newest snapshot."""
        self.previous = directory / f"shard-{index:03d}.previous.safetensors"
        """The one before it: good whenever `path` is being replaced."""

    def write(self, state: ShardState) -> None:
        """Replace the newest snapshot; when this returns, it survives a crash of the machine.

        Raises:
            OSError: it may or may not be on disk, but what was on disk before can still be read.
        """
        begun = self._clock()
        header = {
            "format": FORMAT,
            "run": self._layout.run,
            "fingerprint": self._layout.fingerprint,
            "shard": str(self._index),
            "state": json.dumps(state.metadata),
        }
        content = safetensors.torch.save(state.tensors, header | {"checksum": _checksum(header, state.tensors)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A crash between the renames leaves no newest file; the previous one then holds all that was ever acked.
        if self.path.exists():
            self.path.replace(self.previous)
        temporary.replace(self.path)
        _sync_directory(self.path.parent)
        ended = self._clock()
        self._writes += 1
        self._last = ended, ended - begun, len(content)

    def tell(self, status: ShardStatus) -> ShardStatus:
        """The status with the number of writes of this process, and the figures of the last, if there was one."""
        last = self._last
        if last is None:
            return status
        ended, seconds, size = last
        age = self._clock() - ended
        return replace(status, writes=self._writes, snapshot_age_s=age, snapshot_write_s=seconds, snapshot_bytes=size)

    def look(self) -> dict[Path, ShardState | CorruptSnapshot]:
        """What each of the files that are there holds, the newest first. Changes nothing.

        Raises:
            WrongRun: a file belongs to another run, layout or shard.
            OSError: the directory cannot be read, which says nothing about the files.
        """
        found: dict[Path, ShardState | CorruptSnapshot] = {}
        for path in (self.path, self.previous):
            if path.exists():
                try:
                    found[path] = self._read(path)
                except CorruptSnapshot as error:
                    found[path] = error
        return found

    def load(self) -> tuple[ShardState, bool] | None:
        """The newest readable state and whether it is only the previous one, or `None` if none was ever written.

        A corrupt newest file is set aside as `*.corrupt`, so that it does not replace the good previous one at the
        next write.

        Raises:
            WrongRun: the file belongs to another run, layout or shard.
            CorruptSnapshot: files exist, but none of them can be read.
            OSError: the directory cannot be read, which says nothing about the files.
        """
        if not self.path.exists():
            # Either nothing was ever written, or a crash came between the two renames of `write` and cost nothing.
            return (self._read(self.previous), True) if self.previous.exists() else None
        try:
            return self._read(self.path), False
        except CorruptSnapshot as error:
            if not self.previous.exists():
                raise
            try:
                state = self._read(self.previous)
            except CorruptSnapshot as before:
                raise CorruptSnapshot(f"{error}; and the one before it: {before}") from before
            _LOG.warning("%s; falling back to %s, for clients to push again what it lacks", error, self.previous)
            set_aside(self.path)
            return state, True

    def _read(self, path: Path) -> ShardState:
        try:
            with safe_open(path, framework="pt") as file:
                header: dict[str, str] = file.metadata() or {}
                # Clones: what `get_tensor` gives may still be mapped to the file.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CorruptSnapshot(f"{path} is no whole safetensors file: {error}") from error
        if header.get("format") != FORMAT:
            raise CorruptSnapshot(f"{path} must have the format {FORMAT!r}, got {header.get('format')!r}")
        if header.pop("checksum", None) != _checksum(header, tensors):
            raise CorruptSnapshot(f"{path} does not match its checksum")
        found = header["run"], header["fingerprint"], header["shard"]
        expected = self._layout.run, self._layout.fingerprint, str(self._index)
        if found != expected:
            raise WrongRun(
                f"{path} belongs to (run, layout, shard) {found}, not to {expected}: each shard's files must be those"
                " that this run has written, under the names that it gave them"
            )
        return ShardState(tensors, json.loads(header["state"]))


def set_aside(path: Path) -> None:
    """Keep a corrupt file under a name by which no shard looks for it: `*.corrupt`."""
    path.replace(path.with_suffix(CORRUPT))


def _checksum(header: dict[str, str], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(encode({name: tensors[name]}))
    return digest.hexdigest()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
