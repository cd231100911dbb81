"""`nascluster children`: all children of a search, for people and for programs."""

import sys
from typing import Annotated

import tyro

from cluster.cli.command import note_unknown, parse_command
from cluster.config.flags import Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.child_list import Form, child_lines
from cluster.monitoring.status import read_unknown
from cluster.storage.find_run import existing_run

Csv = Annotated[bool, tyro.conf.arg(name="csv", help="Print CSV, a child a line, with all values.")]
Json = Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object, a child a line, with all values.")]


def children(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name, *, storage_path: StoragePath = DEFAULT_STORAGE, as_csv: Csv = False, as_json: Json = False
    ) -> int:
        """List all children of a search: state, metric, size, seconds, decisions, parents and failure; times in UTC."""
        if as_csv and as_json:
            raise UsageError("`--csv` and `--json` are two forms of one list: give one of them")
        form: Form = "json" if as_json else "csv" if as_csv else "text"
        folder = existing_run(storage_path, name)
        if form != "json":
            note_unknown(read_unknown(folder))
        for line in child_lines(folder, form):
            sys.stdout.write(f"{line}\n")
        return 0

    return parse_command("children", run, arguments)
