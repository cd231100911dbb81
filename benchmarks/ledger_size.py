"""The size of a ledger of large graphs compared with version 4, and the time of searchers' reads.

    python -m benchmarks.ledger_size

The children are cell networks of some 300 nodes, as NASNet, AmoebaNet and DARTS have them, all of them distinct. The
file of version 4 is made by the first four migrations, with the rows that version wrote. The size is that of the file
after it was closed. Times are medians, of the processor.
"""

import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.command_words import words as command_words
from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.outcome import Outcome
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.schema import MIGRATIONS
from controller.searcher import Proposal

DISTINCT, PENDING, HISTORY = 1_000, 800, 10_000
CELLS, BLOCKS, FILTERS = 9, 5, 32
REPETITIONS = 5
KERNELS = (3, 5, 7)


def network(seed: int) -> Proposal:
    """Return a chain of cells, each of five blocks that add up the results of two operations on earlier outputs."""
    rng = random.Random(seed)
    tokens = tuple(rng.randrange(block + 2 if i % 2 == 0 else 5) for block in range(BLOCKS) for i in range(4))
    nodes = [node("stem", "conv", "image", height=3, width=3, filters=FILTERS), node("stem.bn", "batch_norm", "stem")]
    before = here = "stem.bn"
    for index in range(CELLS):
        cell, added = f"cell{index}", list[str]()
        outputs = [before, here]
        for block in range(BLOCKS):
            ends = []
            for side in (0, 1):
                source, operation = tokens[4 * block + 2 * side : 4 * block + 2 * side + 2]
                made = _operation(f"{cell}.block{block}.{side}", outputs[source], operation)
                nodes += made
                ends.append(made[-1].name if made else outputs[source])
            added.append(f"{cell}.block{block}")
            outputs.append(added[-1])
            nodes.append(node(added[-1], "add", ends))
        nodes.append(node(cell, "concat", added))
        nodes.append(node(f"{cell}.squeeze", "conv", cell, height=1, width=1, filters=FILTERS))
        before, here = here, f"{cell}.squeeze"
    architecture = Architecture("feedforward", tuple(nodes), (here,))
    return Proposal(tokens=tokens, architecture=architecture, log_prob=-20.5)


def _operation(name: str, source: str, operation: int) -> list[Node]:
    """Return a separable convolution, a pooling, or nothing (the identity)."""
    if operation >= len(KERNELS):
        return [node(name, "max_pool", source, height=3, width=3)] if operation == len(KERNELS) else []
    k = KERNELS[operation]
    return [
        node(f"{name}.relu", "relu", source),
        node(f"{name}.depthwise", "depthwise_conv", f"{name}.relu", height=k, width=k),
        node(f"{name}.pointwise", "conv", f"{name}.depthwise", height=1, width=1, filters=FILTERS),
        node(f"{name}.bn", "batch_norm", f"{name}.pointwise"),
    ]


def write(path: Path, proposals: Sequence[Proposal], ended: int) -> None:
    """Write a ledger of this version with the proposals as children, of which the first `ended` have ended."""
    with closing(Ledger(path, 0, len(proposals))) as ledger, ledger.together():
        for first in range(0, len(proposals), 8):
            ledger.admit(first // 8, 1, proposals[first : first + 8], (1, 2, 3))
        for child in range(1, ended + 1):
            curve = tuple(random.Random(child).random() for _ in range(20))
            ledger.finish(child, Outcome(curve=curve, seconds=60.5, parameters=10**6, flops=10**8, seed=child), 0.5)


def write_version_4(path: Path, proposals: Sequence[Proposal]) -> None:
    """Write the same children, none of which has ended, as version 4 did."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript("".join(MIGRATIONS[:4]))
        db.execute("BEGIN")
        for child, proposal in enumerate(proposals, start=1):
            db.execute(
                "INSERT INTO children (id, replica, batch, tokens, architecture, architecture_id, log_prob, seed,"
                " state, sampled_at) VALUES (?, ?, 1, ?, ?, ?, ?, ?, 'sampled', ?)",
                (child, (child + 7) // 8, json.dumps(proposal.tokens), json.dumps(proposal.architecture.to_json()),
                 proposal.architecture.id, proposal.log_prob, 2**62 + child, 1e9 + child),
            )  # fmt: skip
            if child % 8 == 1:
                db.execute(
                    "INSERT INTO batches (replica, number, versions, sampled_at) VALUES (?, 1, '[1, 2, 3]', ?)",
                    ((child + 7) // 8, 1e9 + child),
                )
        db.execute("COMMIT")


def seconds(action: Callable[[], object]) -> float:
    """Return the median processor time of the action, so that other work on the machine counts little."""
    times = []
    for _ in range(REPETITIONS):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return statistics.median(times)


def main() -> None:
    """Measure, and print the table."""
    distinct = [network(seed) for seed in range(DISTINCT)]
    nodes = statistics.mean(len(proposal.architecture.nodes) for proposal in distinct)
    ids = len({proposal.tokens for proposal in distinct})
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        write_version_4(folder / "old.sqlite", distinct)
        write(folder / "new.sqlite", distinct, 0)
        old, new = ((folder / name).stat().st_size for name in ("old.sqlite", "new.sqlite"))
        write(folder / "pending.sqlite", distinct[:PENDING], 0)
        with closing(Ledger(folder / "pending.sqlite", 0, PENDING)) as ledger:
            pending = seconds(ledger.pending)
        write(folder / "history.sqlite", [distinct[i % DISTINCT] for i in range(HISTORY)], HISTORY)
        with closing(Ledger(folder / "history.sqlite", 0, HISTORY)) as ledger:
            history = seconds(ledger.history)
    print(f"Graphs of {nodes:.0f} nodes on average, {ids:,} of {DISTINCT:,} distinct.\n")
    print("| what | measured | goal |\n|---|---|---|")
    print(f"| ledger of {DISTINCT:,} children, version 4 | {old / 2**20:.1f} MiB | |")
    print(f"| the same, this version | {new / 2**20:.1f} MiB | |")
    print(f"| how many times smaller | {old / new:.1f} | at least 16 |")
    print(f"| `pending()` of {PENDING} | {1e3 * pending:.0f} ms | below 50 ms |")
    print(f"| `history()` of {HISTORY:,} | {history:.2f} s | below 0.5 s |")


if __name__ == "__main__":
    command_words(__doc__)
    main()
