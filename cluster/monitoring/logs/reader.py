"""Reads a run's log and the output of its children from its folder, while it runs or later."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.formatting import last_line, utc_time
from cluster.monitoring.failed_attempts import VERDICT_TEXTS
from cluster.monitoring.logs.journal import log_files
from cluster.pool.output_files import OUTPUTS, OutputFolder, output_name
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.failures import attempts_at
from cluster.storage.ledger.queries.run import last_child
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

POLL_INTERVAL_S = 0.5
"""Seconds between two reads of the log while following it."""

TEXTS = {**VERDICT_TEXTS, "outcome": "finished", "lost": "lost when its run ended", "void": "never started"}
"""The result of an attempt without a cause of failure, by its verdict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptOutput:
    """An attempt and its output.

    Attributes:
        number: from 1.
        worker: the process that ran it.
        started_at, ended_at: Unix time; `ended_at` is `None` while it runs.
        verdict, cause, message: as in the ledger.
        text: its output, or `None` if it printed nothing.
    """

    number: int
    worker: str
    started_at: float
    ended_at: float | None
    verdict: str | None
    cause: str | None
    message: str | None
    text: str | None


def child_output(folder: RunFolder, child_id: int, attempt: int | None = None) -> list[AttemptOutput]:
    """Return the attempts at a child, oldest first, or only the one with this number, with their output.

    Raises:
        RunFolderError: the child or the attempt does not exist, or the ledger is damaged.
    """
    with reading(folder) as db:
        last, rows = last_child(db), attempts_at(db, child_id)
    if not 1 <= child_id <= last:
        children = f"they are numbered from 1 to {last}" if last else "none was sampled yet"
        raise RunFolderError(f"the run {folder.name!r} has no child {child_id}: {children}")
    if attempt is not None and not 1 <= attempt <= len(rows):
        attempts = f"they are numbered from 1 to {len(rows)}" if rows else "none has begun yet"
        raise RunFolderError(f"child {child_id} has no attempt {attempt}: {attempts}")
    selected = [row for row in rows if attempt in (None, row.number)]
    texts = _texts(folder, child_id, [row.number for row in selected])
    return [AttemptOutput(**row._asdict(), text=texts.get(row.number)) for row in selected]


def output_lines(child_id: int, attempts: list[AttemptOutput]) -> list[str]:
    """Return lines for people: the attempts with cause, worker and time, then the output of each."""
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
        lines += [
            "",
            "No output yet: it can be shown when the attempt has ended." if running else "It printed nothing.",
        ]
    return lines


def _head(attempt: AttemptOutput) -> list[str]:
    if attempt.ended_at is None:
        result, seconds = "in training", "now"
    else:
        result, seconds = _result(attempt), f"for {attempt.ended_at - attempt.started_at:.1f} s"
    lines = [
        f"  attempt {attempt.number}: {result}",
        f"      {utc_time(attempt.started_at)} on {attempt.worker} {seconds}",
    ]
    reason = last_line(attempt.message or "")
    return [*lines, f"      {reason}"] if reason else lines


def _result(attempt: AttemptOutput) -> str:
    verdict = attempt.verdict or "outcome"
    return (
        TEXTS.get(verdict, verdict)
        if attempt.cause is None
        else f"{attempt.cause}, {VERDICT_TEXTS.get(verdict, verdict)}"
    )


def _texts(folder: RunFolder, child_id: int, numbers: list[int]) -> dict[int, str]:
    """Return the output of the attempts with these numbers, by number, without those that printed nothing."""
    outputs = OutputFolder(folder.path / OUTPUTS)
    texts = {number: outputs.read(child_id, number) for number in numbers}
    missing = [number for number, text in texts.items() if text is None]
    if folder.url is not None and missing:
        from cluster.storage.object_store.working_copy import stored

        names = {f"{OUTPUTS}/{output_name(child_id, number)}": number for number in missing}
        texts |= {names[name]: data.decode(errors="replace") for name, data in stored(folder, list(names)).items()}
    return {number: text for number, text in texts.items() if text is not None}


def log_lines(
    folder: RunFolder,
    running: Callable[[], bool] = lambda: False,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[str]:
    """Yield the lines of the run's log, oldest first, then new lines until the run has ended.

    Args:
        folder: the run's folder.
        running: returns whether to wait for new lines: the caller wants them and the run is running.
        pause: waits for a number of seconds.

    Raises:
        RunFolderError: the run has no log.
    """
    *old, newest = log_files(folder)
    if not newest.is_file():
        raise RunFolderError(f"the run {folder.name!r} has no log: it has not begun, or an earlier version ran it")
    for path in old:
        if path.is_file():
            yield from path.read_text(errors="replace").splitlines()
    file, rest = newest.open(errors="replace"), ""
    try:
        while True:
            alive = running()  # before the read, so that the last lines of an ending run are read, too
            *lines, rest = (rest + file.read()).split("\n")
            yield from lines
            if newest.is_file() and not os.path.samestat(newest.stat(), os.fstat(file.fileno())):
                file.close()
                file = newest.open(errors="replace")
            elif alive:
                pause(POLL_INTERVAL_S)
            else:
                return
    finally:
        file.close()
