"""`nascluster stop`: stops a search once the children in training have ended."""

import time
from typing import Annotated

import tyro

from cluster.cli.command import parse_command
from cluster.cli.status import read
from cluster.config.flags import Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.storage.find_run import existing_run, request_stop


def stop(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        no_wait: Annotated[bool, tyro.conf.arg(help="Request the stop, and do not wait for it.")] = False,
    ) -> int:
        """Stop a search once the children in training have ended, or saved their state (--checkpoint-children)."""
        folder = existing_run(storage_path, name)
        status = read(folder)
        if status.state != "running":
            raise UsageError(f"the run {name!r} is not running: it has {status.state}")
        request_stop(folder)
        try:
            print(f"{name}: stop requested; children in training: {status.running}", flush=True)
            while not no_wait and status.state == "running":
                time.sleep(0.5)
                status = read(
                    existing_run(storage_path, name)
                )  # which copies it again if the driver is on another machine
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted, but the stop of the run {name!r} stays requested: `{folder.command('status')}` shows it"
            ) from None
        if not no_wait:
            print(f"{name}: {status.state}" + (f" ({status.message})" if status.message else ""))
        if status.state == "stopped":
            print(f"Resume with: {folder.command('resume')}")
        return 0

    return parse_command("stop", run, arguments)
