"""Searches from Python: launch one in a script, a notebook or a thread, or load one to read it or stop it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from cluster.config.flags import HELP_ALL
from cluster.config.recipes import find_recipe, recipe_label
from cluster.config.run_config import DEFAULT_STORAGE, RunConfig
from cluster.monitoring.status import Best, Status, read_status
from cluster.runners.retraining import parse_launch
from cluster.storage.dataset_cache import located
from cluster.storage.find_run import check_new, existing_run, request_stop, run_folder
from cluster.storage.run_folder import RunFolder

POLL_INTERVAL_S = 0.5
"""Time between two polls of a run's status."""


@dataclass(frozen=True)
class Run:
    """A search, in this process or any other.

    Attributes:
        storage_path: the folder of all runs, or its URL.
        name: the run's name.
    """

    storage_path: str
    name: str
    _driver: "_Driver | None" = field(default=None, repr=False)

    @property
    def folder(self) -> RunFolder:
        """The run's folder; a run in an object store is copied to this machine first."""
        return existing_run(self.storage_path, self.name)

    @property
    def config(self) -> RunConfig:
        """The configuration that the run was launched with."""
        return self.folder.read_config()

    def status(self) -> Status:
        """Return the search's present status."""
        return read_status(self.folder, time.time())

    @property
    def best(self) -> Best | None:
        """The best child so far; `None` before one has finished."""
        return self.status().best

    def wait(self) -> Status:
        """Wait until the search ends, and return how it ended.

        Raises:
            Exception: what the driver raised, if it runs in this process.
        """
        if self._driver is not None:
            self._driver.join()
        while (status := self.status()).state == "running":
            time.sleep(POLL_INTERVAL_S)
        return status

    def stop(self, *, wait: bool = True) -> Status:
        """Stop the search once the children in training have ended; it can be resumed.

        Args:
            wait: return only when it has stopped.
        """
        if self.status().state == "running":
            request_stop(self.folder)
        return self.wait() if wait else self.status()


def launch(recipe: str | RunConfig, *, wait: bool = True, show: bool = True, **options: object) -> Run:
    """Start a search, as `nascluster launch` does.

    Args:
        recipe: the name of a recipe, `FILE.py:NAME`, or a whole configuration.
        wait: return when the search has ended; otherwise it runs in a thread of this process, and ends with that.
        show: print the search's progress.
        options: the flags of `nascluster launch`, with underscores: `max_children=32, searcher="evolution"`.

    Raises:
        ValueError: an option is unknown or has an invalid value, or the run cannot be started; nothing was
            written.
    """
    config = _configured(recipe, options)
    folder = run_folder(config.storage_path, str(config.name))
    check_new(folder)
    driver = _Driver(config, folder, show)
    run = Run(config.storage_path, folder.name, None if wait else driver)
    if wait:
        driver.drive()
    else:
        driver.start()
    return run


def load(name: str, storage_path: str | Path = DEFAULT_STORAGE) -> Run:
    """Return the run of this name, to read it or to stop it.

    Raises:
        RunFolderError: there is none; the message lists the existing ones.
    """
    existing_run(storage_path, name)
    return Run(str(storage_path), name)


class _Driver(threading.Thread):
    """Drives a search, in the thread that calls `drive` or in one of its own."""

    def __init__(self, config: RunConfig, folder: RunFolder, show: bool) -> None:
        super().__init__(name=f"nascluster-{folder.name}", daemon=True)
        self._config, self._folder, self._show = config, folder, show
        self._begun = threading.Event()
        self._error: BaseException | None = None

    def drive(self) -> None:
        """Run the search to its end."""
        from cluster.runners.driver import execute

        execute(self._config, self._folder, Console(quiet=not self._show))

    def run(self) -> None:
        """Run the search, and keep what it raises for `join`."""
        try:
            self.drive()
        except BaseException as error:
            self._error = error
        finally:
            self._begun.set()

    def start(self) -> None:
        """Start the thread, and return when the run's folder exists.

        Raises:
            Exception: what the driver raised before.
        """
        super().start()
        while not (self._folder.config.exists() or self._begun.wait(POLL_INTERVAL_S / 10)):
            pass
        if not self.is_alive():
            self.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the search, and raise what it raised."""
        super().join(timeout)
        if self._error is not None:
            raise self._error


def _configured(recipe: str | RunConfig, options: dict[str, object]) -> RunConfig:
    if not isinstance(recipe, str | RunConfig):
        raise ValueError(f"`recipe` must be a name or a RunConfig, got {recipe!r}")
    words = [word for name, value in options.items() for word in _words(name, value)]
    if isinstance(recipe, RunConfig):
        (config, _), label = parse_launch(recipe, words, "recipe"), "run"
    else:
        (config, _), label = parse_launch(find_recipe(recipe), words, recipe), recipe_label(recipe)
    name = config.name or f"{label}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    task = replace(config.task, data=located(config.task.data))
    return replace(config, name=name, recipe=recipe if isinstance(recipe, str) else config.recipe, task=task)


def _words(name: str, value: object) -> Sequence[str]:
    """Return the command-line arguments that set an option to a value."""
    flag = f"--{name.replace('_', '-')}"
    if flag in ("--help", HELP_ALL) or isinstance(value, dict | set):
        raise ValueError(f"`{name}` must be an option of the search, with a plain value, got {value!r}")
    if isinstance(value, list | tuple) and not value:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, list | tuple):
        return [flag, *map(str, value)]
    return [flag, str(value)]
