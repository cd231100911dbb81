"""`nascluster replay`: computes a finished run again, and compares it with its record."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.config.flags import Json, Name, StoragePath
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.formatting import counted
from cluster.storage.find_run import existing_run

if TYPE_CHECKING:
    from cluster.replay.result import Replayed

DIFFERS = 1
"""Exit status if a replay differs from the record."""


def replay(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(name: Name, *, storage_path: StoragePath = DEFAULT_STORAGE, as_json: Json = False) -> int:
        """Compute a finished search again, from its seed and the recorded order of arrivals, and compare.

        Children are not trained again: their outcomes are in the ledger. Exit status 1: the replay differs.
        """
        from cluster.replay.difference import Difference
        from cluster.replay.record import read_record
        from cluster.replay.replay import replay as replay_record

        folder = existing_run(storage_path, name, with_files=True)
        began = time.monotonic()
        try:
            found = replay_record(read_record(folder))
        except Difference as difference:
            _show_difference(folder.name, str(difference), as_json=as_json)
            return DIFFERS
        _show(folder.name, found, time.monotonic() - began, as_json=as_json)
        return 0

    return parse_command("replay", run, arguments)


def _show_difference(name: str, difference: str, *, as_json: bool) -> None:
    if as_json:
        print(portable_json.dumps({"name": name, "equal": False, "difference": difference}, indent=2))
    else:
        print(f"The replay of the run {name!r} differs from its record: {difference}")


def _show(name: str, found: "Replayed", seconds: float, *, as_json: bool) -> None:
    if as_json:
        print(portable_json.dumps({"name": name, "equal": True} | asdict(found), indent=2))
        return
    what = f"{counted(found.children, 'child')} in {counted(found.batches, 'batch')}"
    if found.shards:
        what += f", {counted(found.pushes, 'update')} on {counted(found.shards, 'shard')}"
    if found.restarts:
        what += f" with {counted(found.restarts, 'restart')}"
    if found.lost:
        what += f", {found.lost:,} lost and sent again"
    weights = " and the weights are equal to the bit" if found.shards else ""
    print(f"Replayed the run {name!r} in {seconds:.1f} s: {what}")
    print(f"Every sample, reward and version is as recorded{',' if weights else ''}{weights}")
