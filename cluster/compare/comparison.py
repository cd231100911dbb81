"""Plans a comparison, checks it before anything is searched, and carries it out."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from child_trainer.tasks.catalogue import load_table, names_of
from child_trainer.tasks.lookup_table import Table
from cluster.compare.plan import Limit, Plan, check_common, make_plan, most_children, searcher_flags
from cluster.compare.results import Result, ResultError, Searches, searches
from cluster.compare.side_by_side import Job, run_jobs
from cluster.compare.summary import Best, Summary, summarize
from cluster.config.flags import UsageError, flags_among, flags_not_among, parse_run
from cluster.config.recipes import find_recipe
from cluster.placement.node_check import check_data
from cluster.placement.versions import versions
from cluster.storage.dataset_cache import local_data, located


def planned(
    recipe: str, words: Sequence[str], flags: Sequence[str], seeds: int, limit: Limit
) -> tuple[Plan, Table | None]:
    """What is to be compared, checked as far as can be before anything is searched; and the task's table, if it is one.

    Raises:
        ValueError: something of it cannot be.
    """
    made = find_recipe(recipe)()
    of_searchers = searcher_flags(words)
    base = parse_run(made, flags_not_among(flags, of_searchers), recipe)
    check_common(base, made)
    base = replace(base, local=True, task=replace(base.task, data=located(base.task.data)))
    plan = make_plan(recipe, base, words, seeds, limit, flags_among(flags, of_searchers))
    if limit.seconds is not None and base.task.entry.family != "table":
        raise UsageError(
            f"a budget in seconds needs a task that tells what a child costs ({', '.join(names_of('table'))}), and"
            f" {base.task.task!r} does not: use a budget in children"
        )
    table = None
    if base.task.entry.family == "table":
        with base.task.own_file():
            table = load_table(base.task.task, data=local_data(base.task.data))
    else:
        check_data(base.task)
    _check_entrants(plan)
    return plan if table is None or limit.seconds is None else _bounded(plan, table, limit.seconds), table


def _check_entrants(plan: Plan) -> None:
    """Raise `ValueError` if a searcher cannot be had with its options."""
    from cluster.runners.build import check_layout
    from cluster.runners.local import check_locally

    for entrant in plan.entrants:
        check_locally(entrant.config)
        try:
            check_layout(entrant.config, "compared")
        except ValueError as error:
            raise UsageError(f"{entrant.label!r}: {error}") from error


def _bounded(plan: Plan, table: Table, seconds: float) -> Plan:
    """The same with a bound on children, without which a table with costs of 0 would never end a search."""
    costs = [answer.seconds for answer in table.answers.values()]
    if seconds < max(costs):
        raise UsageError(f"`budget` must pay for any child, of which the dearest costs {max(costs):.1f} s")
    most = most_children(seconds, min(costs))
    return replace(plan, entrants=tuple(replace(e, config=replace(e.config, max_children=most)) for e in plan.entrants))


def carried_out(plan: Plan, folder: Path, processes: int, console: Console, table: Table | None = None) -> Summary:
    """The comparison, its searches done as far as the folder has not got them.

    Args:
        plan: what is compared.
        folder: what keeps the searches.
        processes: that search at one time.
        console: for the bar that shows how far it is.
        table: of the task, if it is one.

    Raises:
        ResultError: a result cannot be kept or read.
        SearchFailed: a search did; what was finished is kept.
        KeyboardInterrupt: saying what is kept.
    """
    code = [versions().code, versions().torch]
    kept = {entrant.label: searches(folder, entrant, plan.limit, code) for entrant in plan.entrants}
    jobs = [
        Job(label=entrant.label, config=replace(entrant.config, seed=seed), limit=plan.limit, kept=kept[entrant.label])
        for seed in plan.seeds
        for entrant in plan.entrants
        if kept[entrant.label].read(seed) is None
    ]
    whole = len(plan.seeds) * len(plan.entrants)
    columns = (TextColumn("Searches"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = whole - len(jobs)
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            shown = bar.add_task("", total=whole, completed=done)
            with closing(run_jobs(jobs, processes)) as running:
                for _ in running:
                    done += 1
                    bar.update(shown, completed=done)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted with {done} of {whole} searches done, which are kept in {folder}: the same command goes on"
        ) from None
    results = {label: [_read(where, seed) for seed in plan.seeds] for label, where in kept.items()}
    return summarize(plan, results, table and best_of_table(table))


def best_of_table(table: Table) -> Best:
    """What the table has."""
    better = min if table.measure.lower_is_better else max
    tests = [answer.test for answer in table.answers.values() if answer.test is not None]
    return Best(
        metric=better(answer.metric for answer in table.answers.values()),
        test=better(tests) if tests else None,
        measured=sum(not answer.estimated for answer in table.answers.values()),
        known=len(table.answers),
    )


def _read(where: Searches, seed: int) -> Result:
    found = where.read(seed)
    if found is None:
        raise ResultError(f"{where.file(seed)} has gone while the comparison went on; the same command does it again")
    return found
