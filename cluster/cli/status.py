"""`nascluster status`: where a search stands."""

import time
from typing import Annotated

import tyro
from rich.console import Console

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.config.flags import Json, Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.live_view import facts
from cluster.monitoring.status import Status, read_status
from cluster.storage.find_run import existing_run
from cluster.storage.run_folder import RunFolder


def status(arguments: list[str]) -> int:
    """Carry out the command and give its exit status."""

    def status(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
        watch: Annotated[bool, tyro.conf.arg(help="Keep showing it until the search ends, or Ctrl-C.")] = False,
    ) -> int:
        """Where a search stands, from any terminal, while it runs or after."""
        if watch and as_json:
            raise UsageError("`--watch` shows a panel and `--json` prints an object: give one of them")
        found = read(existing_run(storage_path, name))
        if watch:
            from cluster.monitoring.watch import watch as watched

            found = watched(lambda: read(existing_run(storage_path, name)), Console())
        if as_json:
            print(portable_json.dumps(found.to_json(), indent=2))
        else:
            print(f"{found.name}: {found.state}" + (f" ({found.message})" if found.message else ""))
            for label, text in facts(found):
                print(f"  {label:9} {text}")
        return 0

    return parse_command(status, arguments)


def read(folder: RunFolder) -> Status:
    """Read where a search stands now."""
    return read_status(folder, time.time())
