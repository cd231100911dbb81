"""`nascluster list`: the runs of a storage path."""

import time

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.config.flags import Json, StoragePath
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.run_list import lines, place_of, read_rows


def list_runs(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(*, storage_path: StoragePath = DEFAULT_STORAGE, as_json: Json = False) -> int:
        """List all runs of a storage path: recipe, state, children, best, start and size; damaged ones, too."""
        rows = read_rows(storage_path, time.time())
        if as_json:
            data = {"storage_path": place_of(storage_path), "runs": [row.to_json() for row in rows]}
            print(portable_json.dumps(data, indent=2))
        else:
            print("\n".join(lines(rows, storage_path)))
        return 0

    return parse_command("list", run, arguments)
