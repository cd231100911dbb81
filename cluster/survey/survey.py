"""Carries a survey out: every search that its folder lacks, several at one time, and the training of the winners."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cluster.compare.process_pool import in_processes
from cluster.config.flags import UsageError
from cluster.formatting import counted, duration
from cluster.placement.node_check import check_data
from cluster.runners.build import check_layout
from cluster.runners.interruption import interruptible
from cluster.runners.network_check import check_networks
from cluster.storage.locks import exclusive_within
from cluster.survey.files import CELLS, LOCK, RUNS, CellFiles, CellResult, check_asked
from cluster.survey.plan import Plan, Request, estimate
from cluster.survey.run_cell import CellJob, run_cell

Report = Callable[[str], object]
"""Called with a line for the user."""


def check_plan(plan: Plan) -> None:
    """Raise `ValueError` if a search cannot be made or its data is missing; nothing is written."""
    for cell in plan.cells:
        if cell.seed > 1:
            return
        check_data(cell.recipe.task)
        try:
            check_layout(cell.recipe, cell.name)
            check_networks(cell.recipe)
        except ValueError as error:
            raise UsageError(f"{cell.of}: {error}") from error


def carry_out(plan: Plan, folder: Path, processes: int, report: Report) -> dict[str, list[CellResult]]:
    """Run what the folder lacks, a line for each search that ends; return all results by the cell's kind, by seed.

    Args:
        plan: the survey.
        folder: of the survey; it is made if it does not exist.
        processes: searches at one time, each in a process of its own with one thread.
        report: called with a line for the user.

    Raises:
        UsageError: the folder has a survey of something else, or another process works in it.
        SurveyError: a file is damaged.
        CellFailed: a search has failed; the same command goes on.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a message on what is kept.
    """
    for made in (folder / RUNS, folder / CELLS):
        made.mkdir(parents=True, exist_ok=True)
    lock = exclusive_within(folder / LOCK, 0.0)
    if lock is None:
        raise UsageError(
            f"another process works on the survey in {folder}: wait for its end, or give another `--output`"
        )
    with closing(lock):
        check_asked(folder, asked(plan.request))
        return _run(plan, folder, processes, report)


def asked(request: Request) -> Mapping[str, Any]:
    """Return what may not change while a folder is used."""
    return {
        "task": request.task,
        "budget_s": request.budget_s,
        "retrain_epochs": request.epochs,
        "data": None if request.data is None else str(request.data),
    }


def _run(plan: Plan, folder: Path, processes: int, report: Report) -> dict[str, list[CellResult]]:
    files = {cell.name: CellFiles(folder / CELLS, cell.name) for cell in plan.cells}
    left = [cell for cell in plan.cells if files[cell.name].result() is None]
    total, begun = len(plan.cells), time.monotonic()
    done = total - len(left)
    if left:
        report(estimate(left, plan, processes))
    jobs = [
        CellJob(cell=cell, budget_s=plan.request.budget_s, epochs=plan.request.epochs, folder=str(folder))
        for cell in left
    ]
    waiting = [cell.name for cell in left]
    try:
        with interruptible(), closing(in_processes(run_cell, jobs, processes)) as running:
            for _ in running:
                for name in [name for name in waiting if files[name].result() is not None]:
                    waiting.remove(name)
                    done += 1
                    result = files[name].result()
                    assert result is not None
                    pace = (time.monotonic() - begun) / (done - total + len(left))
                    rest = f", about {duration(pace * (total - done))} left" if done < total else ""
                    report(f"{cell_text(result)}; {done} of {total}{rest}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted with {done} of {total} searches done, which are kept in {folder}, as is what the others have"
            " done: the same command goes on"
        ) from None
    return whole(plan, folder)


def whole(plan: Plan, folder: Path) -> dict[str, list[CellResult]]:
    """Return the results that are there, by the system's word or that of random search, in the order of the seeds."""
    found: dict[str, list[CellResult]] = {}
    for cell in plan.cells:
        result = CellFiles(folder / CELLS, cell.name).result()
        if result is not None:
            found.setdefault(cell.of, []).append(result)
    return found


def cell_text(result: CellResult) -> str:
    """Return what one search has given, in a line."""
    found = (
        f"best {100 * result.curve[-1][1]:.2f} % {'by score' if result.scored else 'validation'}, "
        if result.curve
        else ""
    )
    what = "validation" if result.by_validation else "test"
    reached = result.cause if result.accuracy is None else f"retrained {100 * result.accuracy:.2f} % {what}"
    size = "" if result.parameters is None else f" with {result.parameters:,} parameters"
    return (
        f"{result.of}, seed {result.seed}: {result.spent:.0f} core-seconds, {counted(result.children, 'child')},"
        f" {found}{reached}{size}"
    )
