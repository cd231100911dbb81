"""The runs of a storage path, a row each: also those that are damaged, or that this version does not know in full."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from child_trainer.outcome import Measure
from cluster.config.known_config import unknown_text
from cluster.config.locations import is_url, local_folder
from cluster.formatting import aligned, counted, file_size, metric_name, number, utc_instant, utc_time
from cluster.monitoring.status import liveness, recorded_measure
from cluster.storage.errors import LedgerError, RunFolderError, RunStarting
from cluster.storage.find_run import existing_run, local_runs, run_folder
from cluster.storage.ledger.queries import status as queries
from cluster.storage.ledger.queries.run import run_values
from cluster.storage.ledger.queries.status import BestMetric
from cluster.storage.ledger.reader import newer_version, reading
from cluster.storage.object_store.store import StorageError
from cluster.storage.run_folder import RunFolder

HEAD = ("name", "recipe", "state", "children", "best", "started", "size")

DAMAGED, STARTING = "damaged", "starting"
"""The states of a run that cannot be read, and of one that has no folder yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """What a list says of a run.

    Attributes:
        name: the run's.
        place: the path or URL that holds it.
        state: as of `Status`, or `DAMAGED` or `STARTING`.
        message: why it is in this state; may be empty.
        size: bytes of its files or objects; `None` if they cannot be counted.
        recipe: that it was launched with; empty where that is not recorded.
        parts: the names of its searcher, space, task and reward.
        sampled, finished, failed, max_children: as of `Status`.
        best: the child with the highest reward; `None` before one finished.
        measure: what its metric is.
        started_at: Unix time at which the search began; `None` before.
        seconds: how long it has run, without pauses.
        unknown: what this version of nascluster does not know of it, a clause each.
    """

    name: str
    place: str
    state: str
    message: str = ""
    size: int | None = None
    recipe: str = ""
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)
    sampled: int = 0
    finished: int = 0
    failed: int = 0
    max_children: int | None = None
    best: BestMetric | None = None
    measure: Measure = Measure.SCORE
    started_at: float | None = None
    seconds: float = 0.0
    unknown: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "place": self.place,
            "recipe": self.recipe or None,
            **{what: self.parts.get(what) for what in ("task", "space", "searcher", "reward")},
            "state": self.state,
            "message": self.message,
            "children": {
                "sampled": self.sampled,
                "finished": self.finished,
                "failed": self.failed,
                "max": self.max_children,
            },
            "best": self.best and {**self.best._asdict(), "measure": str(self.measure)},
            "started": None if self.started_at is None else utc_instant(self.started_at),
            "seconds": round(self.seconds, 3),
            "bytes": self.size,
            "unknown": list(self.unknown),
        }

    def texts(self) -> tuple[str, ...]:
        """Return the columns of `HEAD` for people."""
        best = (
            f"{metric_name(self.measure)} {number(self.best.metric)} (child {self.best.child_id})" if self.best else ""
        )
        children = f"{self.finished} finished, {self.failed} failed, of {self.max_children}"
        return (
            self.name,
            self.recipe or "-",
            self.state,
            "-" if self.max_children is None else children,
            best or "-",
            "-" if self.started_at is None else utc_time(self.started_at),
            "-" if self.size is None else file_size(self.size),
        )


def read_rows(storage_path: str, now: float) -> list[RunRow]:
    """Return the runs of a storage path, by name.

    Args:
        storage_path: a folder of this machine, or the URL of one in an object store.
        now: Unix time.

    Raises:
        StorageError: the object store cannot be used.
        OSError: the folder cannot be read.
        ValueError: the path is invalid.
    """
    if is_url(storage_path):
        from cluster.storage.object_store.stored_runs import stored_runs

        names = stored_runs(storage_path)
    else:
        folder = local_folder(storage_path)
        names = sorted({*local_runs(folder), *_starting(folder)})
    return [read_row(storage_path, name, now) for name in names]


def read_row(storage_path: str, name: str, now: float) -> RunRow:
    """Return what a list says of a run, whatever state its files are in."""
    folder = run_folder(storage_path, name)
    size = _size(folder)
    try:
        return _row(existing_run(storage_path, name), size, now)
    except RunStarting:
        return RunRow(name=name, place=folder.place, state=STARTING)
    except (RunFolderError, StorageError) as error:
        message = str(error)
    except (LedgerError, OSError, ValueError) as error:
        message = f"{folder.place} cannot be read: {error}"
    except (KeyError, TypeError, OverflowError) as error:
        message = f"{folder.ledger} is damaged: {type(error).__name__}, {error}"
    return RunRow(name=name, place=folder.place, state=DAMAGED, message=message, size=size)


def _row(folder: RunFolder, size: int | None, now: float) -> RunRow:
    known, held = folder.read_known(), folder.is_held()
    with reading(folder) as db:
        newer, values, children = newer_version(db), run_values(db), queries.children_by_state(db)
        state, message, alive = liveness(values, held, now, folder.had_begun)
        began = [at for at in (queries.first_sampled_at(db), values.get("started_at")) if at is not None]
        row = RunRow(
            name=folder.name,
            place=folder.place,
            state=state,
            message=message,
            size=size,
            recipe=known.config.recipe,
            parts=known.names,
            sampled=sum(children.values()),
            finished=children.get("finished", 0),
            failed=children.get("failed", 0),
            max_children=known.config.max_children,
            best=queries.best_metric(db),
            measure=known.config.measure if known.knows_task else recorded_measure(db),
            started_at=min(began, default=None),
            seconds=values.get("seconds_before", 0.0) + alive,
            unknown=(*known.unknown, *([newer] if newer else [])),
        )
    _ = row.to_json(), row.texts()  # a value of the ledger that cannot be shown is found here
    return row


def lines(rows: list[RunRow], storage_path: str) -> list[str]:
    """Return the list for people: a line for each run, and below them what is to be said of some."""
    place = place_of(storage_path)
    if not rows:
        return [f"There are no runs in {place}"]
    notes = [f"{row.name}: {row.message}" for row in rows if row.state == DAMAGED]
    notes += [f"{row.name}: {unknown_text(row.unknown)}" for row in rows if row.unknown]
    total = sum(row.size or 0 for row in rows)
    table = aligned([HEAD, *(row.texts() for row in rows)])
    return [
        *table,
        *([""] if notes else []),
        *notes,
        "",
        f"{counted(len(rows), 'run')}, {file_size(total)}, in {place}",
    ]


def place_of(storage_path: str) -> str:
    """Return the URL or the absolute path that a storage path means."""
    return storage_path if is_url(storage_path) else str(local_folder(storage_path))


def _starting(storage_path: Path) -> list[str]:
    """Return the names of the runs that launches on this machine are starting."""
    files = storage_path.glob(".*.starting") if storage_path.is_dir() else ()
    names = [file.name.removeprefix(".").removesuffix(".starting") for file in files]
    return [name for name in names if name and RunFolder(storage_path / name).is_starting()]


def _size(folder: RunFolder) -> int | None:
    """Return the bytes of a run's files, without those that links lead to, or of its objects."""
    if folder.url is not None:
        from cluster.storage.object_store.stored_runs import stored_bytes

        try:
            return stored_bytes(folder)
        except StorageError:
            return None
    return folder_bytes(folder.path)


def folder_bytes(path: Path) -> int | None:
    """Return the sum of the sizes of the files below a folder; links are not followed. `None` if it cannot be read."""
    total = 0
    try:
        for place, _, files in os.walk(path, onerror=_raise):
            for file in files:
                try:
                    total += os.lstat(os.path.join(place, file)).st_size
                except FileNotFoundError:
                    continue  # it was removed meanwhile, as drafts are
    except FileNotFoundError:
        return total
    except OSError:
        return None
    return total


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
