"""A run's folder: the names of its files, its configuration and its locks."""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from child_trainer.atomic_file import replace_file
from cluster.config.known_config import KnownConfig, is_configuration, known_config, unknown_text
from cluster.config.run_config import DEFAULT_STORAGE, RunConfig
from cluster.storage.errors import RunFolderError
from cluster.storage.locks import WRITERS, exclusive_within, is_locked
from controller.spaces.listed import ListedSpace

RUN_LOG = "run.log"
"""The file of the run's log."""

LIMITS = ("max_children", "ceilings")
"""The options at which a search ends, which a resume may change."""

LIST = ("space_options", "searcher_options")
"""The options of a run of given architectures which have these; later ones are added."""

DRIVER = "driver.lock"
"""The file on which a run's driver holds an exclusive lock."""

MAX_NAME_LENGTH = 100
"""Characters of a run's name; temporary names are a little longer, and file systems allow 255 bytes."""

READER_TIMEOUT_S = 2.0
"""Seconds to wait for a lock that a reader may hold for a moment while it checks whether a driver holds the run."""

WRITERS_TIMEOUT_S = 60.0
"""Seconds within which the processes of a killed driver, or of a run that has ended, must end."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run's files are.

    Attributes:
        path: `<storage_path>/<name>`, absolute; for a run in an object store, its working copy on this machine.
        url: the storage path of a run in an object store.
        alive: whether a driver holds the run, as read from the object store; `None`: the folder's lock decides.
        first_files: writes what a new folder has besides its configuration, into a draft of it; `None`: nothing.
    """

    path: Path
    url: str | None = None
    alive: bool | None = None
    first_files: Callable[["RunFolder"], object] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    def identity(self, config: RunConfig) -> str:
        """Return the name in the shards' files: the name at launch, even if the folder was renamed since."""
        return config.name or self.name

    @property
    def place(self) -> str:
        """The path or URL that holds the run, for people."""
        return f"{self.url.rstrip('/')}/{self.name}" if self.url else str(self.path)

    @property
    def config(self) -> Path:
        """The file of the configuration, JSON."""
        return self.path / "config.json"

    @property
    def ledger(self) -> Path:
        """The file of the ledger, SQLite."""
        return self.path / "ledger.sqlite"

    def had_begun(self) -> bool:
        """Return whether the ledger must have a start: it records one before any of these files is written."""
        files = (file for folder in (self.shards, self.weights) for file in folder.glob("shard-*.safetensors"))
        return self.ledger.with_suffix(BEGUN).exists() or any(files)

    def is_run(self) -> bool:
        """Return whether the folder is that of a run, which may be damaged; a link to one is one.

        Raises:
            OSError: a file that would tell cannot be read.
        """
        if self.ledger.exists() or self.had_begun():
            return True
        return self.config.is_file() and is_configuration(self.config.read_bytes())

    @property
    def shards(self) -> Path:
        """The folder of the shards' snapshots."""
        return self.path / "shards"

    @property
    def weights(self) -> Path:
        """The folder of the snapshots of the shards with the weights that children share."""
        return self.path / "weights"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints of children in training."""
        return self.path / "checkpoints"

    @property
    def child_weights(self) -> Path:
        """The folder of the weights of trained children from which others may begin."""
        return self.path / "child-weights"

    def request_stop(self) -> None:
        """Request that the driver stop the run once no child is in training."""
        (self.path / STOP).touch()

    def stop_requested(self) -> bool:
        """Return whether a stop was requested."""
        return os.path.exists(os.path.join(self.path, STOP))  # asked in every turn of a search of a table

    def command(self, verb: str) -> str:
        """Return the command line that applies a command to this run, from any folder: `nascluster resume NAME ...`."""
        usual = Path(DEFAULT_STORAGE).expanduser().absolute()
        elsewhere = self.url or (None if self.path.parent == usual else str(self.path.parent))
        where = f" --storage-path {shlex.quote(elsewhere)}" if elsewhere else ""
        return f"nascluster {verb} {shlex.quote(self.name)}{where}"

    def clear_stop_request(self) -> None:
        """Remove a request to stop that was meant for an earlier driver."""
        (self.path / STOP).unlink(missing_ok=True)

    @property
    def error(self) -> Path:
        """The file of the full error with which the last start failed."""
        return self.path / "error.txt"

    @property
    def starting(self) -> Path:
        """The file next to the folder that a launch holds locked until the folder exists."""
        return self.path.parent / f".{self.name}.starting"

    def is_starting(self) -> bool:
        """Return whether a launch on this machine is starting the run now."""
        try:
            return is_locked(self.starting)
        except OSError:
            return False

    @property
    def estimate(self) -> Path:
        """The file with the estimate of a child's seconds from before the search, JSON; a run may have none."""
        return self.path / "estimate.json"

    @property
    def session(self) -> Path:
        """The file that says where the run's Ray is, JSON; see `cluster.storage.session.Session`."""
        return self.path / "session.json"

    def check_name(self) -> None:
        """Raise `RunFolderError` if the run's name is invalid."""
        if len(self.name) > MAX_NAME_LENGTH or not self.name.isprintable():
            raise RunFolderError(f"`name` must be up to {MAX_NAME_LENGTH} printable characters, got {self.name!r}")

    def check_absent(self) -> None:
        """Raise `RunFolderError` if the folder exists, or anything else in its place."""
        if self.path.exists():
            with suppress(OSError):  # one that cannot be read may be a run
                if not self.is_run():
                    raise RunFolderError(
                        f"{self.path} exists and is no run: choose another --name, or another --storage-path"
                    )
            raise RunFolderError(
                f"a run named {self.name!r} exists in {self.path.parent}: resume it with"
                f" `{self.command('resume')}`, choose another --name, or remove it with `{self.command('remove')}`"
            )

    def create(self, config: RunConfig) -> None:
        """Create the folder with its configuration and its first files, atomically.

        Raises:
            RunFolderError: it exists, or it cannot be created.
        """
        draft = self.path.parent / f".{self.name}.{os.getpid()}"
        try:
            draft.mkdir(parents=True)
            (draft / "config.json").write_text(json.dumps(config.to_json(), indent=2) + "\n")
            if self.first_files:
                self.first_files(replace(self, path=draft))
            draft.rename(self.path)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if self.url is None:
                self.check_absent()
            raise RunFolderError(f"the run's folder {self.path} cannot be created: {error.strerror}") from error
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def change_limits(self, config: RunConfig) -> bytes | None:
        """Set the limits at which the search ends; return the configuration file's new text, `None` if they are set.

        A run that evaluates given architectures takes more of them likewise. All else in the file stays, also what only
        another version understands.

        Args:
            config: the run's, with perhaps another number of children or other ceilings.

        Raises:
            RunFolderError: it cannot be read or written.
        """
        before = self.read_config()
        changeable = (*LIMITS, *(LIST if self._takes_more(before, config) else ()))
        limits = {name: value for name, value in config.to_json().items() if name in changeable}
        changes = {name: value for name, value in limits.items() if getattr(before, name) != getattr(config, name)}
        if not changes:
            return None
        data = json.loads(self.config.read_text(encoding="utf-8-sig"))
        text = json.dumps(data | changes, indent=2).encode() + b"\n"
        try:
            replace_file(self.config, text, durable=True)
        except OSError as error:
            raise RunFolderError(f"{self.config} cannot be written: {error.strerror}") from error
        return text

    def _takes_more(self, before: RunConfig, after: RunConfig) -> bool:
        """Return whether the run is one of given architectures, to which others are added.

        Raises:
            RunFolderError: others were added since `after` was made, whose samples would be those now.
        """
        recorded, wanted = before.space_options, after.space_options
        if not (isinstance(recorded, ListedSpace) and isinstance(wanted, ListedSpace)):
            return False
        if not wanted.continues(recorded):
            raise RunFolderError(f"another call has added architectures to the run {self.name!r} meanwhile: call again")
        return True

    def read_config(self) -> RunConfig:
        """Return the configuration that the run was launched with, which this version must know in full.

        Raises:
            RunFolderError: the file is damaged, or has a part that this version does not know.
        """
        known = self.read_known()
        if known.unknown:
            raise RunFolderError(f"{self.config} cannot be used as it is: {unknown_text(known.unknown)}")
        return known.config

    def read_known(self) -> KnownConfig:
        """Return the configuration as far as this version knows it, for readers of the run.

        Raises:
            RunFolderError: the file is damaged.
        """
        try:
            data = json.loads(self.config.read_text(encoding="utf-8-sig"))
            if not isinstance(data, dict):
                raise ValueError(f"it must hold a JSON object, got a {type(data).__name__}")
            return known_config(data)
        except RecursionError as error:
            raise RunFolderError(f"{self.config} is damaged: it is nested too deeply") from error
        except ValueError as error:
            raise RunFolderError(f"{self.config} is damaged: {error}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other driver out while the block runs; the lock ends with the process, however it ends.

        Raises:
            RunFolderError: another driver holds the run, or processes of a killed driver do not end.
        """
        file = exclusive_within(self._driver_lock, READER_TIMEOUT_S)
        if file is None:
            raise RunFolderError(f"the run {self.name!r} is running; `{self.command('status')}` shows it")
        with file:
            # A killed driver's actors live a little longer; their writes must not mix with those of this start.
            writers = self.without_writers(WRITERS_TIMEOUT_S)
            if writers is None:
                raise RunFolderError(f"processes of an earlier start of the run {self.name!r} still write to it")
            writers.close()
            yield

    def without_writers(self, timeout_s: float) -> IO[str] | None:
        """Wait until no process writes into the folder, and allow none until the returned file is closed.

        Returns `None` if processes that called `cluster.storage.locks.writing` still run after `timeout_s` seconds.
        """
        return exclusive_within(self.path / WRITERS, timeout_s)

    def is_held(self) -> bool:
        """Return whether a driver holds the run now."""
        if self.alive is not None:
            return self.alive
        try:
            return is_locked(self._driver_lock)
        except FileNotFoundError:
            return False

    @property
    def _driver_lock(self) -> Path:
        """The file on which the driver holds an exclusive lock."""
        return self.path / DRIVER


def mark_begun(ledger: Path) -> None:
    """Create the file next to a ledger that says that it has recorded a start. A ledger in memory gets none."""
    if not ledger.exists():
        return
    with suppress(OSError):  # without the file, a later loss of the ledger may go unnoticed; nothing else is wrong
        ledger.with_suffix(BEGUN).touch()


BEGUN = ".begun"
"""Suffix of the file that says that the ledger next to it has recorded a start."""

STOP = "stop"
"""The file whose existence requests that the driver stop."""
