"""`nascluster doctor`: checks the cluster, and says why a search does not go on."""

from typing import Annotated

import tyro

from cluster.config.flags import Json, StoragePath, parse
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.storage.find_run import existing_run


def doctor(arguments: list[str]) -> int:
    """Carry out the command and give its exit status."""

    def doctor(
        name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help="A run's name.")] = None,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
    ) -> int:
        """Checks this machine and the cluster and, with NAME, says why that search does not go on."""
        from cluster.doctor.examine import examine
        from cluster.doctor.finding import as_json as in_json
        from cluster.doctor.finding import exit_status, text

        found = examine(storage_path, None if name is None else existing_run(storage_path, name))
        print(in_json(found) if as_json else text(found))
        return exit_status(found)

    return parse(doctor, arguments, "nascluster doctor", config=(tyro.conf.FlagCreatePairsOff,))
