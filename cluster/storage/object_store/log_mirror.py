"""Copies what a run logs and what its children print to an object store."""

from cluster.pool.output_files import FRESH, OUTPUTS, output_of
from cluster.storage.object_store.object_names import log_name
from cluster.storage.object_store.store import Storage
from cluster.storage.run_folder import RUN_LOG, RunFolder


class LogCopies:
    """The copies of one start. Nothing else depends on them, and a resume does not need them.

    Args:
        storage: the run's objects.
        folder: the run's files.
        start: the start's number.
    """

    def __init__(self, storage: Storage, folder: RunFolder, start: int) -> None:
        self._storage, self._log, self._start = storage, folder.path / RUN_LOG, start
        self._fresh = folder.path / OUTPUTS / FRESH
        self._version: tuple[int, int] | None = None  # of the log, as it was last written

    def round(self) -> None:
        """Write what is new; what fails is written by the next round.

        Raises:
            Exception: whatever the storage or the file system raises.
        """
        try:
            self._fresh.mkdir(parents=True, exist_ok=True)
        except OSError:  # a full disk: nothing is printed into it either, and the run's record can still be copied
            return
        links = {f"{OUTPUTS}/{output_of(link.name)}": link for link in self._fresh.iterdir() if link.name[0] != "."}
        if links:
            self._storage.write_all({name: link.read_bytes() for name, link in links.items()})
            for link in links.values():
                link.unlink(missing_ok=True)
        try:
            status = self._log.stat()
        except FileNotFoundError:  # it is just being put aside
            return
        version = status.st_ino, status.st_size
        if version != self._version:
            self._storage.write(log_name(self._start), self._log.read_bytes())
            self._version = version
