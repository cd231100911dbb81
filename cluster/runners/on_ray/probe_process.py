"""A process of its own that asks a cluster, and that can be given up."""

import os
import subprocess
import sys
from collections.abc import Mapping


def ask(
    module: str, address: str, within_s: float, *, environment: Mapping[str, str] = os.environ, given: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """What `python -m MODULE ADDRESS` comes to, with the packages of this process.

    Args:
        module: it prints its answer, or ends with a status that is not 0.
        address: host:port of the cluster's head.
        within_s: the limit, seconds.
        environment: of the process, but for `PYTHONPATH`.
        given: what it reads from its standard input; `None`: this process's own.

    Raises:
        subprocess.TimeoutExpired: it was given up.
    """
    return subprocess.run(
        [sys.executable, "-m", module, address],
        input=given,
        env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
