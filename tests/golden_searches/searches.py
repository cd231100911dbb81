"""Six recorded searches, and what of a ledger must come out the same after a change that is to change nothing.

`python -m tests.golden_searches.searches NAME ...` records them again (without a name: all of them), next to this file.
The records without a further word are of an AMD EPYC with AVX-512. Where another processor gives other last bits, its
own are in files such as `digits.xeon.json`, which `--on xeon` writes.
"""

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cluster.storage.ledger.graphs import unpack

HERE = Path(__file__).parent

VERSION_4 = HERE / "version-4"
"""What the last version with graphs in the ledger's rows wrote: configurations, ledgers, and a run that was stopped."""

SEARCHES: Mapping[str, Sequence[str]] = {
    "digits": ["digits", "--max-children", "12", "--epochs", "3", "--seed", "3"],
    "fashion-mnist": [
        *("fashion-mnist", "--data", "{data}/fashion-mnist", "--max-children", "4", "--epochs", "1"),
        *("--train-fraction", "0.01", "--replicas", "1", "--children", "2", "--shards", "3", "--seed", "5"),
    ],
    "text-rnn": [
        *("text-rnn", "--max-children", "4", "--epochs", "1", "--train-fraction", "0.1", "--replicas", "1"),
        *("--children", "2", "--seed", "2"),
    ],
    "synthetic-stream": [
        *("synthetic", "--batching", "stream", "--max-children", "60", "--replicas", "2", "--children", "3"),
        *("--accumulate", "2", "--entropy-bonus", "0.01", "--importance-clip", "2", "--seed", "1"),
    ],
    "nasbench201-evolution": [
        *("nasbench201", "--data", "{data}/nasbench201", "--searcher", "evolution", "--population", "10"),
        *("--tournament", "3", "--max-children", "80", "--seed", "4"),
    ],
    "nasbench201-local-search": [
        *("nasbench201", "--data", "{data}/nasbench201", "--searcher", "local-search", "--max-children", "80"),
        *("--seed", "6"),
    ],
}
"""The command line of each, after `nascluster launch`; `{data}` is the folder with the real data."""

SAME_EVERYWHERE = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""Environment in which PyTorch computes alike on most x86-64 processors: no vectors that only some have.

What is left are sums in blocks whose size follows the processor's caches.
"""

RESUMED = "digits-resumed"
"""The name of what comes out where one processor goes on with what another has begun."""


def run(name: str, storage: Path, data: Path | None) -> Path:
    """Carry out one of the searches in a process of its own; its folder."""
    words = [word.replace("{data}", str(data)) for word in SEARCHES[name]]
    return _nascluster("launch", *words, "--local", "--name", name, storage=storage) / name


def resume(name: str, storage: Path) -> Path:
    """Go on with one of the searches; its folder."""
    return _nascluster("resume", name, storage=storage) / name


def _nascluster(*words: str, storage: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "cluster", *words, "--storage-path", str(storage)],
        env=os.environ | SAME_EVERYWHERE,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return storage


def record(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Everything in a run's ledger but times, as JSON gives it back."""
    with closing(sqlite3.connect(f"file:{folder}/ledger.sqlite?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        (version,) = db.execute("PRAGMA user_version").fetchone()
        children = [_child(row) for row in db.execute(CHILDREN if version >= 8 else CHILDREN_4)]
        attempts = [dict(row) for row in db.execute(ATTEMPTS)]
        batches = [_batch(row) for row in db.execute(BATCHES)]
    return {"children": children, "attempts": attempts, "batches": batches}


CHILDREN_4 = """
SELECT id, replica, batch, tokens, architecture, architecture_id, log_prob, seed, state, completion, reward, metric,
    parameters, flops, cause, batch_size, versions, json_extract(outcome, '$.curve') AS curve
FROM children ORDER BY id
"""
"""Of a ledger of version 4, with the graph in the child's row."""

CHILDREN = CHILDREN_4.replace(
    " architecture,",
    " (SELECT architectures.graph FROM architectures WHERE graph_id = children.graph) AS architecture,",
)

ATTEMPTS = "SELECT child, number, slot, batch_size, verdict, cause FROM attempts ORDER BY child, number"

BATCHES = "SELECT replica, number, versions, pushed, staleness, figures FROM batches ORDER BY replica, number"


def _child(row: sqlite3.Row) -> dict[str, Any]:
    child = dict(row) | {name: json.loads(row[name] or "null") for name in ("tokens", "versions", "curve")}
    if child["curve"] is None and row["metric"] is not None:
        child["curve"] = [row["metric"]]  # which is not written twice
    stored = row["architecture"]
    graph = json.dumps(json.loads(stored) if isinstance(stored, str) else unpack(stored), sort_keys=True)
    return child | {"architecture": hashlib.sha256(graph.encode()).hexdigest()[:16]}


def _batch(row: sqlite3.Row) -> dict[str, Any]:
    return dict(row) | {name: json.loads(row[name] or "null") for name in ("versions", "staleness", "figures")}


def recorded(name: str) -> list[dict[str, list[dict[str, Any]]]]:
    """What was recorded of a search, on each kind of processor."""
    return [json.loads(file.read_text()) for file in sorted(HERE.glob(f"{name}.*json"))]


def go_on(folder: Path) -> Path:
    """Go on with the search `digits` that the last version with graphs in the ledger's rows has begun; its folder."""
    shutil.copytree(VERSION_4 / "digits-stopped", folder / "digits")
    return resume("digits", folder)


def main(arguments: Sequence[str]) -> None:
    """Record these searches."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[*SEARCHES])
    parser.add_argument("--on", help="the kind of processor")
    given = parser.parse_args(arguments)
    data = Path(os.environ["NASCLUSTER_DATA"])
    for name in given.names:
        with tempfile.TemporaryDirectory() as storage:
            found = record(go_on(Path(storage)) if name == RESUMED else run(name, Path(storage), data))
        lines = [f'"{table}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for table, rows in found.items()]
        file = HERE / (f"{name}.{given.on}.json" if given.on else f"{name}.json")
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(name, len(found["children"]), "children")


if __name__ == "__main__":
    main(sys.argv[1:])
