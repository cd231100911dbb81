"""Searches that benchmarks keep as runs, so that the same command continues after an interruption."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.cli.main import run as nascluster
from cluster.monitoring.recorded_view import whole_view
from cluster.monitoring.status import read_status
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.reader import reading
from controller.searcher import ChildRecord


def children(folder: Path, name: str, seed: int, words: Sequence[str], count: int) -> Sequence[ChildRecord]:
    """Return the ended children of a search, in the order of their ends; what is missing of it is searched first.

    Exits if the search is stopped or fails before its end.

    Args:
        folder: where the runs are kept.
        name: of the run.
        seed: of the search.
        words: those of the command that starts it, without its name, seed, number of children and folder.
        count: children of the search.
    """
    run, place = run_folder(folder, name), ["--storage-path", str(folder)]
    with contextlib.redirect_stdout(sys.stderr):
        if not run.config.exists():
            flags = ["--seed", str(seed), "--max-children", str(count), "--name", name]
            code = nascluster([*words, *flags, *place])
        else:
            code = 0 if read_status(run, 0.0).state == "finished" else nascluster(["resume", name, *place])
    if code:
        sys.exit(f"the run {name!r} did not end: see {folder / name}")
    with reading(run) as db:
        return whole_view(db, seed).history()
