"""`nascluster compare`: searchers side by side, many seeds each, as a table and a page."""

import contextlib
import os
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console

from child_trainer.atomic_file import write_output
from cluster.compare.comparison import plan_comparison, run_comparison
from cluster.compare.markdown_table import markdown
from cluster.compare.page import page
from cluster.compare.plan import parse_limit
from cluster.compare.process_pool import SearchFailed
from cluster.compare.search_result import ResultError
from cluster.compare.standings import Summary
from cluster.config.flags import UsageError, parse, split

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
    plan, table = plan_comparison(options.recipe, options.searchers, flags, options.seeds, limit)
    console = Console(stderr=True)
    if len(plan.entrants) > len(options.searchers):
        console.print("Random search joins them, as in every comparison", highlight=False)
    try:
        summary = run_comparison(plan, folder, processes, console, table)
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
            write_output(path, content.encode())
    except OSError as error:
        raise ResultError(f"the comparison cannot be written into {folder}: {error.strerror}") from error
    print(text)
    for path in files:
        print(path)
    if show and not webbrowser.open((folder / "comparison.html").as_uri()):
        print("There is no browser to show it: open the page yourself")
