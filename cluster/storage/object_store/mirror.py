"""Copies a run's folder to an object store while the run goes on, so that a machine may vanish with it.

In each round the files are read first, then the ledger; then the ledger's changes are written, then the files. So no
copy of a shard is ahead of the copy of the ledger, wherever a round breaks off: a batch that a shard has learnt from
is in the ledger, and one that it has not is learnt again. The first round of a start is the other way about: the
base, which makes a start one that can be resumed, is written when everything else is there.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.storage.object_store.ledger_segments import export
from cluster.storage.object_store.log_mirror import LogCopies
from cluster.storage.object_store.object_names import CHECKPOINTS, SHARDS, FileName, SegmentName, older
from cluster.storage.object_store.store import Storage, reason
from cluster.storage.run_folder import RunFolder

INTERVAL_S = 2.0
"""Seconds between the beginnings of two rounds; what is older than this and a round is in the object store."""

MERGE_AFTER = 500
"""Segments that are written as one when there are so many, so that their number stays small in a run of weeks."""

KEPT = 2
"""Copies of a file that are kept."""

Version = tuple[int, int, int]
"""What tells one version of a file from another."""


class Mirror:
    """The rounds of one start.

    Args:
        storage: the run's objects.
        folder: the run's files.
        start: the start's number.
        check: raises where another driver has taken over; asked before anything is written.
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
        self._upto: int | None = None  # the newest revision that is written; `None` before the base is
        self._merged_upto = 0  # the same of the base and of all merged segments
        self._small: list[SegmentName] = []  # segments since then
        self._versions: dict[tuple[str, str], Version] = {}  # of each file, as it was last written
        self._copies: dict[tuple[str, str], list[FileName]] = {}
        self._logs = LogCopies(storage, folder, start)
        self._unsure: list[str] = []  # objects whose writing has failed, or seemed to
        self._obsolete: list[str] = []

    def round(self) -> None:
        """Write what has changed. A round that fails is made good by the next.

        Raises:
            TakenOver: by `check`.
            Exception: whatever the storage or the file system raises.
        """
        self._check()
        present, changed = self._read_files()
        gone = self._copies.keys() - present
        first = self._upto is None
        # A name is never used twice: what a write that seemed to fail brings later must not replace anything.
        number, self._number = self._number, self._number + 1
        self._obsolete, self._unsure = self._obsolete + self._unsure, []
        if first:
            self._write_files(number, changed)
        name = SegmentName(self._start, number, first)
        segment = export(self._folder, self._upto)
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
        self._logs.round()  # last: what it cannot write holds up nothing that a resume needs

    def _merge(self) -> None:
        """Write the rows of all small segments once more, in one."""
        number, self._number = self._number, self._number + 1
        segment = export(self._folder, self._merged_upto)
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

    def _read_files(self) -> tuple[set[tuple[str, str]], dict[tuple[str, str], tuple[Version, bytes]]]:
        """The files that are there, and the versions and contents of those that have changed."""
        present: set[tuple[str, str]] = set()
        changed: dict[tuple[str, str], tuple[Version, bytes]] = {}
        for kind, path in self._files():
            key = kind, path.name
            try:
                with path.open("rb") as file:  # open files stay as they are when they are replaced
                    status = os.fstat(file.fileno())
                    version = status.st_ino, status.st_mtime_ns, status.st_size
                    if version != self._versions.get(key):
                        changed[key] = version, file.read()
            except FileNotFoundError:
                continue
            present.add(key)
        # A shard's file is away for a moment when it is replaced, but never for good.
        return present | {key for key in self._copies if key[0] == SHARDS}, changed

    def _files(self) -> list[tuple[str, Path]]:
        shards = [path for path in self._folder.shards.glob("shard-*.safetensors") if path.suffixes == [".safetensors"]]
        checkpoints = [
            path
            for path in self._folder.checkpoints.glob("*")
            if path.suffix != ".tmp" and path.name[0] != "." and path.is_file()
        ]
        return [(SHARDS, path) for path in sorted(shards)] + [(CHECKPOINTS, path) for path in sorted(checkpoints)]

    def _write_files(self, number: int, changed: dict[tuple[str, str], tuple[Version, bytes]]) -> None:
        named = {key: FileName(self._start, number, *key) for key in changed}
        self._write({str(name): changed[key][1] for key, name in named.items()})
        for key, name in named.items():
            self._versions[key] = changed[key][0]
            copies = self._copies.setdefault(key, [])
            copies.append(name)
            self._obsolete += map(str, copies[:-KEPT])
            del copies[:-KEPT]


class MirrorThread:
    """Does the rounds until the run has ended, and a last one then. What fails is tried again, for ever.

    Args:
        mirror: whose first round is done.
        place: where it writes to, for people.
        taken: whether another driver has taken over.
        say: told once when writing begins to fail, and once when it works again.
        interval_s: see `INTERVAL_S`.
    """

    def __init__(
        self,
        mirror: Mirror,
        place: str,
        taken: Callable[[], bool],
        say: Callable[[str], object],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._mirror = mirror
        self._place = place
        self._taken = taken
        self._say = say
        self._interval_s = interval_s
        self._failing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="mirror", daemon=True)

    def start(self) -> None:
        """Begin with the rounds."""
        self._thread.start()

    def finish(self) -> bool:
        """Write all that there is when nothing changes any more, and say whether that was done.

        It was not if another driver has taken over, or if Ctrl-C broke it off while the object store was away.
        """
        try:
            self._ended.set()
            self._thread.join()
            while not self._taken():
                if self._try():
                    return True
                time.sleep(self._interval_s)
        except KeyboardInterrupt:
            self._say(f"The end of the run is not in {self._place}; this machine has it")
        return False

    def _go_on(self) -> None:
        wait_s = self._interval_s
        while not self._ended.wait(wait_s) and not self._taken():
            began = time.monotonic()
            self._try()
            wait_s = max(0.0, self._interval_s - (time.monotonic() - began))

    def _try(self) -> bool:
        try:
            self._mirror.round()
        except Exception as error:
            if not self._failing and not self._taken():
                self._say(
                    f"{self._place} cannot be written, and is tried again for as long as it takes: {reason(error)}"
                )
            self._failing = True
            return False
        if self._failing:
            self._say(f"{self._place} is written again, and has all that there is")
        self._failing = False
        return True
