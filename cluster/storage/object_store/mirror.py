"""Copies a run's folder to an object store while the run is in progress, so that it survives the loss of the machine.

Each round reads the files first and then the ledger; it writes the ledger's changes first and then the files. So no
copy of a shard is ahead of the copy of the ledger, wherever a round is interrupted: a batch that a shard has applied
is in the ledger, and a batch that it has not is applied again. The first round of a start writes in the opposite
order: the base, without which a start cannot be resumed, is written when everything else is stored.

The weights of children go the other way: they are on disk before their child's outcome is recorded, so a round opens
their files after it has read the ledger, and writes them before it; if some were removed meanwhile, it reads the ledger
again. An open file keeps its content, so the search may go on while large ones are written, part by part. Only those
are written that a child may still begin with, and only those are removed of which that is no longer true. So the store
has all weights that its copy of the ledger may need.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cluster.pool.child_weights import child_of, last_removal
from cluster.storage.object_store.ledger_segments import Segment, export
from cluster.storage.object_store.log_mirror import LogMirror
from cluster.storage.object_store.object_names import (
    CHECKPOINTS,
    CHILD_WEIGHTS,
    SHARDS,
    WEIGHTS,
    FileName,
    SegmentName,
    older,
)
from cluster.storage.object_store.store import Storage
from cluster.storage.run_folder import RunFolder

MERGE_AFTER = 500
"""Number of segments at which they are merged into one, so that a run of weeks has few."""

NUM_KEPT = 2
"""Copies of a file that are kept."""

MAX_OPEN = 100
"""Files of weights that are open at the same time: a process may often have no more than 1,024 in all."""

Key = tuple[str, str]
"""A file's folder in the object store, and its name."""

Version = tuple[int, int, int]
"""Identifies a version of a file: inode, time of modification in nanoseconds, size in bytes."""


class Mirror:
    """Carries out the rounds of one start.

    Args:
        storage: the run's objects.
        folder: the run's files.
        start: the start's number.
        check: called before anything is written; raises if another driver has taken over.
        unneeded: returns children whose weights no child begins with any more, by the ledger as it is; it may also name
            children without weights. A child that it names once stays one.
        merge_after: see `MERGE_AFTER`.
    """

    def __init__(
        self,
        storage: Storage,
        folder: RunFolder,
        start: int,
        check: Callable[[], object],
        unneeded: Callable[[], frozenset[int]] = frozenset,
        *,
        merge_after: int = MERGE_AFTER,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._start = start
        self._check = check
        self._find_unneeded = unneeded
        self._merge_after = merge_after
        self._number = 0
        self._upto: int | None = None  # the newest revision in the store; `None` before the base is written
        self._merged_upto = 0  # the newest revision in the base and the merged segments
        self._small: list[SegmentName] = []  # segments after that revision
        self._versions: dict[Key, Version] = {}  # each file's version when it was last written
        self._copies: dict[Key, list[FileName]] = {}
        self._unneeded: frozenset[int] = frozenset()  # of the children whose weights were looked at so far
        self._logs = LogMirror(storage, folder, start)
        self._unsure: list[str] = []  # objects whose writes failed, or seemed to
        self._obsolete: list[str] = []

    def round(self) -> None:
        """Write what has changed. The next round writes what a failed round did not.

        Raises:
            LeaseLost: raised by `check`.
            Exception: whatever the storage or the file system raises.
        """
        self._check()
        present, changed = self._read(self._files())
        gone = self._gone(present)
        first = self._upto is None
        # No name is used twice: a write that seemed to fail may arrive later, and must not replace anything.
        number, self._number = self._number, self._number + 1
        self._obsolete, self._unsure = self._obsolete + self._unsure, []
        if first:
            self._write_files(number, changed)
        name = SegmentName(self._start, number, first)
        segment = self._read_ledger(number, self._upto)
        if segment.rows or changed or first:
            self._write({str(name): segment.content})
            self._upto = segment.upto
            self._small.append(name)
        if first:
            self._small, self._merged_upto = [], segment.upto
            self._obsolete += older(self._storage.names(), self._start)
        else:
            self._write_files(number, changed)
        for key in gone:
            self._obsolete += map(str, self._copies.pop(key))
            self._versions.pop(key, None)
        if len(self._small) >= self._merge_after:
            self._merge()
        self._clean()
        self._logs.round()  # last, so that its errors delay nothing that a resume needs

    def _merge(self) -> None:
        """Write the rows of all small segments again, as one segment, after the weights of what has ended since."""
        number, self._number = self._number, self._number + 1
        segment = self._read_ledger(number, self._merged_upto)
        self._write({str(SegmentName(self._start, number, False)): segment.content})
        self._obsolete += map(str, self._small)
        self._upto = self._merged_upto = segment.upto
        self._small = []

    def _write(self, contents: Mapping[str, bytes]) -> None:
        with self._writing(contents):
            self._storage.write_all(contents)

    @contextmanager
    def _writing(self, names: Collection[str]) -> Iterator[None]:
        """Remember that objects of these names may exist, if the block fails."""
        self._unsure += names
        yield
        self._unsure = [name for name in self._unsure if name not in names]

    def _clean(self) -> None:
        self._storage.remove(self._obsolete)
        self._obsolete = []

    def _read(self, files: Iterable[tuple[str, Path]]) -> tuple[set[Key], dict[Key, tuple[Version, bytes]]]:
        """Return which of these files exist, and the versions and contents of those that have changed."""
        present: set[Key] = set()
        changed: dict[Key, tuple[Version, bytes]] = {}
        for kind, path in files:
            key = kind, path.name
            try:
                with path.open("rb") as file:  # an open file keeps its content when it is replaced
                    version = _version(os.fstat(file.fileno()))
                    if version != self._versions.get(key):
                        changed[key] = version, file.read()
            except FileNotFoundError:
                continue
            present.add(key)
        return present, changed

    def _files(self) -> list[tuple[str, Path]]:
        shards = [
            (kind, path)
            for kind, folder in ((SHARDS, self._folder.shards), (WEIGHTS, self._folder.weights))
            for path in folder.glob("shard-*")
            if path.suffixes in ([".safetensors"], [".order"])
        ]
        checkpoints = [
            path
            for path in self._folder.checkpoints.glob("*")
            if path.suffix != ".tmp" and path.name[0] != "." and path.is_file()
        ]
        # A log after its snapshot, so that it has at least as much.
        in_order = sorted(shards, key=lambda one: (one[1].suffix == ".order", one))
        return in_order + [(CHECKPOINTS, path) for path in sorted(checkpoints)]

    def _gone(self, present: set[Key]) -> list[Key]:
        """Return the files whose objects must be removed once the ledger as it will be read is in the store.

        A file of weights that is missing and that a child may still need was lost: then its object is the last copy.

        Args:
            present: the files that are there, but for the weights of children.
        """
        weights = {(CHILD_WEIGHTS, path.name) for path in self._child_weights()}
        missing = [key for key in self._copies if key not in present and key not in weights]
        unneeded = self._unneeded_of(child_of(name) for kind, name in missing if kind == CHILD_WEIGHTS)
        # A shard's file is missing for a moment while it is replaced, but is never removed.
        return [
            (kind, name)
            for kind, name in missing
            if kind == CHECKPOINTS or (kind == CHILD_WEIGHTS and child_of(name) in unneeded)
        ]

    def _read_ledger(self, number: int, after: int | None) -> Segment:
        """Return the ledger's changes after a revision, once the store has the weights that they may need."""
        while True:
            before = last_removal(self._folder.child_weights)
            new = self._new_weights()
            unneeded = self._unneeded_of(child_of(path.name) for path in new)
            segment = export(self._folder, after)
            # Children that have ended in between are not known to be unneeded: their weights are written, too.
            new = [path for path in self._new_weights() if child_of(path.name) not in unneeded]
            with ExitStack() as held:
                files = [(path, _opened(path, held)) for path in new[:MAX_OPEN]]
                unchanged = last_removal(self._folder.child_weights) == before
                if unchanged or len(new) > MAX_OPEN:
                    for path, file in files:
                        if file is not None:
                            self._write_weights(number, path.name, file)
            if unchanged and len(new) <= MAX_OPEN:
                return segment

    def _unneeded_of(self, children: Iterable[int | None]) -> frozenset[int]:
        """Return which children's weights are not needed; what is not known of these is read from the ledger."""
        if not self._unneeded.issuperset(child for child in children if child is not None):
            self._unneeded = self._find_unneeded()
        return self._unneeded

    def _new_weights(self) -> list[Path]:
        """Return the files of weights whose present version is not in the store."""
        new = []
        for path in self._child_weights():
            with suppress(FileNotFoundError):
                if _version(path.stat()) != self._versions.get((CHILD_WEIGHTS, path.name)):
                    new.append(path)
        return new

    def _child_weights(self) -> list[Path]:
        return sorted(self._folder.child_weights.glob("child-*.safetensors"))

    def _write_weights(self, number: int, name: str, file: BinaryIO) -> None:
        """Write one file of weights, which later rounds need not write again."""
        key = CHILD_WEIGHTS, name
        copy = FileName(self._start, number, *key)
        with self._writing([str(copy)]):
            self._storage.write_file(str(copy), file)
        self._written(key, _version(os.fstat(file.fileno())), copy)

    def _write_files(self, number: int, changed: dict[Key, tuple[Version, bytes]]) -> None:
        named = {key: FileName(self._start, number, *key) for key in changed}
        self._write({str(name): changed[key][1] for key, name in named.items()})
        for key, name in named.items():
            self._written(key, changed[key][0], name)

    def _written(self, key: Key, version: Version, copy: FileName) -> None:
        self._versions[key] = version
        copies = self._copies.setdefault(key, [])
        copies.append(copy)
        self._obsolete += map(str, copies[:-NUM_KEPT])
        del copies[:-NUM_KEPT]


def _version(status: os.stat_result) -> Version:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _opened(path: Path, held: ExitStack) -> BinaryIO | None:
    """Open a file until the stack ends; return `None` if it is not there any more."""
    try:
        return held.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None
