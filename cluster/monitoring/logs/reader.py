"""What a run has logged and its children have printed, read from its folder: while it runs, or after."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cluster.formatting import last_line
from cluster.monitoring.failed_attempts import FATES
from cluster.monitoring.logs.journal import rotated
from cluster.pool.output_files import OUTPUTS, OutputFolder, output_name
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.failures import attempts_at
from cluster.storage.ledger.queries.run import last_child
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

LOOK_S = 0.5
"""Seconds between two looks for what is new."""

TEXTS = {**FATES, "outcome": "finished", "lost": "lost as its run ended around it", "void": "never begun"}
"""What became of an attempt, by its verdict, where it did not fail."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Printed:
    """One attempt and what it printed.

    Attributes:
        number: from 1.
        worker: the process that made it.
        started_at, ended_at: Unix time; `ended_at` is `None` while it runs.
        verdict, cause, message: as the ledger has them.
        text: what it printed, or `None`.
    """

    number: int
    worker: str
    started_at: float
    ended_at: float | None
    verdict: str | None
    cause: str | None
    message: str | None
    text: str | None


def child_output(folder: RunFolder, child_id: int, attempt: int | None = None) -> list[Printed]:
    """The attempts at a child, oldest first, or the one with this number, with what they printed.

    Raises:
        RunFolderError: there is no such child or attempt, or the ledger is damaged.
    """
    with reading(folder) as db:
        last, rows = last_child(db), attempts_at(db, child_id)
    if not 1 <= child_id <= last:
        there = f"they are numbered from 1 to {last}" if last else "none was sampled yet"
        raise RunFolderError(f"the run {folder.name!r} has no child {child_id}: {there}")
    if attempt is not None and not 1 <= attempt <= len(rows):
        there = f"from 1 to {len(rows)}" if rows else "none yet"
        raise RunFolderError(f"child {child_id} has no attempt {attempt}: there are {there}")
    wanted = [row for row in rows if attempt in (None, row.number)]
    texts = _texts(folder, child_id, [row.number for row in wanted])
    return [Printed(**row._asdict(), text=texts.get(row.number)) for row in wanted]


def output_lines(child_id: int, attempts: list[Printed]) -> list[str]:
    """For people: the attempts with cause, place and time, then what each printed."""
    if not attempts:
        return [f"child {child_id}: no attempt has begun"]
    lines = [f"child {child_id}"]
    for attempt in attempts:
        lines += _head(attempt)
    for attempt in attempts:
        if attempt.text:
            lines += ["", f"--- attempt {attempt.number} printed:", attempt.text.rstrip("\n")]
    if not any(attempt.text for attempt in attempts):
        running = any(attempt.ended_at is None for attempt in attempts)
        lines += ["", "Nothing yet: output is there when the attempt has ended." if running else "It printed nothing."]
    return lines


def _head(attempt: Printed) -> list[str]:
    when = datetime.fromtimestamp(attempt.started_at).strftime("%Y-%m-%d %H:%M:%S")
    if attempt.ended_at is None:
        fate, seconds = "in training", "now"
    else:
        fate, seconds = _fate(attempt), f"for {attempt.ended_at - attempt.started_at:.1f} s"
    lines = [f"  attempt {attempt.number}: {fate}", f"      {when} on {attempt.worker} {seconds}"]
    reason = last_line(attempt.message or "")
    return [*lines, f"      {reason}"] if reason else lines


def _fate(attempt: Printed) -> str:
    verdict = attempt.verdict or "outcome"
    return TEXTS[verdict] if attempt.cause is None else f"{attempt.cause}, {FATES.get(verdict, verdict)}"


def _texts(folder: RunFolder, child_id: int, numbers: list[int]) -> dict[int, str]:
    """What the attempts with these numbers printed, by number."""
    outputs = OutputFolder(folder.path / OUTPUTS)
    found = {number: outputs.read(child_id, number) for number in numbers}
    missing = [number for number, text in found.items() if text is None]
    if folder.url is not None and missing:
        from cluster.storage.object_store.working_copy import stored

        names = {f"{OUTPUTS}/{output_name(child_id, number)}": number for number in missing}
        found |= {names[name]: data.decode(errors="replace") for name, data in stored(folder, list(names)).items()}
    return {number: text for number, text in found.items() if text is not None}


def log_lines(
    folder: RunFolder,
    running: Callable[[], bool] = lambda: False,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[str]:
    """The run's events as they were logged, oldest first; and those to come, until the run does not run any more.

    Args:
        folder: whose run.
        running: whether what comes is wanted and may come.
        pause: waits so many seconds.

    Raises:
        RunFolderError: there are none.
    """
    *old, newest = rotated(folder)
    if not newest.is_file():
        raise RunFolderError(f"the run {folder.name!r} has no log: it has not begun, or an earlier version ran it")
    for path in old:
        if path.is_file():
            yield from path.read_text(errors="replace").splitlines()
    file, rest = newest.open(errors="replace"), ""
    try:
        while True:
            alive = running()  # asked first: what is written before the end is read after it
            *lines, rest = (rest + file.read()).split("\n")
            yield from lines
            if newest.is_file() and not os.path.samestat(newest.stat(), os.fstat(file.fileno())):
                file.close()
                file = newest.open(errors="replace")
            elif alive:
                pause(LOOK_S)
            else:
                return
    finally:
        file.close()
