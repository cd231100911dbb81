"""One search of a survey, and the training of its winner, in this process; what is there is not done again."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from child_trainer.architectures.architecture import InvalidArchitecture
from cluster.config.run_checks import check_unchanged
from cluster.config.run_config import RunConfig
from cluster.finish.finish import Unfinished, finish
from cluster.finish.plan import FINAL
from cluster.finish.plan import Request as FinishRequest
from cluster.monitoring.status import Status, read_status
from cluster.runners.driver import execute
from cluster.runners.retraining import parse_launch
from cluster.search.seeding import derive
from cluster.storage.find_run import resumable_run, run_folder
from cluster.storage.ledger.queries.candidates import candidates
from cluster.storage.ledger.queries.children import ChildRow, all_children
from cluster.storage.ledger.reader import reading
from cluster.storage.removal import remove_folder
from cluster.storage.run_folder import RunFolder
from cluster.survey.files import CELLS, RUNS, CellFiles, CellResult, Mark
from cluster.survey.meter import Meter
from cluster.survey.plan import Cell, flags_of, retraining
from cluster.survey.schedules import Work, costs, fit_text, fitted, open_ended, probe, works

PROBE = "-probe"
"""What the name of a probe has behind that of the search."""

SHARE = 0.95
"""The part of what is left of the budget that a schedule is fitted to, so that it comes to its end."""

QUIET = Console(quiet=True)


class CellFailed(Exception):
    """A search or the training of its winner has failed; the message is one sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellJob:
    """A cell to run.

    Attributes:
        cell: what is to be done.
        budget_s: core-seconds of its search.
        epochs: of the training of its winner.
        folder: the survey's.
    """

    cell: Cell
    budget_s: float
    epochs: int
    folder: str


def run_cell(job: CellJob, stop_requested: Callable[[], bool]) -> None:
    """Search until the budget ends, train the winner, and keep the result; or go on with that where it ended.

    Nothing is kept as a result if a stop is requested before the end.

    Raises:
        CellFailed: a run has failed.
    """
    try:
        _run(job, stop_requested)
    except (ValueError, OSError) as error:
        raise CellFailed(f"{job.cell.name} has failed: {error}") from error


def _run(job: CellJob, stop_requested: Callable[[], bool]) -> None:
    files = CellFiles(Path(job.folder) / CELLS, job.cell.name)
    meter = Meter(files, job.budget_s, stop_requested)
    search = _searched(job, files, meter, stop_requested)
    if search is None:
        return
    spent = meter.spent
    with reading(search) as db:
        children = sorted(all_children(db), key=lambda child: child.ended_at or 0.0)
        found = candidates(db)
    states = [child.state for child in children]
    ended = {"finished", "failed"}.intersection(states)
    winner: dict[str, Any] = {"cause": f"no child has {'a metric' if ended else 'ended within the budget'}"}
    final = f"{job.cell.name}{FINAL}"
    training = Meter(CellFiles(files.folder, final), math.inf, stop_requested)
    if found:
        with training.watching(run_folder(_runs(job), final), counts=False):
            trained = _trained(job, search)
        if trained is None or stop_requested():
            return
        winner = trained
    files.put_result(
        CellResult(
            cell=job.cell.name,
            of=job.cell.of,
            seed=job.cell.seed,
            # A search that was over when it was looked at again has used nothing since.
            spent=files.marks()[-1].spent if files.marks() else spent,
            children=states.count("finished"),
            failed=states.count("failed"),
            ended="schedule" if read_status(search, time.time()).state == "finished" else "budget",
            fit=fit_text(search.read_config(), job.cell.recipe),
            curve=curve(children, files.marks()),
            scored=bool(found) and found[0].scored,
            architecture=winner.get("architecture"),
            parameters=winner.get("parameters"),
            accuracy=winner.get("accuracy"),
            by_validation=winner.get("by_validation", False),
            cause=winner.get("cause"),
            retrained_s=training.spent if found else 0.0,
        )
    )


def _runs(job: CellJob) -> str:
    return str(Path(job.folder) / RUNS)


def _searched(job: CellJob, files: CellFiles, meter: Meter, stop_requested: Callable[[], bool]) -> RunFolder | None:
    """Run the search to the end of its budget or of its schedule; return its folder, `None` if it is not over."""
    folder = run_folder(_runs(job), job.cell.name)
    if folder.ledger.exists():
        status = read_status(folder, time.time())
        if status.state == "finished" or meter.is_over:
            return folder
    else:
        config = _begun(job, files, meter, stop_requested)
        if config is None:
            return None
        _remove_earlier(folder)
        with meter.watching(folder):
            status = _executed(config, folder)
        return folder if status.state == "finished" or meter.is_over else None
    folder = resumable_run(_runs(job), job.cell.name, lambda _: None)
    config = folder.read_config()
    check_unchanged(config)
    with meter.watching(folder):
        status = _executed(config, folder)
    return folder if status.state == "finished" or meter.is_over else None


def _remove_earlier(folder: RunFolder) -> None:
    """Remove a run that is not gone on with: one that was killed before it began, or a probe, which is one piece."""
    if folder.path.exists():
        remove_folder(folder)


def _executed(config: RunConfig, folder: RunFolder) -> Status:
    status = execute(config, folder, QUIET)
    if status.state == "failed":
        raise CellFailed(
            f"the search {folder.name} has failed ({status.message}): the error is in {folder.error}, and the same"
            " command goes on"
        )
    if status.interrupted:
        raise KeyboardInterrupt
    return status


def _begun(job: CellJob, files: CellFiles, meter: Meter, stop_requested: Callable[[], bool]) -> RunConfig | None:
    """Return the search with a schedule for its budget, which a probe may have to tell; `None` if it is stopped."""
    cell = job.cell
    config = replace(cell.recipe, name=cell.name, storage_path=_runs(job))
    probing = probe(config)
    if probing is None:
        return open_ended(config)
    shown = files.probed()
    if shown is None:
        folder = run_folder(_runs(job), f"{cell.name}{PROBE}")
        _remove_earlier(folder)
        zero = meter.spent
        with meter.watching(folder, counts=False):
            _executed(replace(probing, name=folder.name), folder)
        if stop_requested():
            return None
        began = meter.begun_at or zero
        shown = {"fixed": began - zero, "units": _units(probing, folder, meter.spent - began)}
        files.put_probed(shown)
    left = job.budget_s - meter.spent - shown["fixed"]
    return fitted(config, shown["units"], SHARE * left) if shown["units"] else open_ended(config)


def _units(probing: RunConfig, folder: RunFolder, spent: float) -> dict[str, float]:
    """Return the core-seconds of a unit of each kind of work; none if the budget has ended the probe too early.

    A child's seconds are those of a clock, on a machine on which others may compute, too: all together are what the
    probe has spent.
    """
    with reading(folder) as db:
        rows = sorted(all_children(db), key=lambda child: child.child_id)
    todo: list[Work] = works(probing)
    done = [(work, row.seconds) for work, row in zip(todo, rows, strict=False) if row.seconds]
    if {work.kind for work, _ in done} != {work.kind for work in todo}:
        return {}
    share = spent / sum(seconds for _, seconds in done)
    return {kind: share * seconds for kind, seconds in costs(done).items()}


def curve(children: Sequence[ChildRow], marks: Sequence[Mark]) -> tuple[tuple[float, float], ...]:
    """Return the core-seconds at which a child was the best so far, and its metric, a higher one being better.

    A child has ended by the first mark that counts it.

    Args:
        children: in the order in which they have ended; others are left out.
        marks: of the search.
    """
    points: list[tuple[float, float]] = []
    ended = [child for child in children if child.state in ("finished", "failed")]
    place = 0
    for number, child in enumerate(ended, start=1):
        while place < len(marks) and marks[place].ended < number:
            place += 1
        if place == len(marks):
            break
        if child.metric is not None and (not points or child.metric > points[-1][1]):
            points.append((marks[place].spent, child.metric))
    return tuple(points)


def _trained(job: CellJob, search: RunFolder) -> dict[str, Any] | None:
    """Train the winner as all winners are trained; return what it reaches, or `None` if that was stopped."""
    budget = retraining(job.cell.recipe, job.epochs)
    # A seed that no search uses, of no more bits than a run's may have.
    flags = [*flags_of(budget), "--seed", str(derive(job.cell.seed, "the training of a survey's winners") >> 10)]
    if search.read_config().task.entry.spaces is None:
        return _tested(job, search, flags)
    return _validated(job, search, flags)


def _tested(job: CellJob, search: RunFolder, flags: Sequence[str]) -> dict[str, Any] | None:
    """Train the winner on all training images and test it once, as `nascluster finish` does."""
    request = FinishRequest(name=search.name, storage_path=_runs(job), top=1, grid=(), seeds=1, flags=flags)
    finished = finish(request, QUIET)
    if isinstance(finished, Unfinished):
        if finished.status.interrupted:
            raise KeyboardInterrupt
        return None
    ((network, (trained,)),) = finished.networks
    found = read_status(run_folder(_runs(job), finished.final), time.time()).best
    return {
        "architecture": network.architecture.to_json(),
        "parameters": found and found.parameters,
        "accuracy": trained.test,
        "cause": trained.cause if trained.test is None else None,
    }


def _validated(job: CellJob, search: RunFolder, flags: Sequence[str]) -> dict[str, Any] | None:
    """Train the winner on the training images, and judge it by the validation images, which have chosen it."""
    name = f"{search.name}{FINAL}"
    folder = run_folder(_runs(job), name)
    if folder.ledger.exists():
        config = resumable_run(_runs(job), name, lambda _: None).read_config()
    else:
        _remove_earlier(folder)
        words = ["--from-run", search.name, "--top", "1", "--name", name, "--storage-path", _runs(job), *flags]
        config, _ = parse_launch(job.cell.recipe, words, "RECIPE")
    status = read_status(folder, time.time()) if folder.ledger.exists() else None
    if status is None or status.state != "finished":
        status = _executed(config, folder)
    if status.state != "finished":
        return None
    best = status.best
    architecture = None
    if best is not None:
        with suppress(InvalidArchitecture):
            architecture = best.architecture.to_json()
    return {
        "architecture": architecture,
        "parameters": best and best.parameters,
        "accuracy": best and best.metric,
        "by_validation": True,
        "cause": None if best else "its training has failed",
    }
