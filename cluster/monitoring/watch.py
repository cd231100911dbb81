"""Watching a run from any terminal until it ends."""

import contextlib
import time
from collections.abc import Callable

from rich.console import Console

from cluster.monitoring.live_view import shown
from cluster.monitoring.status import Status


def watch(read: Callable[[], Status], console: Console) -> Status:
    """Display a run until it ends or Ctrl-C is pressed; return its last status.

    Args:
        read: returns the current status; its exceptions propagate.
        console: where to display; a terminal gets the live panel, other output lines.
    """
    status = read()
    with contextlib.suppress(KeyboardInterrupt), shown(console) as (view, show, pause_s):
        while status.state == "running":
            show(view(status))
            time.sleep(pause_s)
            status = read()
    return status
