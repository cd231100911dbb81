"""`nascluster compare`: searchers side by side, many seeds each, as a table and a page."""

import contextlib
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console

from child_trainer.atomic_file import write_output
from cluster.cli.command import parse_command
from cluster.cli.side_by_side import Processes, output_folder, process_count
from cluster.compare.comparison import plan_comparison, run_comparison, searchers_that_fit
from cluster.compare.markdown_table import markdown
from cluster.compare.page import page
from cluster.compare.plan import parse_limit, split_word
from cluster.compare.process_pool import SearchFailed
from cluster.compare.search_result import ResultError
from cluster.compare.standings import Summary
from cluster.config.flags import Open, UsageError, flag_groups, flag_of, split
from controller.catalogue import SEARCHERS

FAILED = 1
"""Exit status if a search raised an error, as of `nascluster launch`."""

Searchers = Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(metavar="SEARCHER", help="Names of `nascluster searchers`, or FILE.py:NAME; each may have options."),
]

Everything = Annotated[
    bool, tyro.conf.arg(name="all", help="Compare every searcher that can work on the space and task.")
]

Recipe = Annotated[str, tyro.conf.arg(help="The named run whose space, task and settings all searchers get.")]

BudgetText = Annotated[
    str,
    tyro.conf.arg(
        help="Budget of each search: children (500), or the sum of the training times in a table (12000s, 3h)."
    ),
]

Seeds = Annotated[int, tyro.conf.arg(help="Searches of each searcher; their seeds count up from --seed.")]

Output = Annotated[
    str | None,  # a path would read an empty text as the current folder
    tyro.conf.arg(metavar="PATH", help="The folder for the results; unset: compare-RECIPE-BUDGET here."),
]

OURS = ("--recipe", "--budget", "--seeds", "--output", "--processes")
"""This command's own flags that take a value."""

OURS_ALONE = ("--all", "--open", "--help", "-h")
"""This command's own flags that take no value."""

NAMING = ("--searcher", "--space", "--task", "--reward")
"""Flags of a run whose value is a name of its own."""


def compare(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    ours, flags = split(arguments, OURS, OURS_ALONE)

    def run(  # noqa: PLR0913  (all but the first are options)
        searchers: Searchers,
        *,
        recipe: Recipe,
        budget: BudgetText,
        everything: Everything = False,
        seeds: Seeds = 30,
        output: Output = None,
        processes: Processes = None,
        open_browser: Open = False,
    ) -> Callable[[], int]:
        """Compare searchers on one space and task, with equal budgets and seeds: a table, and an HTML page of curves.

        Random search is always included. A searcher can have its own options, named as the flags of `nascluster launch
        RECIPE`: reinforce:entropy-bonus=0.1,children=1. All other flags of that command (such as --data, --seed,
        --replicas, --population) can follow here, and apply to all searchers. Finished searches are kept: after
        Ctrl-C the same command resumes. With --all every searcher joins that can, and the others are named with why.
        With --objective (such as latency=min) searches of a table are also judged by the hypervolume of their front.
        """
        options = _Options(recipe, searchers, everything, budget, seeds, output, processes, open_browser)
        return lambda: _compare(options, flags)

    # The comparison starts after parsing, because `parse` captures what is printed to standard error.
    return parse_command("compare", run, ours)()


class _Options(NamedTuple):
    """The command's own options, without the flags of a run."""

    recipe: str
    searchers: tuple[str, ...]
    everything: bool
    budget: str
    seeds: int
    output: str | None
    processes: int | None
    open_browser: bool


def _compare(options: _Options, flags: Sequence[str]) -> int:
    _check_places(options, flags)
    if not (options.searchers or options.everything):
        raise UsageError("name the searchers to compare, such as `reinforce evolution`, or give `--all`")
    processes = process_count(options.processes)
    folder = output_folder(options.output, "compare", RECIPE=options.recipe, BUDGET=options.budget)
    limit = parse_limit(options.budget)
    console = Console(stderr=True, highlight=False)
    joining: list[str] = []
    if options.everything:
        joining, others = searchers_that_fit(options.recipe, flags, limit)
        for reason in dict.fromkeys(others.values()):
            names = ", ".join(name for name in others if others[name] == reason)
            console.print(f"Left out: {names}: {reason}", markup=False, soft_wrap=True)
    plan, table = plan_comparison(options.recipe, options.searchers, flags, options.seeds, limit, joining=joining)
    if not options.everything and len(plan.entrants) > len(options.searchers):
        console.print("Random search is added, as in every comparison")
    try:
        summary = run_comparison(plan, folder, processes, console, table)
    except SearchFailed as failed:
        _report_failure(failed, folder)
        return FAILED
    _write(folder, summary, options.open_browser)
    return 0


def _check_places(options: _Options, flags: Sequence[str]) -> None:
    """Raise `UsageError` if a searcher stands behind a flag of a run, of which it would be a value."""
    some = bool(options.searchers) or options.everything
    for flag, *values in flag_groups(flags):
        # The word next to a flag is its value as a rule: there are spaces with names of searchers.
        swallowed = values[1:] if some or flag_of(flag) in NAMING else values
        if word := next((word for word in swallowed if split_word(word)[0] in SEARCHERS), None):
            raise UsageError(f"put the searchers before the flags of a run, got {word!r} behind `{flag}`")


def _report_failure(failed: SearchFailed, folder: Path) -> None:
    """Print one sentence, and write the whole error into the folder."""
    error, where = folder / "error.txt", ""
    with contextlib.suppress(OSError):  # the disk may be what is wrong
        folder.mkdir(parents=True, exist_ok=True)
        error.write_text(failed.details)
        where = f", and the whole error is in {error}"
    print(f"nascluster: {failed}; the finished searches are kept in {folder}{where}", file=sys.stderr)


def _write(folder: Path, summary: Summary, show: bool) -> None:
    """Print the table, and write it and the page into the folder.

    Raises:
        ResultError: they cannot be written.
    """
    text = markdown(summary)
    files = {folder / "comparison.md": text, folder / "comparison.html": page(summary, time.time())}
    try:
        for path, content in files.items():
            write_output(path, content.encode())
    except OSError as error:
        raise ResultError(f"the comparison cannot be written into {folder}: {error.strerror}") from error
    print(text)
    for path in files:
        print(path)
    if show and not webbrowser.open((folder / "comparison.html").as_uri()):
        print("No browser could be opened: open the page yourself")
