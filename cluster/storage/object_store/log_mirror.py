"""Copies a run's log and the output of its children to an object store."""

from cluster.pool.output_files import FRESH, OUTPUTS, output_of
from cluster.storage.object_store.object_names import log_name
from cluster.storage.object_store.store import Storage
from cluster.storage.run_folder import RUN_LOG, RunFolder


class LogMirror:
    """Copies the logs of one start. Nothing else depends on the copies, and a resume does not need them.

    Args:
        storage: the run's objects.
        folder: the run's files.
        start: the start's number.
    """

    def __init__(self, storage: Storage, folder: RunFolder, start: int) -> None:
        self._storage, self._log, self._start = storage, folder.path / RUN_LOG, start
        self._fresh = folder.path / OUTPUTS / FRESH
        self._version: tuple[int, int] | None = None  # the log's inode and size when it was last written

    def round(self) -> None:
        """Write what is new; the next round writes what fails.

        Raises:
            Exception: whatever the storage or the file system raises.
        """
        try:
            self._fresh.mkdir(parents=True, exist_ok=True)
        except OSError:  # the disk is full: there is no new output either, and the ledger can still be copied
            return
        links = {f"{OUTPUTS}/{output_of(link.name)}": link for link in self._fresh.iterdir() if link.name[0] != "."}
        if links:
            self._storage.write_all({name: link.read_bytes() for name, link in links.items()})
            for link in links.values():
                link.unlink(missing_ok=True)
        try:
            status = self._log.stat()
        except FileNotFoundError:  # it is being rotated
            return
        version = status.st_ino, status.st_size
        if version != self._version:
            self._storage.write(log_name(self._start), self._log.read_bytes())
            self._version = version
