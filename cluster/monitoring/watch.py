"""A run watched from any terminal, its driver's or another, until it ends."""

import contextlib
import time
from collections.abc import Callable

from rich.console import Console

from cluster.monitoring.live_view import shown
from cluster.monitoring.status import Status


def watch(look: Callable[[], Status], console: Console) -> Status:
    """Show a run until it is not running any more, or Ctrl-C; its state then.

    Args:
        look: the run's state now; what it raises ends the watch.
        console: where to; a terminal gets the live panel, anything else lines.
    """
    status = look()
    with contextlib.suppress(KeyboardInterrupt), shown(console) as (view, show, pause_s):
        while status.state == "running":
            show(view(status))
            time.sleep(pause_s)
            status = look()
    return status
