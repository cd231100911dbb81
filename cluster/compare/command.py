"""`nascluster compare`: searchers side by side, many seeds each, as a table and a page."""

import contextlib
import os
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from child_trainer.durable_file import replace_durably
from child_trainer.tasks.table import Table
from child_trainer.tasks.tables import TABLES, load_table
from cluster.command_line import UsageError, known, parse, parse_run, split
from cluster.compare.page import page
from cluster.compare.plan import Limit, Plan, check_common, make_plan, most_children, parse_limit
from cluster.compare.results import Result, ResultError, Searches, searches
from cluster.compare.side_by_side import Job, SearchFailed, run_jobs
from cluster.compare.summary import Best, Summary, summarize
from cluster.compare.table import markdown
from cluster.node_data import local_data, located
from cluster.preflight import check_data, versions
from cluster.recipes import RECIPES

FAILED = 1
"""Exit status where a search came to an error, as of `nascluster launch`."""

Searchers = Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(metavar="SEARCHER", help="reinforce, evolution, local-search or random; or with options."),
]
Recipe = Annotated[str, tyro.conf.arg(help="The named run whose space, task and settings all have.")]
BudgetText = Annotated[
    str,
    tyro.conf.arg(
        help="Of each search: children (500), or, of a table, the sum of what it tells that they cost (12000s, 3h)."
    ),
]
Seeds = Annotated[int, tyro.conf.arg(help="Searches of each searcher, their seeds counted from --seed.")]
Output = Annotated[
    str | None,  # a path would take nothing for the current folder
    tyro.conf.arg(metavar="PATH", help="The folder that keeps all of it; unset: compare-RECIPE-BUDGET here."),
]
Processes = Annotated[int | None, tyro.conf.arg(help="Searches at one time; unset: one for each core.")]
Open = Annotated[bool, tyro.conf.arg(name="open", help="Show the page in a browser.")]

OURS = ("--recipe", "--budget", "--seeds", "--output", "--processes")
"""Flags that take a value and are no run's."""

OURS_ALONE = ("--open", "--help", "-h")


def compare(arguments: list[str]) -> int:
    """Carry out the command and give its exit status."""
    ours, flags = split(arguments, OURS, OURS_ALONE)

    def compare(
        searchers: Searchers,
        *,
        recipe: Recipe,
        budget: BudgetText,
        seeds: Seeds = 30,
        output: Output = None,
        processes: Processes = None,
        open_browser: Open = False,
    ) -> Callable[[], int]:
        """Searchers on one space and task, with one budget and the same seeds: a table, and curves on an HTML page.

        Random search is always among them. A searcher may have options of its own, by the names of the flags of
        `nascluster launch RECIPE`: reinforce:entropy-bonus=0.1,children=1. All other flags of that command (such as
        --data, --seed, --replicas, --population) may follow here, and are for all of them. What was finished is kept:
        after Ctrl-C the same command goes on.
        """
        options = _Options(recipe, searchers, budget, seeds, output, processes, open_browser)
        return lambda: _compare(options, flags)

    # What is said on the way would be taken for tyro's own words while that is parsing.
    return parse(compare, ours, "nascluster compare", config=(tyro.conf.FlagCreatePairsOff,))()


class _Options(NamedTuple):
    """What the command line says, but for the flags of a run."""

    recipe: str
    searchers: tuple[str, ...]
    budget: str
    seeds: int
    output: str | None
    processes: int | None
    open_browser: bool


def _compare(options: _Options, flags: Sequence[str]) -> int:
    if not options.searchers:
        raise UsageError("name the searchers that are to be compared, such as `reinforce evolution`")
    processes, folder = _processes(options.processes), _folder(options)
    limit = parse_limit(options.budget)
    plan, table = planned(options.recipe, options.searchers, flags, options.seeds, limit)
    console = Console(stderr=True)
    if len(plan.entrants) > len(options.searchers):
        console.print("Random search joins them, as in every comparison", highlight=False)
    try:
        summary = carried_out(plan, folder, processes, console, table)
    except SearchFailed as failed:
        _tell(failed, folder)
        return FAILED
    _write(folder, summary, options.open_browser)
    return 0


def _tell(failed: SearchFailed, folder: Path) -> None:
    """One sentence; the whole error goes into the folder."""
    error, where = folder / "error.txt", ""
    with contextlib.suppress(OSError):  # the disk may be what is wrong
        folder.mkdir(parents=True, exist_ok=True)
        error.write_text(failed.details)
        where = f", and the whole error is in {error}"
    print(f"nascluster: {failed}; the searches that were finished are kept in {folder}{where}", file=sys.stderr)


def planned(
    recipe: str, words: Sequence[str], flags: Sequence[str], seeds: int, limit: Limit
) -> tuple[Plan, Table | None]:
    """What is to be compared, checked as far as can be before anything is searched; and the task's table, if it is one.

    Raises:
        ValueError: something of it cannot be.
    """
    made = known(RECIPES, recipe, "recipe")()
    base = parse_run(made, list(flags), recipe)
    check_common(base, made)
    base = replace(base, local=True, task=replace(base.task, data=located(base.task.data)))
    plan = make_plan(recipe, base, words, seeds, limit)
    if limit.seconds is not None and base.task.task not in TABLES:
        raise UsageError(
            f"a budget in seconds needs a task that tells what a child costs ({', '.join(TABLES)}), and"
            f" {base.task.task!r} does not: use a budget in children"
        )
    table = None
    if base.task.task in TABLES:
        table = load_table(base.task.task, data=local_data(base.task.data))
    else:
        check_data(base.task)
    _check_entrants(plan)
    return plan if table is None or limit.seconds is None else _bounded(plan, table, limit.seconds), table


def _check_entrants(plan: Plan) -> None:
    """Raise `ValueError` if a searcher cannot be had with its options."""
    from cluster.local import check_locally
    from cluster.parts import check_layout

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


def _folder(options: _Options) -> Path:
    if options.output is not None and not options.output.strip():
        raise UsageError("`output` must be a folder, got nothing; without the option it is compare-RECIPE-BUDGET here")
    return Path(options.output or f"compare-{options.recipe}-{options.budget}").expanduser().absolute()


def _processes(wanted: int | None) -> int:
    if wanted is None:
        return len(os.sched_getaffinity(0))
    if not 1 <= wanted <= 1000:
        raise UsageError(f"`processes` must be 1 to 1000, got {wanted}")
    return wanted


def _write(folder: Path, summary: Summary, show: bool) -> None:
    """Print the table, and write it and the page into the folder.

    Raises:
        ResultError: they cannot be written.
    """
    text = markdown(summary)
    files = {folder / "comparison.md": text, folder / "comparison.html": page(summary, time.time())}
    try:
        for path, content in files.items():
            replace_durably(path, content.encode())
    except OSError as error:
        raise ResultError(f"the comparison cannot be written into {folder}: {error.strerror}") from error
    print(text)
    for path in files:
        print(path)
    if show and not webbrowser.open((folder / "comparison.html").as_uri()):
        print("There is no browser to show it: open the page yourself")
