"""All children of a run as data: CSV, JSON or a table for people, written as they are read. Imports no torch."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    line: Callable[[Mapping[str, Any]], str] = _csv_values if form == "csv" else _text
    yield _csv(COLUMNS) if form == "csv" else HEAD
    for values in children_of(folder, held=held):
        yield line(values)


def children_of(folder: RunFolder, *, held: bool | None = None) -> Iterator[dict[str, Any]]:
    """Yield each child's values by `COLUMNS`, as `child_lines` does.

    Args:
        folder: of the run.
        held: whether a driver held the run when the list began; unset: whether one does now.

    Raises:
        RunFolderError: the ledger is damaged.
    """
    held = folder.is_held() if held is None else held
    with reading(folder) as db:
        for row in all_children(db, lambda: begin_anew(db)):
            try:
                yield _values(row, held=held)
            except (ValueError, TypeError, OverflowError) as error:
                raise RunFolderError(f"{folder.ledger} is damaged: child {row.child_id} has {error}") from error


def _values(row: ChildRow, *, held: bool) -> dict[str, Any]:
    times = [None if at is None else utc_instant(at) for at in (row.sampled_at, row.started_at, row.ended_at)]
    tokens = json.loads(row.tokens)
    values = (
        # What a driver that is gone had in training begins again.
        *(row.child_id, "sampled" if row.state == "running" and not held else row.state, row.replica, row.batch),
        *(row.reward, row.metric, row.parameters, row.flops, row.seconds, row.attempts, *times),
        *(row.architecture_id or None, tokens, row.parent, row.other_parent, row.change, row.source),
        *(row.same_as, row.weights_of, row.job, row.cause, row.message),
        *(row.stopped, row.stop_reason, row.predicted, row.seed, row.latency_ms),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _separated(items: Iterator[str]) -> Iterator[str]:
    """Yield each item with a comma behind it, but for the last."""
    last = next(items, None)
    for item in items:
        yield f"{last},"
        last = item
    if last is not None:
        yield last


def _csv_values(values: Mapping[str, Any]) -> str:
    # As `--samples` of the searcher `given` takes them; numbers that are not finite are empty, as in JSON.
    texts = {**values, "tokens": ",".join(map(str, values["tokens"]))}
    return _csv([portable_json.finite(value) for value in texts.values()])


def _csv(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator=CSV_END).writerow(values)
    return line.getvalue().removesuffix(CSV_END)


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
