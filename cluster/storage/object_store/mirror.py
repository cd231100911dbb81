"""Copies a run's folder to an object store while the run is in progress, so that it survives the loss of the machine.

Each round reads the files first and then the ledger; it writes the ledger's changes first and then the files. So no
copy of a shard is ahead of the copy of the ledger, wherever a round is interrupted: a batch that a shard has applied
is in the ledger, and a batch that it has not is applied again. The first round of a start writes in the opposite
order: the base, without which a start cannot be resumed, is written when everything else is stored.

The weights of children go the other way: they are on disk before their child's outcome is recorded, so a round reads
them after the ledger and writes them before it; if some were removed meanwhile, it reads both again. They are removed
from the store only if they were gone before the ledger was read. So the store has all weights that its copy of the
ledger may need.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cluster.pool.child_weights import last_removal
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
from cluster.storage.object_store.store import Storage, reason
from cluster.storage.run_folder import RunFolder

MIRROR_INTERVAL_S = 2.0
"""Seconds between the starts of two rounds. The object store has all changes older than this and one round."""

MERGE_AFTER = 500
"""Number of segments at which they are merged into one, so that a run of weeks has few."""

NUM_KEPT = 2
"""Copies of a file that are kept."""

Version = tuple[int, int, int]
"""Identifies a version of a file: inode, time of modification in nanoseconds, size in bytes."""


class Mirror:
    """Carries out the rounds of one start.

    Args:
        storage: the run's objects.
        folder: the run's files.
        start: the start's number.
        check: called before anything is written; raises if another driver has taken over.
        merge_after: see `MERGE_AFTER`.
    """

    def __init__(
        self,
        storage: Storage,
        folder: RunFolder,
        start: int,
        check: Callable[[], object],
        merge_after: int = MERGE_AFTER,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._start = start
        self._check = check
        self._merge_after = merge_after
        self._number = 0
        self._upto: int | None = None  # the newest revision in the store; `None` before the base is written
        self._merged_upto = 0  # the newest revision in the base and the merged segments
        self._small: list[SegmentName] = []  # segments after that revision
        self._versions: dict[tuple[str, str], Version] = {}  # each file's version when it was last written
        self._copies: dict[tuple[str, str], list[FileName]] = {}
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
        present |= {(kind, path.name) for kind, path in self._child_weights()}
        # A shard's file is missing for a moment while it is replaced, but is never removed.
        gone = {key for key in self._copies if key not in present and key[0] not in (SHARDS, WEIGHTS)}
        first = self._upto is None
        # No name is used twice: a write that seemed to fail may arrive later, and must not replace anything.
        number, self._number = self._number, self._number + 1
        self._obsolete, self._unsure = self._obsolete + self._unsure, []
        if first:
            self._write_files(number, changed)
        name = SegmentName(self._start, number, first)
        segment, weights = self._read_ledger(self._upto)
        self._write_files(number, weights)
        if segment.rows or changed or weights or first:
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
        segment, weights = self._read_ledger(self._merged_upto)
        self._write_files(number, weights)
        self._write({str(SegmentName(self._start, number, False)): segment.content})
        self._obsolete += map(str, self._small)
        self._upto = self._merged_upto = segment.upto
        self._small = []

    def _write(self, contents: Mapping[str, bytes]) -> None:
        self._unsure += contents
        self._storage.write_all(contents)
        self._unsure = [name for name in self._unsure if name not in contents]

    def _clean(self) -> None:
        self._storage.remove(self._obsolete)
        self._obsolete = []

    def _read(
        self, files: Iterable[tuple[str, Path]]
    ) -> tuple[set[tuple[str, str]], dict[tuple[str, str], tuple[Version, bytes]]]:
        """Return which of these files exist, and the versions and contents of those that have changed."""
        present: set[tuple[str, str]] = set()
        changed: dict[tuple[str, str], tuple[Version, bytes]] = {}
        for kind, path in files:
            key = kind, path.name
            try:
                with path.open("rb") as file:  # an open file keeps its content when it is replaced
                    status = os.fstat(file.fileno())
                    version = status.st_ino, status.st_mtime_ns, status.st_size
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
            for path in folder.glob("shard-*.safetensors")
            if path.suffixes == [".safetensors"]
        ]
        checkpoints = [
            path
            for path in self._folder.checkpoints.glob("*")
            if path.suffix != ".tmp" and path.name[0] != "." and path.is_file()
        ]
        return sorted(shards) + [(CHECKPOINTS, path) for path in sorted(checkpoints)]

    def _read_ledger(self, after: int | None) -> tuple[Segment, dict[tuple[str, str], tuple[Version, bytes]]]:
        """Return the ledger's changes after a revision, and the new weights of children that have ended in it."""
        weights: dict[tuple[str, str], tuple[Version, bytes]] = {}
        while True:
            before = last_removal(self._folder.child_weights)
            segment = export(self._folder, after)
            weights |= self._read(self._child_weights())[1]
            if last_removal(self._folder.child_weights) == before:
                return segment, weights

    def _child_weights(self) -> list[tuple[str, Path]]:
        return [(CHILD_WEIGHTS, path) for path in sorted(self._folder.child_weights.glob("child-*.safetensors"))]

    def _write_files(self, number: int, changed: dict[tuple[str, str], tuple[Version, bytes]]) -> None:
        named = {key: FileName(self._start, number, *key) for key in changed}
        self._write({str(name): changed[key][1] for key, name in named.items()})
        for key, name in named.items():
            self._versions[key] = changed[key][0]
            copies = self._copies.setdefault(key, [])
            copies.append(name)
            self._obsolete += map(str, copies[:-NUM_KEPT])
            del copies[:-NUM_KEPT]


class MirrorThread:
    """Carries out the rounds until the run has ended, then a last one. Retries failed rounds without limit.

    Args:
        mirror: its first round is done.
        place: the run's URL, for people.
        is_lost: returns whether another driver has taken over.
        report: called once when writes begin to fail, and once when they work again.
        interval_s: see `MIRROR_INTERVAL_S`.
    """

    def __init__(
        self,
        mirror: Mirror,
        place: str,
        is_lost: Callable[[], bool],
        report: Callable[[str], object],
        interval_s: float = MIRROR_INTERVAL_S,
    ) -> None:
        self._mirror = mirror
        self._place = place
        self._is_lost = is_lost
        self._report = report
        self._interval_s = interval_s
        self._failing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def start(self) -> None:
        """Start the rounds."""
        self._thread.start()

    def finish(self) -> bool:
        """Write everything, after the run's last change, and return whether the object store has it.

        It does not if another driver has taken over, or after Ctrl-C while the object store is unavailable.
        """
        try:
            self._ended.set()
            self._thread.join()
            while not self._is_lost():
                if self._try():
                    return True
                time.sleep(self._interval_s)
        except KeyboardInterrupt:
            self._report(f"The end of the run was not written to {self._place}; it is on this machine only")
        return False

    def _run(self) -> None:
        # Not a `PeriodicThread`: rounds start at regular times, however long each of them takes.
        wait_s = self._interval_s
        while not self._ended.wait(wait_s) and not self._is_lost():
            began = time.monotonic()
            self._try()
            wait_s = max(0.0, self._interval_s - (time.monotonic() - began))

    def _try(self) -> bool:
        try:
            self._mirror.round()
        except Exception as error:
            if not self._failing and not self._is_lost():
                self._report(f"Writing to {self._place} failed and will be retried until it works: {reason(error)}")
            self._failing = True
            return False
        if self._failing:
            self._report(f"Writing to {self._place} works again; everything has been uploaded")
        self._failing = False
        return True
