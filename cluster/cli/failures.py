"""`nascluster failures`: the attempts that failed, by cause."""

from typing import Annotated

import tyro

from cluster.cli.command import note_unknown, parse_command
from cluster.config.flags import Json, Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.failed_attempts import failure_lines, failures_json, read_failures
from cluster.monitoring.status import read_unknown
from cluster.storage.find_run import existing_run


def failures(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name,
        *,
        child: Annotated[int | None, tyro.conf.arg(help="Only this child, with the whole error.")] = None,
        last: Annotated[int, tyro.conf.arg(help="How many to print, the latest first.")] = 20,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
    ) -> int:
        """List the attempts that failed, by cause, with the error and its place."""
        if last < 1:
            raise UsageError(f"`--last` must be at least 1, got {last}")
        folder = existing_run(storage_path, name)
        attempts, unknown = read_failures(folder, child), read_unknown(folder)
        if as_json:
            print(failures_json(attempts, unknown))
        else:
            note_unknown(unknown)
            print("\n".join(failure_lines(attempts, last, whole=child is not None)))
        return 0

    return parse_command("failures", run, arguments)
