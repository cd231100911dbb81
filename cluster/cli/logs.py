"""`nascluster logs`: a run's events, or the output of one child."""

import time
from typing import Annotated

import tyro

from cluster.cli.command import note_unknown, parse_command
from cluster.config.flags import Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.logs.reader import child_output, log_lines, output_lines
from cluster.monitoring.status import read_status, read_unknown
from cluster.storage.find_run import existing_run
from cluster.storage.starting import wait_for_run


def logs(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name,
        child: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="CHILD", help="A child's id.")] = None,
        *,
        attempt: Annotated[int | None, tyro.conf.arg(help="Only this attempt at the child, from 1.")] = None,
        follow: Annotated[bool, tyro.conf.arg(help="Print new events until the search ends, or Ctrl-C.")] = False,
        storage_path: StoragePath = DEFAULT_STORAGE,
    ) -> int:
        """Print the events of a search, one a line; with CHILD, what that child printed during training."""
        if child is None and attempt is not None:
            raise UsageError("`--attempt` needs a child: give the child's id, too")
        if child is not None and follow:
            raise UsageError(
                "`--follow` is for the run's events: a child's output is available once its attempt has ended"
            )
        if child is not None and not (child.isascii() and child.isdecimal()):
            raise UsageError(f"`CHILD` must be a child's id, a whole number, got {child!r}")
        folder = wait_for_run(storage_path, name, lambda _: None) if follow else existing_run(storage_path, name)
        note_unknown(read_unknown(folder))
        if child is not None:
            print("\n".join(output_lines(int(child), child_output(folder, int(child), attempt))))
            return 0
        if follow and folder.alive is not None:
            raise UsageError(f"`--follow` needs the driver on this machine, but that of {name!r} runs on another")

        def running() -> bool:
            return follow and read_status(folder, time.time()).state == "running"

        for line in log_lines(folder, running):
            print(line, flush=follow)
        return 0

    return parse_command("logs", run, arguments)
