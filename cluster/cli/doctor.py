"""`nascluster doctor`: checks the cluster, and says why a search makes no progress."""

from typing import Annotated

import tyro

from cluster.cli.command import parse_command
from cluster.config.flags import Json, StoragePath
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.storage.find_run import existing_run


def doctor(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help="A run's name.")] = None,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
    ) -> int:
        """Check this machine and the cluster and, with NAME, say why that search makes no progress."""
        from cluster.doctor.examine import examine
        from cluster.doctor.finding import as_json as in_json
        from cluster.doctor.finding import exit_status, text

        findings = examine(storage_path, None if name is None else existing_run(storage_path, name))
        print(in_json(findings) if as_json else text(findings))
        return exit_status(findings)

    return parse_command("doctor", run, arguments)
