"""The one folder that holds everything a run knows."""

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cluster.config.run_config import DEFAULT_STORAGE, RunConfig
from cluster.storage.errors import RunFolderError
from cluster.storage.locks import WRITERS, lock

RUN_LOG = "run.log"

MAX_NAME_LENGTH = 100
"""Characters of a run's name; temporary names are a little longer, and file systems take 255 bytes."""

READER_S = 2.0
"""For how long a reader that asks whether a run is held may seem to hold it."""

WRITERS_S = 60.0
"""In which time the processes of a driver that was killed, or of a run that has ended, must be gone."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run's files are.

    Attributes:
        path: `<storage_path>/<name>`, absolute; of a run in an object store its working copy on this machine.
        url: the storage path of a run in an object store.
        alive: whether a driver holds the run, where the object store has told; `None`: the folder's lock tells.
    """

    path: Path
    url: str | None = None
    alive: bool | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    def identity(self, config: RunConfig) -> str:
        """The name that the run's shards have written into their files: the launch's, whatever the folder is called."""
        return config.name or self.name

    @property
    def place(self) -> str:
        """Where everything is, for people."""
        return f"{self.url.rstrip('/')}/{self.name}" if self.url else str(self.path)

    @property
    def config(self) -> Path:
        """The configuration, JSON."""
        return self.path / "config.json"

    @property
    def ledger(self) -> Path:
        """The ledger, SQLite."""
        return self.path / "ledger.sqlite"

    def had_begun(self) -> bool:
        """Whether the ledger must know of a start, which it does before what is looked for here is written."""
        return self.ledger.with_suffix(BEGUN).exists() or any(self.shards.glob("shard-*.safetensors"))

    @property
    def shards(self) -> Path:
        """The shards' snapshots."""
        return self.path / "shards"

    @property
    def checkpoints(self) -> Path:
        """What the children in training have saved to go on from."""
        return self.path / "checkpoints"

    def ask_to_stop(self) -> None:
        """Ask whoever runs the run to stop it once nothing is in training."""
        (self.path / STOP).touch()

    def stop_asked(self) -> bool:
        """Whether somebody has asked."""
        return (self.path / STOP).exists()

    def command(self, verb: str) -> str:
        """The command line that does something with this run, from any folder: `nascluster resume NAME ...`."""
        usual = Path(DEFAULT_STORAGE).expanduser().absolute()
        elsewhere = self.url or (None if self.path.parent == usual else str(self.path.parent))
        where = f" --storage-path {shlex.quote(elsewhere)}" if elsewhere else ""
        return f"nascluster {verb} {shlex.quote(self.name)}{where}"

    def begin_anew(self) -> None:
        """Forget that somebody asked a driver before this one to stop."""
        (self.path / STOP).unlink(missing_ok=True)

    @property
    def error(self) -> Path:
        """What the last start of a run that failed had to say, whole."""
        return self.path / "error.txt"

    @property
    def session(self) -> Path:
        """Where its Ray is, JSON; see `cluster.storage.session.Session`."""
        return self.path / "session.json"

    def check_name(self) -> None:
        """Raise `RunFolderError` if the run has a name that cannot be."""
        if len(self.name) > MAX_NAME_LENGTH or not self.name.isprintable():
            raise RunFolderError(f"`name` must be up to {MAX_NAME_LENGTH} printable characters, got {self.name!r}")

    def check_absent(self) -> None:
        """Raise `RunFolderError` if the folder exists."""
        if self.path.exists():
            raise RunFolderError(
                f"a run named {self.name!r} exists in {self.path.parent}: resume it with"
                f" `{self.command('resume')}`, choose another --name, or remove the folder {self.path}"
            )

    def create(self, config: RunConfig) -> None:
        """Make the folder with its configuration; it appears whole or not at all.

        Raises:
            RunFolderError: it exists, or it cannot be made.
        """
        draft = self.path.parent / f".{self.name}.{os.getpid()}"
        try:
            draft.mkdir(parents=True)
            (draft / "config.json").write_text(json.dumps(config.to_json(), indent=2) + "\n")
            draft.rename(self.path)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if self.url is None:
                self.check_absent()
            raise RunFolderError(f"the run's folder {self.path} cannot be made: {error.strerror}") from error

    def read_config(self) -> RunConfig:
        """The configuration that the run was launched with.

        Raises:
            RunFolderError: the file is damaged.
        """
        try:
            data = json.loads(self.config.read_text())
            if not isinstance(data, dict):
                raise ValueError(f"it must hold a JSON object, and holds a {type(data).__name__}")
            return RunConfig.from_json(data)
        except (ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(f"{self.config} is damaged: {error}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other driver out while the block lasts; the lock ends with the process, however it ends.

        Raises:
            RunFolderError: another driver holds the run, or writers of one that was killed do not go away.
        """
        with open(self.path / "driver.lock", "w") as file:
            if not lock(file, READER_S):
                raise RunFolderError(f"the run {self.name!r} is running; `{self.command('status')}` shows it")
            # A killed driver's actors live a little longer; what they write must not mix with what is to come.
            writers = self.without_writers(WRITERS_S)
            if writers is None:
                raise RunFolderError(f"processes of an earlier start of the run {self.name!r} still write to it")
            writers.close()
            yield

    def without_writers(self, patience_s: float) -> IO[str] | None:
        """Wait until no process writes into the folder, and keep it so until the file is closed.

        See `cluster.storage.locks.writing`; `None` if some still do after so many seconds.
        """
        file = open(self.path / WRITERS, "w")  # noqa: SIM115 - the lock is to outlive this method
        locked = False
        try:
            locked = lock(file, patience_s)
        finally:
            if not locked:
                file.close()
        return file if locked else None

    def is_held(self) -> bool:
        """Whether a driver holds the run now."""
        if self.alive is not None:
            return self.alive
        try:
            with open(self.path / "driver.lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def mark_begun(ledger: Path) -> None:
    """Leave word beside a ledger that it has recorded a start; one in memory has no place for it."""
    if not ledger.exists():
        return
    with suppress(OSError):  # without it a ledger that vanishes later may go unnoticed, and nothing else is wrong
        ledger.with_suffix(BEGUN).touch()


BEGUN = ".begun"
"""What the name of the file ends in that says of a ledger that it has recorded a start."""

STOP = "stop"
"""The file whose being there asks the driver to stop."""
