"""Evaluates given architectures, each once: what this run knows is returned, and the rest is trained."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from typing import Any

from rich.console import Console

from child_trainer.outcome import Cause, Outcome
from cluster.config.flags import UsageError, value_of
from cluster.config.run_config import DEFAULT_STORAGE, RunConfig
from cluster.monitoring.status import Status
from cluster.runners.evaluation.plan import Plan, check_evaluates, configured, plan
from cluster.runners.evaluation.submitted import Submitted
from cluster.storage.errors import RunFolderError, RunMissing
from cluster.storage.find_run import check_new, existing_run, resumable_run, run_folder
from cluster.storage.ledger.queries.evaluations import EvaluatedRow, evaluated_children
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from cluster.storage.starting import starting

INVALID, PENDING = "invalid", "pending"
"""What an evaluation has of an architecture that cannot be trained, and of one that has not been; see `Evaluated`."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The results of an evaluation.

    Attributes:
        results: of each architecture, in the order in which they were given, as plain data; see `_result`.
        status: of the run after what this call has trained; `None` if it had nothing to train.
    """

    results: Sequence[dict[str, Any]]
    status: Status | None


def evaluate(
    submitted: Sequence[Submitted], flags: Sequence[str], console: Console, like: RunConfig | None = None
) -> Evaluated:
    """Train the architectures that the run does not know yet, and return what is known of all.

    Args:
        submitted: what was given.
        flags: of `nascluster launch`: name, storage path, task, budget and all else.
        console: where progress is shown.
        like: a search as whose children they are trained.

    Raises:
        UsageError: there are none, a flag is wrong, or the run was begun with other ones.
        RunFolderError: the run is a search, or another process drives it.
        ValueError: a value is invalid, or the run cannot be started; nothing was written.
    """
    if not submitted:
        raise UsageError("name at least one architecture: what was given has none")
    storage_path = value_of(flags, "--storage-path") or DEFAULT_STORAGE
    name = value_of(flags, "--name") or _new_name(storage_path)
    folder = run_folder(storage_path, name)
    folder.check_name()
    kind = next((each.architecture.kind for each in submitted if each.architecture), None)
    if folder.is_starting() and not folder.config.exists():
        raise RunFolderError(f"another call is starting the run {name!r}: call again when it has ended")
    recorded, rows = None, []
    try:
        check_new(folder)
    except RunFolderError as refused:
        try:
            folder = existing_run(storage_path, name)
        except RunMissing:  # what is there is no run
            raise refused from None
        recorded, rows = _read(folder)
    config = configured([*flags, f"--name={name}"], kind, recorded, like)
    made = plan(submitted, config, recorded, rows)
    if not made.trains:
        return Evaluated(_results(submitted, made, rows, None), None)
    made, folder, status = _train(submitted, config, folder, made, console, new=recorded is None)
    return Evaluated(_results(submitted, made, _read(folder)[1], status), status)


def _new_name(storage_path: str) -> str:
    """Return a name that no run has, nor another thread of this machine takes: of the time and this thread.

    From the second call of a thread within a second on it has a number behind it.
    """
    stem = f"evaluate-{datetime.now().strftime('%Y%m%d-%H%M%S')}-{threading.get_native_id()}"
    names = chain([stem], (f"{stem}-{number}" for number in count(2)))
    return next(name for name in names if _is_free(run_folder(storage_path, name)))


def _is_free(folder: RunFolder) -> bool:
    try:
        check_new(folder)
    except RunFolderError:
        return False
    return not folder.is_starting()


def _read(folder: RunFolder) -> tuple[RunConfig, list[EvaluatedRow]]:
    """Return the run, and its children."""
    config = folder.read_config()
    check_evaluates(folder, config)
    with reading(folder) as db:
        return config, evaluated_children(db)


def _train(
    submitted: Sequence[Submitted], config: RunConfig, folder: RunFolder, made: Plan, console: Console, *, new: bool
) -> tuple[Plan, RunFolder, Status | None]:
    """Train what is left to train; return the plan by which that was done, where, and how it ended, if it was done."""
    from cluster.runners.driver import execute

    if new:
        with starting(folder):
            return made, folder, execute(made.config, folder, console)
    if folder.is_held():
        raise UsageError(
            f"another process drives the run {folder.name!r}, so that it cannot be given more architectures now:"
            f" `{folder.command('status')}` shows it; call again when it has ended, or give another `--name`"
        )
    own = resumable_run(folder.url or folder.path.parent, folder.name, console.print)
    made = plan(submitted, config, *_read(own))  # which may be newer than what was read before, or a copy of it
    return made, own, execute(made.config, own, console) if made.trains else None


def _results(
    submitted: Sequence[Submitted], made: Plan, rows: Sequence[EvaluatedRow], status: Status | None
) -> list[dict[str, Any]]:
    by_id = {row.architecture_id: row for row in rows}
    known_ids = set(made.known)
    results: list[dict[str, Any]] = []
    for number, (each, architecture_id) in enumerate(zip(submitted, made.ids, strict=True)):
        if architecture_id is None:
            results.append(_result(None, each.source, INVALID, failure=made.faults[number]))
            continue
        row = by_id.get(architecture_id)
        if row is None or row.outcome is None:
            results.append(_result(architecture_id, each.source, PENDING, failure=_why_pending(status)))
            continue
        known = architecture_id in known_ids
        known_ids.add(architecture_id)
        results.append(_ended(architecture_id, each.source, row.child_id, row.outcome, known=known))
    return results


def _ended(architecture_id: str, source: str, child: int, outcome: Outcome, *, known: bool) -> dict[str, Any]:
    """Return the result of an architecture that was trained, or could not be after all."""
    if outcome.failure is None:
        status, metrics = "finished", {str(outcome.measure): outcome.metric, **outcome.measurements}
    else:
        status, metrics = INVALID if outcome.failure.cause is Cause.INVALID else "failed", {}
    return _result(
        architecture_id,
        source,
        status,
        known=known,
        child=child,
        metrics=metrics,
        parameters=outcome.parameters,
        flops=outcome.flops,
        seconds=outcome.seconds,
        cause=outcome.failure and str(outcome.failure.cause),
        failure=outcome.failure and outcome.failure.message,
    )


def _why_pending(status: Status | None) -> str:
    """Return why an architecture has not been trained yet, and what goes on."""
    assert status is not None
    why = f" ({status.message})" if status.message else ""
    again = "the same call goes on"
    if ceiling := status.used_up:
        again = f"a call with a higher `{ceiling.flag}` goes on"
    return f"it was not trained before the run has {status.state}{why}: {again}"


def _result(architecture_id: str | None, source: str, status: str, **known: Any) -> dict[str, Any]:
    """Return what is known of an architecture, as plain data.

    Its keys: `id`, the canonical one; `source`, where it was given; `status`: `finished`, `failed`, `invalid` (it
    cannot be trained) or `pending` (it was not trained yet); `known`, whether its outcome was known before; `child`,
    that was trained; `metrics` by name; `parameters`; `flops` of a forward pass; `seconds` of its training; `cause` and
    `failure`, the kind of its failure and the text.
    """
    facts = dict.fromkeys(("parameters", "flops", "seconds", "cause", "failure"))
    empty = {"known": False, "child": None, "metrics": {}, **facts}
    return {"id": architecture_id, "source": source, "status": status, **empty, **known}
