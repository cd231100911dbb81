"""The one folder that holds everything a run knows."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.config import RunConfig


class RunFolderError(ValueError):
    """There is no such run, or there already is one."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run's files are.

    Attributes:
        path: `<storage_path>/<name>`, absolute.
    """

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The configuration, JSON."""
        return self.path / "config.json"

    @property
    def ledger(self) -> Path:
        """The ledger, SQLite."""
        return self.path / "ledger.sqlite"

    @property
    def shards(self) -> Path:
        """The shards' snapshots."""
        return self.path / "shards"

    def check_new(self) -> None:
        """Raise `RunFolderError` if the folder exists."""
        if self.path.exists():
            raise RunFolderError(
                f"a run named {self.name!r} exists in {self.path.parent}: resume it with"
                f" `nascluster resume {self.name}`, choose another --name, or remove the folder {self.path}"
            )

    def create(self, config: RunConfig) -> None:
        """Make the folder with its configuration; it appears whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.parent / f".{self.name}.{os.getpid()}"
        draft.mkdir()
        (draft / "config.json").write_text(json.dumps(config.to_json(), indent=2) + "\n")
        try:
            draft.rename(self.path)
        except OSError:
            (draft / "config.json").unlink()
            draft.rmdir()
            self.check_new()
            raise

    def read_config(self) -> RunConfig:
        """The configuration that the run was launched with."""
        return RunConfig.from_json(json.loads(self.config.read_text()))


def run_folder(storage_path: Path, name: str) -> RunFolder:
    """The folder of the run called `name`, whether or not it exists."""
    return RunFolder(storage_path.expanduser().absolute() / name)


def existing_run(storage_path: Path, name: str) -> RunFolder:
    """The folder of the run called `name`.

    Raises:
        RunFolderError: naming the runs that are there, if this one is not.
    """
    folder = run_folder(storage_path, name)
    if not folder.config.is_file():
        parent = folder.path.parent
        others = sorted(p.parent.name for p in parent.glob("*/config.json"))
        there = f"the runs there are {', '.join(others)}" if others else "there are no runs there"
        raise RunFolderError(f"no run named {name!r} in {parent}; {there} (--storage-path names another folder)")
    return folder
