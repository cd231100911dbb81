"""All children of a run as data: CSV, JSON or a table for people, written as they are read. Imports no torch."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, Literal

from child_trainer import portable_json
from cluster.formatting import number, utc_instant
from cluster.monitoring.status import read_unknown
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.children import ChildRow, all_children
from cluster.storage.ledger.reader import begin_anew, reading
from cluster.storage.run_folder import RunFolder

Form = Literal["csv", "json", "text"]
"""How children are written."""

COLUMNS = (
    *("child", "state", "replica", "batch", "reward", "metric", "parameters", "flops", "seconds", "attempts"),
    *("sampled", "started", "ended", "architecture", "tokens", "parent", "other_parent", "change", "source"),
    *("same_as", "weights_of", "job", "cause", "message", "stopped", "stop_reason", "predicted", "seed", "latency_ms"),
)
"""The names of a child's values, in the order in which they are written."""


def child_lines(folder: RunFolder, form: Form) -> Iterator[str]:
    """Yield the lines that list all children of a run, in the order of sampling.

    However many there are, few are in memory at once, and the writer of the ledger need not wait for the reader of the
    lines. The children are those sampled when the list begins, each as it is when its line is made.

    Raises:
        RunFolderError: the ledger is damaged, which may be found when some lines have been written.
    """
    held = folder.is_held()
    if form == "json":
        unknown = read_unknown(folder)
        yield f'{{"run": {json.dumps(folder.name)}, "unknown": {json.dumps(unknown)}, "children": ['
        yield from _separated(portable_json.dumps(values) for values in children_of(folder, held=held))
        yield "]}"
        return
    if form == "csv":
        yield from _csv_lines(_rows(folder, held=held))
        return
    yield HEAD
    yield from map(_text, children_of(folder, held=held))


def children_of(folder: RunFolder, *, held: bool | None = None) -> Iterator[dict[str, Any]]:
    """Yield each child's values by `COLUMNS`, as `child_lines` does.

    Args:
        folder: of the run.
        held: whether a driver held the run when the list began; unset: whether one does now.

    Raises:
        RunFolderError: the ledger is damaged.
    """
    for values in _rows(folder, held=folder.is_held() if held is None else held):
        row = dict(zip(COLUMNS, values, strict=True))
        row["tokens"] = list(row["tokens"])  # as JSON has them
        yield row


def _rows(folder: RunFolder, *, held: bool) -> Iterator[tuple[Any, ...]]:
    with reading(folder) as db:
        for row in all_children(db, lambda: begin_anew(db)):
            try:
                yield _values(row, held=held)
            except (ValueError, TypeError, OverflowError) as error:
                raise RunFolderError(f"{folder.ledger} is damaged: child {row.child_id} has {error}") from error


def _values(row: ChildRow, *, held: bool) -> tuple[Any, ...]:
    times = [None if at is None else utc_instant(at) for at in (row.sampled_at, row.started_at, row.ended_at)]
    return (
        # What a driver that is gone had in training begins again.
        *(row.child_id, "sampled" if row.state == "running" and not held else row.state, row.replica, row.batch),
        *(row.reward, row.metric, row.parameters, row.flops, row.seconds, row.attempts, *times),
        *(row.architecture_id or None, _tokens(row.tokens), row.parent, row.other_parent, row.change, row.source),
        *(row.same_as, row.weights_of, row.job, row.cause, row.message),
        *(row.stopped, row.stop_reason, row.predicted, row.seed, row.latency_ms),
    )


@lru_cache(maxsize=100_000)
def _tokens(text: str) -> tuple[int, ...]:
    return tuple(json.loads(text))


def _separated(items: Iterator[str]) -> Iterator[str]:
    """Yield each item with a comma behind it, but for the last."""
    last = next(items, None)
    for item in items:
        yield f"{last},"
        last = item
    if last is not None:
        yield last


class _Returned:
    """A file whose `write` returns what it is given, as `writerow` then does: each line is made once."""

    def write(self, text: str) -> str:
        return text


def _csv_lines(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Yield the head and a line for each child."""
    writerow = csv.writer(_Returned(), lineterminator=CSV_END).writerow
    yield _line(writerow(COLUMNS))
    place = COLUMNS.index("tokens")
    for row in rows:
        # Numbers that are not finite are empty, as in JSON.
        values = [None if type(value) is float and not isfinite(value) else value for value in row]
        values[place] = ",".join(map(str, row[place]))  # as `--samples` of the searcher `given` takes them
        yield _line(writerow(values))


def _line(written: Any) -> str:
    return written.removesuffix(CSV_END)


CSV_END = "\r\n"
"""The end of a line, which the caller writes: a value with one of these characters is quoted because of it."""

HEAD = f"{'child':>7}  {'state':<8}  {'metric':>9}  {'reward':>9}  {'parameters':>11}  {'seconds':>9}  architecture"


def _text(values: Mapping[str, Any]) -> str:
    parameters, seconds = values["parameters"], values["seconds"]
    ended = values["cause"] or values["architecture"] or "-"
    origin = f"  from {values['parent']}" if values["parent"] is not None else ""
    if values["stopped"] is not None:
        origin += f"  stopped early at epoch {values['stopped']}: {values['stop_reason']}"
    return (
        f"{values['child']:>7}  {values['state']:<8}  {number(values['metric']):>9}  {number(values['reward']):>9}"
        f"  {'-' if parameters is None else f'{parameters:,}':>11}"
        f"  {'-' if seconds is None else f'{seconds:.1f}':>9}  {ended}{origin}"
    )
