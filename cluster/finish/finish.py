"""Finishes a search: tries settings, trains the best networks for good, and tests each of them once."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from cluster.config.ceilings import left_of, used_up
from cluster.config.flags import UsageError
from cluster.export.export import earlier_export, export_child
from cluster.export.formats import ExportError
from cluster.finish.final_test import tested
from cluster.finish.judges import check_test_data, has_text
from cluster.finish.plan import FINAL, GRID, Network, Plan, Request, make_plan
from cluster.finish.result import Finished, Trained
from cluster.finish.stage import Stage, or_remove, unfinished_text
from cluster.monitoring.status import Status, read_status, read_used
from cluster.storage.errors import RunFolderError, RunMissing
from cluster.storage.find_run import check_new, existing_run, run_folder
from cluster.storage.ledger.queries.candidates import candidates
from cluster.storage.ledger.queries.final_tests import finished_networks
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.spaces.settings import SettingsSpace


class Unfinished(NamedTuple):
    """How a stage ended before all of its networks were trained; the same command goes on with it.

    Attributes:
        status: of the stage.
        text: a sentence on what is left.
    """

    status: Status
    text: str


def finish(request: Request, console: Console) -> Finished | Unfinished:
    """Try the settings, train the best networks for good, and test them; or go on with that where it ended.

    Args:
        request: what is asked.
        console: where progress is shown.

    Raises:
        RunFolderError: the search does not exist, is running, or has no network that could be trained for good.
        ValueError: what is asked is impossible, or not what an earlier command has begun; nothing was written.
    """
    search = _search(request)
    if read_status(search, time.time()).state == "running":
        raise UsageError(
            f"the run {search.name!r} is running, and its best networks may still change: wait for its end, or"
            f" `{search.command('stop')}`"
        )
    plan = make_plan(request, search)
    check_test_data(plan.base.task)  # missing data is reported now, rather than after days of training

    def report(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    grid = Stage(plan.grid, request.storage_path, report) if plan.grid else None
    open_fields = ("space_options",) if grid else ()
    final = Stage(plan.final(plan.networks), request.storage_path, report, open_fields)
    if grid and final.has_begun and not grid.is_whole:  # else nothing is trained before the networks are compared
        raise UsageError(
            f"the run {final.folder.name!r} has begun without this grid search: leave out `--grid`"
            f"{or_remove(final.folder)}"
        )
    for note in _notes(plan, request):
        report(note)
    try:
        networks = plan.networks
        if grid:
            status = grid.run(console)
            if text := unfinished_text(status, grid.folder):
                return Unfinished(status, text)
            grid.check_copied()
            networks = chosen(plan, grid)
            after = _after_grid(plan, networks, grid, request, report)
            if isinstance(after, str):
                return Unfinished(status, after)
            final = after
        status = final.run(console)
        if text := unfinished_text(status, final.folder):
            return Unfinished(status, text)
        final.check_copied()
        finished = _finished(plan, networks, final, report)
        return replace(finished, file=_exported(final.folder, finished.best, report))
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or "interrupted: the same command goes on") from interrupt


def _search(request: Request) -> RunFolder:
    """Return the folder of the search; raises `RunFolderError` if it is gone, with what is left of finishing it."""
    try:
        return existing_run(request.storage_path, request.name)
    except RunMissing as missing:
        try:
            final = existing_run(request.storage_path, f"{request.name}{FINAL}")
        except RunFolderError:
            raise missing from None
        raise RunFolderError(
            f"the run {request.name!r} is gone, without which no more of its networks can be trained or tested; those"
            f" of the run {final.name!r} are there: `{final.command('status')}` shows their tests, and"
            f" `{final.command('export')}` writes one as a file"
        ) from missing


def _after_grid(
    plan: Plan, networks: Sequence[Network], grid: Stage, request: Request, report: Callable[[str], object]
) -> Stage | str:
    """Return the final trainings, for which the grid search has left a part of each ceiling; a sentence if none."""
    config, ceilings = plan.final(networks), plan.base.ceilings
    final = Stage(config, request.storage_path, report)
    if final.is_whole:
        return final
    used = read_used(grid.folder, time.time())
    if ceiling := used_up(ceilings, used):
        return (
            f"the run {grid.folder.name!r} has used {ceiling.text}, and nothing is left for the final trainings: the"
            f" same command with a higher `{ceiling.flag}` goes on"
        )
    return Stage(replace(config, ceilings=left_of(ceilings, used)), request.storage_path, report)


def _notes(plan: Plan, request: Request) -> Iterator[str]:
    """Yield sentences that the user should read before anything is trained."""
    yield from plan.notes
    if plan.grid is None and (left_out := other_grid(request)) is not None:
        yield (
            f"`--grid` is left out: what the run {left_out.name!r} has found of settings is not used. The same command"
            " with its `--grid` uses it"
        )


def other_grid(request: Request) -> RunFolder | None:
    """Return the run of a grid search that an earlier command has begun, if there is one."""
    folder = run_folder(request.storage_path, f"{request.name}{GRID}")
    try:
        check_new(folder)
    except RunFolderError:
        return folder
    return None


def chosen(plan: Plan, grid: Stage) -> tuple[Network, ...]:
    """Return the networks with the settings that were best for each, the best network first.

    Which network is the best, the grid search says only if the search, too, was for the validation metric alone.

    Raises:
        RunFolderError: every training of the grid search has failed.
    """
    space = grid.config.search_space
    assert isinstance(space, SettingsSpace)
    with reading(grid.folder) as db:
        found = candidates(db)
    best: dict[int, Network] = {}
    for candidate in found:
        place = candidate.tokens[0]
        if place not in best:
            best[place] = replace(
                plan.networks[place],
                architecture=space.decode(candidate.tokens),
                settings=space.settings_of(candidate.tokens),
                validation=candidate.metric,
            )
    if not best:
        raise RunFolderError(
            f"every training of the run {grid.folder.name!r} has failed: `{grid.folder.command('failures')}` lists why"
        )
    places = best if plan.by_metric else sorted(best)
    return tuple(best[place] for place in places)


def _exported(folder: RunFolder, best: Trained | None, report: Callable[[str], object]) -> Path | None:
    """Return the file with a finished network; `None` if it cannot be written.

    A file that is there is written again, unless it has these weights and their test, and its README says so.
    The folder of a run in an object store is a copy, which would be lost with what is in it.
    """
    if best is None or folder.url is not None:
        return None
    try:
        return earlier_export(folder, best.child_id) or export_child(folder, best.child_id).file
    except ExportError as error:
        report(f"The network is not exported: {error}")
        return None


def _finished(plan: Plan, networks: Sequence[Network], final: Stage, report: Callable[[str], object]) -> Finished:
    """Test the networks, and return them with their tests."""
    tests, seen = tested(final.folder, final.config, report), final.config.task.all_training
    with reading(final.folder) as db:
        children = finished_networks(db)
    trained: list[list[Trained]] = [[] for _ in networks]
    for child in children:
        test = tests.by_child.get(child.child_id)
        cause = "not tested" if child.child_id in tests.untested else (test and test.fault) or child.cause
        one = Trained(
            child_id=child.child_id, test=test and test.metric, cause=cause, validation=None if seen else child.metric
        )
        trained[child.tokens[0]].append(one)
    kept, data = {network.child_id for network in networks}, "test text" if has_text(plan.base.task) else "test images"
    return Finished(
        search=plan.search.name,
        final=f"{plan.search.name}{FINAL}",
        epochs=final.config.budget.epochs,
        measure=plan.base.measure,
        data=data,
        examples=next((test.examples for test in tests.by_child.values()), None),
        by_metric=plan.by_metric,
        networks=list(zip(networks, trained, strict=True)),
        dropped=[network for network in plan.networks if network.child_id not in kept],
        export=final.folder.command("export"),
        untested=(
            *tests.untested.values(),
            *(
                f"child {test.child_id} of the run {final.folder.name!r} has looked at the {data}, and reached"
                f" nothing: {test.fault}"
                for test in tests.by_child.values()
                if test.fault is not None
            ),
        ),
    )
