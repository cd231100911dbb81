"""`OrderLog`: the file with the pushes that a shard has applied, in order; and its reader.

The log of shard 3 is `shard-003.order`, text that only grows, a JSON value a line. An object is a start of the shard;
the lists after it are the pushes that this incarnation has applied. A shard that falls back to an older snapshot goes
on from there, and what it had applied since stays in the log, under the incarnation that is gone: clients have seen it.
"""

import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ps.shard.journal import sync_directory
from ps.shard.order import Applied, Order, Start

_LOG = logging.getLogger(__name__)

SYNC_EVERY = 32
"""Pushes after which the log is brought to the disk. Until then they are in the shard's snapshot, too."""


class OrderLog:
    """Appends to the log of one shard; the caller has the shard's lock.

    Without a push to record there is no file.
    """

    def __init__(self, directory: Path, index: int) -> None:
        self.path = directory / f"shard-{index:03d}.order"
        """The log."""
        self._file: int | None = None
        self._torn = False  # whether the last line may have no end
        self._written = 0  # the number of the last push that this incarnation has written

    def start(self, start: Start) -> None:
        """Record a start durably, before any client can see its incarnation.

        Raises:
            OSError: it may or may not be in the log. Another start with the same incarnation takes its place.
        """
        self._written = start.count
        if not start.count:
            return  # the first push is recorded with it
        self._write_start(start)

    def append(self, order: Order, incarnation: int) -> None:
        """Record the pushes that are not in the log yet, once they are committed.

        A failure is no failure of the pushes: they stay in the tail until the log can be written.
        """
        new = order.since(self._written)
        if not new:
            return
        try:
            if self._written == 0 and order.count == len(new):
                self._write_start(Start(incarnation, incarnation, 0))
            self._write(new)
            self._written = order.count
        except OSError as error:
            _LOG.warning("%s cannot be written, and is behind: %s", self.path, error)

    def sync(self) -> int:
        """Bring the log to the disk, and return the number of the last push that is certain to be in it."""
        written = self._written
        try:
            if self._file is not None:
                os.fdatasync(self._file)
        except OSError as error:
            _LOG.warning("%s cannot be brought to the disk: %s", self.path, error)
            return 0
        return written

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write_start(self, start: Start) -> None:
        is_new = not self.path.exists()
        line = {"start": start.incarnation, "before": start.before, "count": start.count, "tail": list(start.tail)}
        self._write([json.dumps(line)])
        assert self._file is not None
        os.fdatasync(self._file)
        if is_new:
            sync_directory(self.path.parent)

    def _write(self, lines: Sequence[str]) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            self._torn = os.fstat(self._file).st_size > 0
        data = memoryview("".join(["\n" if self._torn else "", *(f"{line}\n" for line in lines)]).encode())
        self._torn = True
        while data:
            data = data[os.write(self._file, data) :]
        self._torn = False


class IncompleteOrder(ValueError):
    """A log lacks pushes that the shard has applied; the message says which."""


@dataclass(slots=True)
class Lineage:
    """What one incarnation of a shard has applied.

    Attributes:
        incarnation: the shard's.
        before: the incarnation that it went on from; `None` if it began with the initial values.
        inherited: how many of that one's pushes it began with.
        pushes: those that it applied itself, and those inherited ones that only its own start has.
    """

    incarnation: int
    before: int | None
    inherited: int
    pushes: list[Applied] = field(default_factory=list)


def read_order(path: Path, last: Start | None = None) -> dict[int, Lineage]:
    """Return what each incarnation of a shard has applied, by incarnation; those without a push may be missing.

    Args:
        path: the log, which need not exist.
        last: the newest state of the shard's snapshot, as a start from it; the log may be behind it.

    Raises:
        IncompleteOrder: pushes are missing.
        OSError: the log cannot be read.
    """
    lineages: dict[int, Lineage] = {}
    current: Lineage | None = None
    for value in _values(path):
        if isinstance(value, dict):
            tail = [Applied(*one) for one in value["tail"]]
            current = _started(path, lineages, Start(value["start"], value["before"], value["count"], tail))
        elif current is not None:
            _add(path, current, Applied(*value))
    if last is not None and last.count:
        _complete(path, lineages, last)
    return lineages


def _values(path: Path) -> list[Any]:
    if not path.exists():
        return []
    values: list[Any] = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            values += [json.loads(line)] if line.strip("\0") else []
        except ValueError:
            continue  # torn: the process died while it wrote it; what is missing is in the next start
    return values


def _started(path: Path, lineages: dict[int, Lineage], start: Start) -> Lineage:
    """Add the incarnation that a start begins, which inherits what an earlier one had applied."""
    known = start.before if start.before in lineages and start.before != start.incarnation else None
    had = [] if known is None else pushes_of(lineages, known)[: start.count]
    # Where they differ, a write that failed had reached the disk: the state is right.
    agree = itertools.takewhile(lambda one: one.number > len(had) or had[one.number - 1] == one, start.tail)
    differs_at = start.tail[len(list(agree)) :][:1]
    from_log = min(len(had), differs_at[0].number - 1 if differs_at else start.count)
    lineage = Lineage(start.incarnation, known, from_log)
    for one in start.tail:
        _add(path, lineage, one)
    if reach(lineage) != start.count:
        raise IncompleteOrder(
            f"{path} lacks what its shard had applied when it started for the {start.incarnation}. time: it had"
            f" {start.count} pushes, of which the log has {reach(lineage)}"
        )
    lineages[start.incarnation] = lineage
    return lineage


def _add(path: Path, lineage: Lineage, one: Applied) -> None:
    if one.number <= reach(lineage):
        return  # a write that failed had reached the disk, and was repeated
    if one.number != (expected := reach(lineage) + 1):
        raise IncompleteOrder(f"{path} lacks push {expected} of its shard: the next one in it is {one.number}")
    lineage.pushes.append(one)


def _complete(path: Path, lineages: dict[int, Lineage], last: Start) -> None:
    """Add what only the newest snapshot has."""
    lineage = lineages.setdefault(last.before, Lineage(last.before, None, 0))
    for one in last.tail:
        _add(path, lineage, one)
    if reach(lineage) < last.count:
        raise IncompleteOrder(f"{path} has {reach(lineage)} of the {last.count} pushes that its shard has applied")


def pushes_of(lineages: Mapping[int, Lineage], incarnation: int) -> list[Applied]:
    """Return all that an incarnation has applied, with what it began with."""
    lineage = lineages[incarnation]
    inherited = [] if lineage.before is None else pushes_of(lineages, lineage.before)[: lineage.inherited]
    return inherited + lineage.pushes


def reach(lineage: Lineage) -> int:
    """Return the number of the last push of an incarnation."""
    return lineage.inherited + len(lineage.pushes)


def write_order(path: Path, lineages: Mapping[int, Lineage]) -> None:
    """Write a new log, from which `read_order` reads these incarnations, durably; no file where they have no push.

    Args:
        path: of the log, which must not exist.
        lineages: what each incarnation has applied, by incarnation.

    Raises:
        OSError: it cannot be written.
    """
    if not any(lineage.pushes for lineage in lineages.values()):
        return
    lines: list[str] = []
    for number in sorted(lineages):
        one = lineages[number]
        before = number if one.before is None else one.before
        lines.append(json.dumps({"start": number, "before": before, "count": one.inherited, "tail": []}))
        lines += map(json.dumps, one.pushes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
