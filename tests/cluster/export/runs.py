"""A run with children that were trained for a few steps on digits, two of which have their weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.outcome import Budget, Outcome
from child_trainer.regime import Regime
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.train import train
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.pool.child_weights import ChildWeightsSlot, WeightsFolder
from cluster.storage.ledger.graphs import GraphTable
from cluster.storage.run_folder import RunFolder
from tests.cluster.report.ledgers import START, ledger, new_run

BUDGET = Budget(epochs=1, train_fraction=0.2, regime=Regime(norm_epsilon=0.05))
"""A constant of batch normalisation that is not PyTorch's, so that an export without it would be seen."""


def network(filters: int) -> Architecture:
    """Odd paddings, both pools, normalisation, what is only there in training, and an auxiliary head."""
    nodes = (
        node("stem", "conv", "image", filters=filters, height=3, width=3, order="conv-bn-relu"),
        node("mean", "avg_pool", "stem", height=2, width=2, stride_height=1, stride_width=1),
        node("most", "max_pool", "stem", height=3, width=3, stride_height=1, stride_width=1),
        node("path", "drop_path", "mean", depth=0.5),
        node("sum", "add", ["path", "most"]),
        node("local", "local_contrast_norm", "sum", size=3),
        node(
            "end", "depthwise_conv", "local", height=3, width=3, stride_height=2, stride_width=2, order="relu-conv-bn"
        ),
        node("side", "conv", "stem", filters=2, height=1, width=1),
    )
    return Architecture("feedforward", nodes, ("end", "side"))


def trained_run(storage: Path, name: str = "demo", filters: Sequence[int] = (3, 4, 2)) -> RunFolder:
    """A run whose first two children have weights: the best one of all, by its reward, is the last and has none."""
    folder = new_run(storage, name, RunConfig(task=TaskOptions(task="digits"), searcher="random", budget=BUDGET))
    task = load_task("digits")
    rows = []
    for child, width in enumerate(filters, start=1):
        slot = ChildWeightsSlot(WeightsFolder(folder.child_weights), child) if child < len(filters) else None
        rows.append((child, network(width), train(network(width), task, BUDGET, seed=child, keep=slot)))
    write_children(folder, rows)
    return folder


def write_children(folder: RunFolder, rows: Sequence[tuple[int, Architecture, Outcome]]) -> None:
    """Record finished children, whose rewards are their ids."""
    with ledger(folder) as db:
        graphs = GraphTable(db)
        db.executemany(
            "INSERT INTO children (id, replica, batch, tokens, graph, architecture_id, seed, state, sampled_at,"
            " ended_at, completion, reward, metric, parameters, flops, seconds, outcome)"
            " VALUES (?, 0, 1, '[]', ?, ?, ?, 'finished', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (child, graphs.add(made), made.id, child, START, START + child, child, float(child), outcome.metric,
                 outcome.parameters, outcome.flops, outcome.seconds, json.dumps(outcome.to_json()))
                for child, made, outcome in rows
            ],
        )  # fmt: skip
        facts: dict[str, Any] = {"state": "finished", "message": "", "started_at": START, "beat_at": START + 9.0}
        db.executemany("INSERT INTO run VALUES (?, ?)", (facts | {"seconds_before": 0.0, "workers": 1}).items())


def kept(folder: RunFolder, child: int) -> tuple[Path, TrainedWeights]:
    """The file of a child's weights, and what is in it."""
    (file,) = folder.child_weights.glob(f"child-{child:08d}-*")
    return file, TrainedWeights.from_bytes(file.read_bytes())
