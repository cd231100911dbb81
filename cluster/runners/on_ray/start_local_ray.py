"""Starts a Ray for this process alone, on this machine."""

import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import ray

from cluster.placement.versions import code_folders
from cluster.runners.on_ray.private_api import lean_nodes, reload_settings
from cluster.runners.on_ray.probe_head import ClusterError

TOO_SLOW = "timed out during startup"
"""Part of Ray's error for a node that was not up within its 30 s, for which it has no setting."""

WORKER_NICENESS = "RAY_worker_niceness"
"""The variable by which Ray's processes know how nice its workers are: 15 by default, so that others have the cores."""

RETRIES = {"RAY_raylet_client_connect_timeout_milliseconds": "20", "RAY_raylet_client_num_connect_attempts": "500"}
"""How often Ray's processes try to reach a socket that another one is about to open: for 10 s, as by default. A second
attempt only after a second, which is the default, delays each start of a process that comes too early by a second."""

SOCKET_BYTES = 107
"""Bytes that Linux allows in the path of a socket."""


MIN_OPEN_FILES, ENOUGH_OPEN_FILES = 128, 4096
"""Open files of a process with which a Ray on one machine starts (with 64 it does not), and with which it has room."""


def check_folder(environment: Mapping[str, str]) -> None:
    """Make sure that Ray can have its sockets and logs where the environment says.

    Raises:
        ClusterError: the folder cannot be made or written, or its path is too long or not in ASCII.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in environment), "RAY_TMPDIR")
    base = environment.get(variable, "/tmp")
    advice = "set RAY_TMPDIR to a short path of a folder that can be written, such as /tmp"
    if not base.isascii():
        raise ClusterError(f"{variable} is {base!r}, but Ray's folder must have a path in ASCII: {advice}")
    folder = Path(base) / "ray"
    socket = f"{folder.absolute()}/session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}/sockets/plasma_store"
    if len(socket) > SOCKET_BYTES:
        most = len(str(Path(base).absolute())) - (len(socket) - SOCKET_BYTES)
        raise ClusterError(
            f"{variable} is {base!r}, but the paths of Ray's sockets below it have at most {SOCKET_BYTES} bytes, which"
            f" leaves {most} for it: {advice}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(
            f"{variable} is {base!r}, but Ray's folder cannot be made there ({error.strerror}): {advice}"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ClusterError(f"{variable} is {base!r}, but Ray's folder there cannot be written: {advice}")


def allow_open_files() -> None:
    """Raise the limit on open files of this process, which its Ray inherits, as far as it may be.

    Raises:
        ClusterError: Ray cannot start with as few as are allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = ENOUGH_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= allowed >= MIN_OPEN_FILES:
        return
    if allowed < MIN_OPEN_FILES:
        raise ClusterError(
            f"a process may have {hard} files open here (`ulimit -n`), and Ray needs {MIN_OPEN_FILES}: allow it more,"
            f" such as {ENOUGH_OPEN_FILES}, or run without Ray (`--local`)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def module_folders() -> tuple[str, ...]:
    """Return where the processes of a Ray of our own look for modules first: our code, then the user's folders.

    Otherwise a `cluster.py` or `ps.py` in the user's current folder would hide ours from them.
    """
    script = os.path.dirname(os.path.realpath(sys.argv[0]))
    user = [*([script] if script in sys.path else []), os.getcwd()]
    return tuple(dict.fromkeys([*(str(folder.parent) for folder in code_folders()), *user]))


def start_ray(cores: int, report: Callable[[str], object], **options: Any) -> str:
    """Start a Ray that ends with this process; try a second time if it is not up in time, as on a busy machine.

    Its workers have this process's priority, unless the environment sets `WORKER_NICENESS`: beside other work on the
    machine they would hardly get a core.

    Args:
        cores: the cores that it may use.
        report: called with a sentence before the second try.
        options: further options of `ray.init`.

    Returns:
        Its address.

    Raises:
        ClusterError: it was not up in time, twice.
    """
    for name, value in {WORKER_NICENESS: "0", **RETRIES}.items():
        os.environ.setdefault(name, value)
    reload_settings()  # its processes read the token anew, and this one may hold that of an earlier Ray
    before = ray_processes()
    for last in (False, True):
        try:
            with lean_nodes():
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
            kill_processes(ray_processes() - before)  # Ray does not end the processes that it has started
            if TOO_SLOW not in str(error):
                raise
        if not last:
            report("Ray did not start within its 30 s, as this machine is busy; trying again ...")
    raise ClusterError("Ray did not start within its 30 s, twice: this machine is too busy, or has too little memory")


def ray_processes() -> set[int]:
    """Return the ids of this process's child processes that are Ray's; a user's other threads may start some, too."""
    found: set[int] = set()
    package = os.path.dirname(ray.__file__).encode()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile has no children
            for child in task.read_text().split():
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if package in command or command.startswith(b"ray::"):
                    found.add(int(child))
    return found


def kill_processes(processes: set[int]) -> None:
    """Send SIGKILL to the processes of these ids that still exist."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
