"""`nascluster status`: shows a search's progress."""

import time
from typing import Annotated

import tyro
from rich.console import Console

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.config.flags import Json, Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.live_view import status_rows
from cluster.monitoring.status import Status, read_status
from cluster.monitoring.summary import best_parts
from cluster.storage.find_run import existing_run
from cluster.storage.run_folder import RunFolder
from cluster.storage.starting import wait_for_run


def status(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
        watch: Annotated[bool, tyro.conf.arg(help="Keep the panel updated until the search ends, or Ctrl-C.")] = False,
    ) -> int:
        """Show a search's progress, from any terminal, while it runs or afterwards."""
        if watch and as_json:
            raise UsageError("`--watch` shows a panel and `--json` prints an object: give one of them")
        folder = wait_for_run(storage_path, name, _report) if watch else existing_run(storage_path, name)
        progress = read(folder)
        if watch:
            from cluster.monitoring.watch import watch as watch_run

            progress = watch_run(lambda: read(existing_run(storage_path, name)), Console())
        if as_json:
            print(portable_json.dumps(progress.to_json(), indent=2))
            return 0
        print(f"{progress.name}: {progress.state}" + (f" ({progress.message})" if progress.message else ""))
        for label, text in status_rows(progress):
            print(f"  {label:9} {text}")
        best = progress.best
        if best and (lines := best_parts(existing_run(storage_path, name).read_known().config, best)):
            print("\n".join(["", f"best child: {best.child_id}", "", *lines[:-1]]))
        return 0

    return parse_command("status", run, arguments)


def _report(text: str) -> None:
    print(text, flush=True)


def read(folder: RunFolder) -> Status:
    """Read a search's present status."""
    return read_status(folder, time.time())
