"""Searches and evaluations from Python: in a script or a notebook, here or in a process of its own."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.api.keyword_options import configured, in_python, words_of
from cluster.config.flags import UsageError
from cluster.config.run_config import DEFAULT_STORAGE, RunConfig
from cluster.formatting import counted, metric_name
from cluster.monitoring.child_list import children_of
from cluster.monitoring.status import Best, Status, read_status
from cluster.runners.background import BackgroundDriver
from cluster.runners.evaluation.plan import SPACE
from cluster.runners.evaluation.submitted import submitted_objects
from cluster.runners.run_failed import RunFailed
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import check_new, existing_run, request_stop, run_folder
from cluster.storage.run_folder import RunFolder

POLL_INTERVAL_S = 0.5
"""Time between two polls of a run's status."""


@dataclass(frozen=True, repr=False)
class Run:
    """A search, in any process: `Run("demo")` opens an existing one, to read it or to stop it.

    Attributes:
        name: the run's name.
        storage_path: the folder of all runs, or its URL.

    Raises:
        RunFolderError: there is no such run; the message lists the existing ones.
    """

    name: str
    storage_path: str | Path = DEFAULT_STORAGE
    _driver: BackgroundDriver | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self._driver is None:
            existing_run(self.storage_path, self.name)
        object.__setattr__(self, "storage_path", str(self.storage_path))

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

    @property
    def children(self) -> list[dict[str, Any]]:
        """All children that were sampled so far, with the columns of `nascluster children NAME --json`.

        `pandas.DataFrame(run.children)` makes a table of them.
        """
        return list(children_of(self.folder))

    def __repr__(self) -> str:
        where = "" if self.storage_path == DEFAULT_STORAGE else f", storage_path={self.storage_path!r}"
        known = run_folder(self.storage_path, self.name)
        if known.url is not None:  # which would have to be copied
            return f"Run({self.name!r}{where})"
        try:
            return f"<Run({self.name!r}{where}): {_in_words(self.status())}>"
        except (OSError, ValueError):  # it was removed, or is damaged
            return f"Run({self.name!r}{where})"

    def wait(self, timeout: float | None = None) -> Status:
        """Wait until the search has ended, and return how.

        Args:
            timeout: seconds after which to give up waiting; unset: none.

        Raises:
            ValueError: the time is no number of seconds.
            RunFailed: it has failed.
            TimeoutError: it still runs; nothing was done to it.
        """
        timeout = _seconds(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        if self._driver is not None and not self._driver.join(timeout):
            raise self._still_runs(timeout)
        while (status := self.status()).state == "running":
            left = POLL_INTERVAL_S if until is None else until - time.monotonic()
            if left <= 0:
                raise self._still_runs(timeout)
            time.sleep(min(left, POLL_INTERVAL_S))
        if status.unexplained and self._driver is not None and self._driver.error:
            raise RunFailed(self._driver.error)
        return _not_failed(status, self.folder)

    def _still_runs(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"the run {self.name!r} is still running after {timeout:g} s: wait longer, or `stop()` it")

    def stop(self, *, wait: bool = True) -> Status:
        """Stop the search once the children in training have ended; it can be resumed.

        Args:
            wait: return only when it has stopped.

        Raises:
            RunFailed: it has failed.
        """
        if self.status().state == "running":
            request_stop(self.folder)
        return self.wait() if wait else self.status()

    def evaluate(self, architectures: object, *, show: bool = True, **options: object) -> list[dict[str, Any]]:
        """Train given architectures, each once, as `evaluate` does.

        They are added to this run, if it is one of given architectures. Of a search they are trained as its children
        are, on its task with its budget, in a run of the same name with `-evaluate` behind it.

        Args:
            architectures, show: as of `evaluate`.
            options: flags of `nascluster evaluate`, with underscores.

        Raises:
            ValueError, RunFailed, KeyboardInterrupt: as of `evaluate`. A `ValueError` also if the search is another one
                than that with which these were begun, such as one with other epochs.
        """
        like = self.config
        listed = like.space == SPACE
        given = {"name": self.name if listed else f"{self.name}-evaluate", "storage_path": self.storage_path}
        return _evaluated(architectures, given | options, show, None if listed else like)

    def finish(
        self,
        *,
        top: int | None = None,
        grid: Mapping[str, Sequence[float]] | Sequence[str] = (),
        seeds: int = 3,
        show: bool = True,
        **options: object,
    ) -> dict[str, Any]:
        """Train the best networks of this search for good and test each once, as `nascluster finish` does.

        A later call with the same arguments goes on where an earlier one has ended, and tells what is recorded.
        `Run(f"{run.name}-final")` opens the final trainings.

        Args:
            top: how many of the best different architectures; unset: 5, or all if there are fewer.
            grid: training settings to try, by name with their values: `{"learning_rate": [0.1, 0.05]}`; or as the flag
                takes them.
            seeds: trainings of each network.
            show: print the progress.
            options: flags of `nascluster launch` for the trainings, with underscores: `epochs=300`.

        Returns:
            The object that `nascluster finish --json` prints: the networks with their trainings and what these reach on
            the test data, the child that is exported, and the file.

        Raises:
            ValueError: an option is wrong, or the search cannot be finished.
            RunFailed: not all networks were trained; the message says why, and what goes on.
            KeyboardInterrupt: Ctrl-C has stopped a training; the same call goes on.
        """
        from cluster.finish.finish import Unfinished, finish
        from cluster.finish.plan import Request

        for name, value, least in (("top", top, 1), ("seeds", seeds, 1)):
            if value is not None and (type(value) is not int or value < least):
                raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
        settings = _grid_words(grid)
        words = [word for name, value in options.items() for word in words_of(name, value)]
        try:
            request = Request(
                name=self.name, storage_path=str(self.storage_path), top=top, grid=settings, seeds=seeds, flags=words
            )
            found = finish(request, Console(quiet=not show))
        except (UsageError, RunFolderError) as error:
            raise type(error)(in_python(str(error))) from error
        if isinstance(found, Unfinished):
            if found.status.interrupted:
                raise KeyboardInterrupt(f"interrupted: {found.text}")
            raise RunFailed(found.text)
        return found.to_json()


def launch(recipe: str | RunConfig, *, wait: bool = True, show: bool = True, **options: object) -> Run:
    """Start a search, as `nascluster launch` does.

    Args:
        recipe: the name of a recipe, `FILE.py:NAME`, or a whole configuration.
        wait: return when the search has ended. Otherwise return when it has begun: it runs in a process of its own,
            which goes on when this one ends, and which `Run.stop` or `nascluster stop` stops.
        show: print the search's progress.
        options: the flags of `nascluster launch`, with underscores: `max_children=32, searcher="evolution"`. A flag
            that takes several values takes a list. `start_with` also takes dicts and the best children of other runs.

    Raises:
        ValueError: an option is unknown or has an invalid value, or the run cannot be started; nothing was
            written.
        RunFailed: the search has failed.
        KeyboardInterrupt: Ctrl-C has stopped the search, whose children in training have ended and are recorded; or it
            has ended the start.
    """
    config = configured(recipe, options)
    folder = run_folder(config.storage_path, str(config.name))
    check_new(folder)
    if wait:
        from cluster.runners.driver import execute

        status = _not_failed(execute(config, folder, Console(quiet=not show)), folder)
        if status.interrupted:
            raise KeyboardInterrupt(
                f"interrupted: the run {folder.name!r} has stopped, and `{folder.command('resume')}` goes on with it"
            )
        return Run(folder.name, config.storage_path)
    driver = BackgroundDriver(config, folder, show)
    driver.wait_until_begun()
    return Run(folder.name, config.storage_path, driver)


def load(name: str, storage_path: str | Path = DEFAULT_STORAGE) -> Run:
    """Return the run of this name, as `Run(name, storage_path)` does.

    Raises:
        RunFolderError: there is none; the message lists the existing ones.
    """
    return Run(name, storage_path)


def evaluate(architectures: object, *, show: bool = True, **options: object) -> list[dict[str, Any]]:
    """Train given architectures on a task, each once, as `nascluster evaluate` does; return what each has reached.

    Args:
        architectures: a list of `Architecture`, of dicts as their `to_json` gives, of texts of JSON, of best children
            (`Run.best`), and of paths of files and folders; or one of these.
        show: print the progress.
        options: flags of `nascluster evaluate`, with underscores: `task="digits", name="loop", epochs=2`. What a run of
            this name has evaluated before is returned at once, and not trained again.

    Returns:
        For each architecture, in their order, the object that `nascluster evaluate --json` prints: a dict with the keys
        id, source, status (finished, failed, invalid or pending), known, child, metrics, parameters, flops, seconds,
        cause and failure.

    Raises:
        ValueError: an option is wrong, or the run cannot be started, or another process drives it.
        RunFailed: the run has failed while this call trained; its `results` are what is known nevertheless.
        KeyboardInterrupt: Ctrl-C has stopped the training; the same call goes on.
    """
    return _evaluated(architectures, options, show, None)


def _evaluated(
    architectures: object, options: Mapping[str, object], show: bool, like: RunConfig | None
) -> list[dict[str, Any]]:
    from cluster.runners.evaluation.evaluate import evaluate

    words = [word for name, value in options.items() for word in words_of(name, value)]
    try:
        done = evaluate(submitted_objects(architectures), words, Console(quiet=not show), like)
    except (UsageError, RunFolderError) as error:
        raise type(error)(in_python(str(error))) from error
    if done.status is not None and done.status.interrupted:
        raise KeyboardInterrupt(
            f"interrupted: what the run {done.status.name!r} has reached until then is there, and the same call goes on"
        )
    if done.status is not None:
        storage_path = options.get("storage_path", DEFAULT_STORAGE)
        _not_failed(done.status, run_folder(str(storage_path), done.status.name), done.results)
    return list(done.results)


def _seconds(timeout: object) -> float | None:
    """Return a time to wait; raises `ValueError` unless it is a number of seconds, or `None` for no limit."""
    if timeout is None:
        return None
    with suppress(OverflowError):  # of a whole number that is larger than any of seconds
        if isinstance(timeout, Real) and 0 <= float(timeout) < math.inf:
            return float(timeout)
    raise ValueError(f"`timeout` must be a number of seconds, at least 0, or None for no limit, got {timeout!r}")


def _not_failed(status: Status, folder: RunFolder, results: Sequence[dict[str, Any]] = ()) -> Status:
    """Return the status, unless the search has failed; the error has the results."""
    if status.state != "failed":
        return status
    why = f": {status.message}" if status.message else ""
    where = f"; the complete error is in {folder.error}" if folder.error.exists() else ""
    raise RunFailed(
        f"the run {status.name!r} has failed{why}{where}; `{folder.command('resume')}` goes on with it", results
    )


def _in_words(status: Status) -> str:
    best = status.best
    words = f", best {metric_name(status.measure)} {best.metric:.4f} (child {best.child_id})" if best else ""
    return f"{status.state}, {status.ended} of {counted(status.max_children, 'child')} ended{words}"


def _grid_words(grid: object) -> tuple[str, ...]:
    """Return a grid as the flag takes it.

    Raises:
        ValueError: it is none.
    """
    wish = "a mapping of settings to lists of values, such as {'learning_rate': [0.1, 0.05]}, or a list of texts"
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise ValueError(f"`grid` must be {wish}, got {values!r} for {name!r}")
        return tuple(f"{name}={','.join(map(str, values))}" for name, values in grid.items())
    if isinstance(grid, str) or not isinstance(grid, Sequence) or not all(isinstance(one, str) for one in grid):
        raise ValueError(f"`grid` must be {wish}, got {grid!r}")
    return tuple(grid)
