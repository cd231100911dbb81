"""Runs a process that asks a cluster, and that can be stopped when it takes too long."""

import os
import subprocess
import sys
from collections.abc import Mapping


def run_probe(
    module: str,
    address: str,
    timeout_s: float,
    *,
    environment: Mapping[str, str] = os.environ,
    given: str | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ADDRESS` with the packages of this process, and return how it ended.

    With `-P`, or a file in the user's folder could hide one of these packages.

    Args:
        module: that prints its answer, or exits with a status other than 0.
        address: host:port of the cluster's head.
        timeout_s: for the process, seconds.
        environment: of the process, but for `PYTHONPATH`.
        given: its standard input; `None` for this process's own.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    return subprocess.run(
        [sys.executable, "-P", "-m", module, address],
        input=given,
        env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
