"""The time that a resume from an object store takes, by the number of children.

    python -m benchmarks.remote_resume [CHILDREN] [URL]

Makes a ledger of children with ten layers and 50 epochs each, stores it at the URL (default: a local folder), and
resumes it without a working copy. Prints a table; the goal is a whole resume of 100,000 children in less than 10
seconds.
"""

import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.command_words import words as command_words
from cluster.config.run_config import RunConfig
from cluster.monitoring.status import read_status
from cluster.storage.find_run import resumable_run, run_folder
from cluster.storage.ledger.graphs import GraphTable
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.reader import reading
from cluster.storage.object_store.ledger_segments import export
from cluster.storage.object_store.object_names import segments
from cluster.storage.object_store.store import open_storage
from cluster.storage.object_store.working_copy import driving
from cluster.storage.run_folder import RunFolder
from controller.decisions import uniform
from controller.spaces.convolutional import ConvolutionalSpace

LAYERS = 10
EPOCHS = 50


def fill(folder: RunFolder, children: int) -> None:
    """Write a ledger with this many finished children, eight per batch."""
    draws = random.Random(1)
    space = ConvolutionalSpace(initial_depth=LAYERS)
    tokens = uniform(space.decisions(0), random.Random(0))
    Ledger(folder.ledger, 0, children).close()
    db = sqlite3.connect(folder.ledger, isolation_level=None)
    db.execute("BEGIN")
    graph = GraphTable(db).add(space.decode(tokens))
    for child in range(1, children + 1):
        curve = [draws.random() for _ in range(EPOCHS)]
        outcome = json.dumps({"curve": curve, "seconds": 60.5, "parameters": 10**6, "flops": 10**8, "failure": None})
        db.execute(
            "INSERT INTO children (id, replica, batch, tokens, graph, architecture_id, log_prob, seed, state,"
            " sampled_at, ended_at, completion, reward, metric, seconds, outcome)"
            " VALUES (?, ?, ?, ?, ?, ?, -20.5, ?, 'finished', ?, ?, ?, ?, ?, 60.5, ?)",
            (child, child % 100, child // 800, json.dumps(draws.sample(tokens, len(tokens))), graph,
             f"{draws.getrandbits(64):016x}", draws.getrandbits(62), child, child + 60, child, curve[-1] ** 3,
             curve[-1], outcome),
        )  # fmt: skip
        db.execute(
            "INSERT INTO attempts (child, number, worker, key, started_at, ended_at, verdict, outcome)"
            " VALUES (?, 1, 'worker-1@10.0.0.1:4242', ?, ?, ?, 'outcome', ?)",
            (child, f"key-{child}", child, child + 60, outcome),
        )
        if child % 8 == 0:
            db.execute(
                "INSERT INTO batches (replica, number, versions, sampled_at, learned_at, pushed, staleness, figures)"
                " VALUES (?, ?, '[1, 2, 3]', ?, ?, 1, '[0, 0, 0]', '{}')",
                (child % 100, child // 8, child, child),
            )
    db.execute("COMMIT")
    db.close()


def timed(step: str, action: Callable[[], object]) -> float:
    """Run the action, print how long it took, and return the seconds."""
    started = time.perf_counter()
    action()
    seconds = time.perf_counter() - started
    print(f"{step:58} {seconds:7.2f} s")
    return seconds


def main() -> None:
    """Measure each step, and print the table."""
    children = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as directory:
        os.environ["HOME"] = f"{directory}/home"
        url = sys.argv[2] if len(sys.argv) > 2 else f"file://{directory}/store"
        config = RunConfig(storage_path=url, max_children=2 * children)
        folder = run_folder(url, "benchmark")
        made = RunFolder(Path(directory) / "made")
        made.create(config)
        fill(made, children)
        print(f"{children:,} children, a ledger of {made.ledger.stat().st_size / 1e6:.0f} MB, kept at {url}")

        def begin() -> None:
            with driving(folder, config, print, print):
                made.ledger.rename(folder.ledger)

        timed("the first copy of the whole ledger", begin)
        storage = open_storage(f"{url}/benchmark")
        stored = sum(len(storage.read(str(name)) or b"") for name in segments(storage.names()))
        print(f"{'its size':58} {stored / 1e6:7.1f} MB")
        Path(f"{directory}/home").rename(f"{directory}/gone")

        def drive(resumed_folder: RunFolder) -> None:
            with driving(resumed_folder, config, print, print):
                took.append(time.perf_counter() - started)

        resumed: list[RunFolder] = []
        took: list[float] = []
        whole = timed(
            "resume: restored to this machine", lambda: resumed.append(resumable_run(url, "benchmark", print))
        )
        whole += timed("resume: its status is read", lambda: read_status(resumed[0], time.time()))
        started = time.perf_counter()
        drive(resumed[0])
        whole += took[0]
        print(f"{'resume: claimed, and the base of the new start written':58} {took[0]:7.2f} s")
        print(f"{'resume: in all, until the search resumes':58} {whole:7.2f} s")
        with reading(resumed[0]) as db:
            assert db.execute("SELECT count(*) FROM children").fetchone() == (children,)
            (upto,) = db.execute("SELECT coalesce(max(revision), 0) FROM changes").fetchone()
        timed("an export without changes", lambda: export(resumed[0], upto))


if __name__ == "__main__":
    command_words(__doc__)
    main()
