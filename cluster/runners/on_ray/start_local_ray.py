"""A Ray of this process's own, on this machine alone."""

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
"""What Ray says of a node that was not there within its 30 s, for which it has no setting."""


def start_ray(cores: int, say: Callable[[str], object], **options: Any) -> str:
    """Start a Ray that ends with this process; a machine that is so busy that Ray's time passes is tried twice.

    Args:
        cores: the processors that it hands out.
        say: told what is done.
        options: more of `ray.init`'s.

    Returns:
        Its address.

    Raises:
        ClusterError: it was not there in time, twice.
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
            for child in _children() - before:  # Ray forgets what it has begun, which would go on
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        if not last:
            say("Ray did not start within its 30 s, as this machine is busy; trying once more ...")
    raise ClusterError("Ray did not start within its 30 s, twice: this machine is too busy, or has too little memory")


def _children() -> set[int]:
    """The processes that this one has begun."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile has no children
            found.update(map(int, task.read_text().split()))
    return found
