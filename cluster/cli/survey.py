"""`nascluster survey`: every system with one budget of processor time, beside random search, as a table and a page."""

import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from child_trainer import portable_json
from child_trainer.atomic_file import write_output
from cluster.cli.command import parse_command
from cluster.cli.side_by_side import Processes, output_folder, process_count
from cluster.config.flags import Json, Open, UsageError, values_of

if TYPE_CHECKING:
    from cluster.survey.standings import Summary

FAILED = 1
"""Exit status if a search failed, as of `nascluster launch`."""

Task = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK", help="digits, or fashion-mnist with --data.")]
BudgetText = Annotated[str, tyro.conf.arg(help="Time of one core for each search, such as 45s, 30m or 2h.")]
Seeds = Annotated[int, tyro.conf.arg(help="Searches of each system, with the seeds 1, 2 and so on.")]
Systems = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="SYSTEM ...", help="Only these systems, such as nas darts enas-macro; unset: all."),
]
Data = Annotated[str | None, tyro.conf.arg(metavar="DIR", help="Folder with the images, or its URL.")]
Download = Annotated[bool, tyro.conf.arg(help="Fetch images that the folder lacks.")]
Epochs = Annotated[
    int | None,
    tyro.conf.arg(help="Epochs for which each winner is trained; unset: 20 on digits, 5 on fashion-mnist."),
]
Output = Annotated[
    str | None,  # a path would read an empty text as the current folder
    tyro.conf.arg(metavar="PATH", help="The folder for runs and results; unset: survey-TASK-BUDGET here."),
]


def survey(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    if values_of(arguments, "--systems") == []:
        raise UsageError(
            "`--systems` needs systems to search with, such as nas darts; without the option all of them do"
        )

    def run(  # noqa: PLR0913  (all but the first are options)
        task: Task,
        *,
        budget: BudgetText = "30m",
        seeds: Seeds = 3,
        systems: Systems = (),
        data: Data = None,
        download: Download = False,
        retrain_epochs: Epochs = None,
        output: Output = None,
        processes: Processes = None,
        as_json: Json = False,
        open_browser: Open = False,
    ) -> Callable[[], int]:
        """Search with every system in its own space, all with the same time of a core, and retrain the winners alike.

        Each system is its small named run, and beside it is random search in the same space with the same budget and
        seed. The searches of the first seed come first. All that has ended is kept: after Ctrl-C or a kill the same
        command goes on, also within a search. At the end there is a table, and an HTML page with curves, the winners
        and what they took; the runs are in PATH/runs, for `nascluster report NAME --storage-path PATH/runs`.
        """

        def carry_out() -> int:
            from cluster.survey.plan import Request, make_plan, parse_budget

            request = Request(
                task=task,
                budget_s=parse_budget(budget),
                seeds=seeds,
                systems=systems,
                retrain_epochs=retrain_epochs,
                data=data,
                download=download,
            )
            folder = output_folder(output, "survey", TASK=task, BUDGET=budget)
            at_once = process_count(processes)
            from cluster.survey.run_cell import CellFailed
            from cluster.survey.standings import summarize
            from cluster.survey.survey import carry_out, check_plan, whole

            plan = make_plan(request)
            check_plan(plan)
            try:
                results = carry_out(plan, folder, at_once, lambda line: print(line, file=sys.stderr, flush=True))
            except CellFailed as failed:
                print(f"nascluster: {failed}", file=sys.stderr)
                return FAILED
            except KeyboardInterrupt:
                _write(folder, summarize(plan, whole(plan, folder)))
                raise
            _print(folder, _write(folder, summarize(plan, results)), as_json=as_json, show=open_browser)
            return 0

        return carry_out

    # It starts after parsing, because `parse` captures what is printed to standard error.
    return parse_command("survey", run, arguments)()


def _write(folder: Path, summary: "Summary") -> "Summary":
    """Write the table and the page of what is there into the folder; return the summary.

    Raises:
        OSError: they cannot be written.
    """
    from cluster.survey.page import page
    from cluster.survey.table import markdown

    files = {
        folder / "survey.html": page(summary, time.time()),
        folder / "survey.md": markdown(summary),
        folder / "results.json": f"{_json(summary)}\n",
    }
    for path, content in files.items():
        write_output(path, content.encode())
    return summary


def _json(summary: "Summary") -> str:
    return portable_json.dumps(summary.to_json(), indent=2)


def _print(folder: Path, summary: "Summary", *, as_json: bool, show: bool) -> None:
    from cluster.survey.table import text

    print(_json(summary) if as_json else text(summary))
    if not as_json:
        print(f"\n{folder / 'survey.html'}")
    if show and not webbrowser.open((folder / "survey.html").as_uri()):
        print("No browser could be opened: open the page yourself", file=sys.stderr)
