"""Starts a Ray for this process alone, on this machine."""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from cluster.runners.on_ray.probe_head import ClusterError

TOO_SLOW = "timed out during startup"
"""Part of Ray's error for a node that was not up within its 30 s, for which it has no setting."""


def start_ray(cores: int, report: Callable[[str], object], **options: Any) -> str:
    """Start a Ray that ends with this process; try a second time if it is not up in time, as on a busy machine.

    Args:
        cores: the cores that it may use.
        report: called with a sentence before the second try.
        options: further options of `ray.init`.

    Returns:
        Its address.

    Raises:
        ClusterError: it was not up in time, twice.
    """
    before = _children()
    for last in (False, True):
        try:
            context: Any = ray.init(
                address="local",
                num_cpus=cores,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
            return context.address_info["address"]
        except Exception as error:  # Ray has no type of its own for it
            if TOO_SLOW not in str(error):
                raise
            for child in _children() - before:  # Ray does not end the processes that it has started
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        if not last:
            report("Ray did not start within its 30 s, as this machine is busy; trying again ...")
    raise ClusterError("Ray did not start within its 30 s, twice: this machine is too busy, or has too little memory")


def _children() -> set[int]:
    """Return the ids of this process's child processes."""
    children: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile has no children
            children.update(map(int, task.read_text().split()))
    return children
