"""How a running search is displayed: a live panel in a terminal, periodic lines elsewhere."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from child_trainer.outcome import Cause, Measure
from cluster.formatting import counted, duration, metric_name, noun, number
from cluster.monitoring.final_scores import scores_text
from cluster.monitoring.status import FIRST, Status, read_status
from cluster.periodic import PeriodicThread
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.queries.continued import continued_text
from cluster.storage.ledger.queries.status import StoppedEarly
from cluster.storage.ledger.queries.supernet import SupernetTraining
from cluster.storage.run_folder import RunFolder

PANEL_INTERVAL_S = 0.5
"""Seconds between two updates of the live panel."""

HEARTBEAT_INTERVAL_S = 1.0
"""Seconds between two heartbeats in the ledger."""

LINE_INTERVAL_S = 5.0
"""Seconds between two lines where the output is not a terminal."""


def failures(status: Status) -> str:
    """Return how many children failed, and their causes."""
    causes = ", ".join(f"{count} {cause}" for cause, count in sorted(status.causes.items()))
    return f"{status.failed} failed" + (f" ({causes})" if causes else "")


def retries(status: Status) -> str:
    """Return how many attempts were retried, by cause, and how many were preempted; empty if none."""
    failed = {cause: count for cause, count in status.retried.items() if cause != Cause.PREEMPTED}
    parts = [f"{count} {cause}" for cause, count in sorted(failed.items())]
    text = f", {sum(failed.values())} retried ({', '.join(parts)})" if failed else ""
    preempted = status.retried.get(Cause.PREEMPTED)
    return text + (f", {preempted} preempted" if preempted else "")


def figure_texts(status: Status) -> str:
    """Return the figures that the searcher lists, after the last batch; empty before the first."""
    known = [figure for figure in status.listed if figure.name in status.figures]
    return ", ".join(figure.text(status.figures[figure.name]) for figure in known)


def best_text(status: Status) -> str:
    """Return the best child's metric, its id and its reward; a dash before one has finished."""
    best = status.best
    if best is None:
        return "-"
    return f"{metric_name(status.measure)} {number(best.metric)} (child {best.child_id}), reward {number(best.reward)}"


def stopped_text(stopped: StoppedEarly, saved: int) -> str:
    """Return how many children were stopped early, and what that has saved."""
    return f"{counted(stopped.children, 'child')} early, {counted(saved, 'epoch')} saved"


def supernet_text(training: SupernetTraining, measure: Measure) -> str:
    """Return how far the training of shared weights has come; scores of paths are in the task's measure."""
    means = f"loss {number(training.loss)}, training accuracy {number(training.accuracy)} (last {FIRST} children)"
    score = training.path_metric
    paths = "" if score is None else f", {metric_name(measure)} of paths {number(score)} (last {FIRST})"
    return f"{counted(training.steps, 'step')} of training, {means}{paths}"


def weights_text(training: SupernetTraining) -> str:
    """Return what the workers exchange with the shards of the shared weights, and how stale their steps are."""
    traffic = f"{training.bytes_per_s / 1e6:.2f} MB/s in {training.calls_per_s:.1f} calls/s"
    return traffic + ("" if training.staleness is None else f", staleness of steps mean {training.staleness:.1f}")


def status_rows(status: Status) -> list[tuple[str, str]]:
    """Return the rows of the display, each a name and a text."""
    staleness = status.staleness
    # The number may have been raised since, or the searcher may have come to its end.
    short = status.state == "finished" and 0 < status.ended < status.max_children
    children = f"{status.running} running, {status.finished} finished, {failures(status)}{retries(status)}"
    updates = f"{status.updates} applied"
    updates += f", staleness mean {staleness[0]:.1f}, max {staleness[1]}" if staleness else ""
    return [
        *([("goes on", f"from {continued_text(status.continues)}")] if status.continues else []),
        ("children", children + (f", of at most {status.max_children}" if short else "")),
        *([("stopped", stopped_text(status.stopped, status.epochs_saved))] if status.stopped else []),
        *([("supernet", supernet_text(status.supernet, status.measure))] if status.supernet else []),
        *([("weights", weights_text(status.supernet))] if status.supernet else []),
        *([("best", best_text(status))] if status.best else []),
        *([("test", scores_text(status.measure, status.tests))] if status.tests else []),
        ("reward", f"mean {number(status.recent_reward)} (last {FIRST})"),
        *([("unknown", status.unknown_text)] if status.unknown else []),
        *([("searcher", figures)] if (figures := figure_texts(status)) else []),
        # Steps on shared weights move the strengths too, so that some such searches push no update of their own.
        *([("updates", updates)] if status.updates or not status.supernet else []),
        ("workers", f"{status.busy} of {status.workers} busy"),
        *([("used", ", ".join(one.text for one in status.ceiling_list))] if status.used else []),
        (
            "time",
            duration(status.seconds) + (f", {status.time_left}" if status.time_left else ""),
        ),
    ]


def panel(status: Status) -> RenderableType:
    """Return the live panel."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for name, text in status_rows(status):
        table.add_row(name, text)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        f"[bold]{escape(status.name)}[/bold]  {status.state}",
        ProgressBar(total=status.max_children, completed=status.ended, width=40),
        f"{status.ended}/{status.max_children} {noun(status.max_children, 'child')}",
    )
    return Group(bar, table)


def line(status: Status) -> str:
    """Return the status in one line, for output that is not a terminal."""
    return f"[{status.ended}/{status.max_children}] " + " | ".join(
        f"{name}: {text}" for name, text in status_rows(status)
    )


View = Callable[[Status], RenderableType]
"""Renders a status."""

Show = Callable[[RenderableType], object]
"""Displays a rendered status."""


@contextmanager
def shown(console: Console) -> Iterator[tuple[View, Show, float]]:
    """Yield how to render a status, how to display it, and the seconds between two updates.

    A terminal gets the live panel, other output gets lines.
    """
    if not console.is_terminal:
        yield line, functools.partial(console.print, markup=False, highlight=False, soft_wrap=True), LINE_INTERVAL_S
        return
    live = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,  # what children print in this process is captured, so it cannot disturb the panel
        redirect_stderr=False,
    )
    with live:
        yield panel, functools.partial(live.update, refresh=True), PANEL_INTERVAL_S


class Progress:
    """Displays a run until the `with` block exits, and records heartbeats in its ledger.

    Args:
        folder: the run's folder.
        console: where to display; a terminal gets the live panel, other output lines; `None` displays nothing.
        beat: records a heartbeat; called every second, must return quickly, and may fail.
    """

    def __init__(self, folder: RunFolder, console: Console | None, beat: Callable[[], object]) -> None:
        self._folder = folder
        self._beat = beat
        self._stop = threading.Event()
        # Two threads: a terminal that fails must not stop the heartbeat.
        self._heartbeat = PeriodicThread(self._try_beat, HEARTBEAT_INTERVAL_S, name="heartbeat")
        self._view = None if console is None else threading.Thread(target=lambda: self._watch(console), daemon=True)

    def __enter__(self) -> Self:
        self._heartbeat.start()
        if self._view:
            self._view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._heartbeat.stop()
        if self._view:
            self._view.join()

    def _try_beat(self) -> None:
        # The ledger is locked, full or unavailable: its writer reports that, and the next heartbeat may succeed.
        with contextlib.suppress(Exception):
            self._beat()

    def _watch(self, console: Console) -> None:
        # Suppressed: the terminal or the pipe is gone; the search goes on.
        with contextlib.suppress(OSError), shown(console) as (view, show, pause_s):
            while not self._stop.wait(pause_s):
                show(self._render(view))

    def _render(self, view: View) -> RenderableType:
        """Return the rendered status, or why it cannot be read now; the next update may succeed."""
        try:
            return view(read_status(self._folder, time.time()))
        except (RunFolderError, LedgerError, OSError) as error:
            return Text(f"The run's state cannot be read now: {error}")
