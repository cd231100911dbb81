"""A run watched from any terminal, its driver's or another, until it ends."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from cluster.progress import LINE_S, LIVE_S, line, panel
from cluster.status import Status


def watch(look: Callable[[], Status], console: Console) -> Status:
    """Show a run until it is not running any more, or Ctrl-C; its state then.

    Args:
        look: the run's state now; what it raises ends the watch.
        console: where to; a terminal gets the live panel, anything else lines.
    """
    status = look()
    with contextlib.suppress(KeyboardInterrupt), _shown(console) as show:
        while status.state == "running":
            time.sleep(show(status))
            status = look()
    return status


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Status], float]]:
    """What shows a state and gives the seconds for which that is enough."""
    if not console.is_terminal:

        def say(status: Status) -> float:
            console.print(line(status), markup=False, highlight=False, soft_wrap=True)
            return LINE_S

        yield say
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(status: Status) -> float:
            live.update(panel(status), refresh=True)
            return LIVE_S

        yield show
