"""A made-up table of all NAS-Bench-201 cells, and made-up search results."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from child_trainer.architectures.nasbench201 import CELL_OPERATIONS, EDGES, cell_name
from child_trainer.tasks import nasbench201_table as nasbench201
from cluster.compare.search_result import SearchResult

GAINS = dict(zip(CELL_OPERATIONS, (0.0, 5.0, 8.0, 12.0, 3.0), strict=True))
"""Percent that each edge adds to the validation accuracy."""

COSTS = dict(zip(CELL_OPERATIONS, (0.0, 0.0, 8.0, 15.0, 5.0), strict=True))
"""Seconds that each edge adds to a training."""

BEST = 10 + 6 * 12.0
DEAREST_S = (40 + 6 * 15.0) / 2 + 60 * 2.5 / 12


def made_up(folder: Path) -> Path:
    """Write the three files of a table whose best cell, six 3x3 convolutions, is the most expensive."""
    lines, times = ["arch,params,c10_valid_12,c10_test_200_v11"], ["arch,c10_train_s_12,c10_eval_s_12"]
    for cell in itertools.product(CELL_OPERATIONS, repeat=len(EDGES)):
        metric = 10 + sum(GAINS[operation] for operation in cell)
        lines.append(f"{cell_name(cell)},1000,{metric},{metric + 10}")
        if len(times) <= nasbench201.NUM_MEASURED:  # as the model predicts
            times.append(f"{cell_name(cell)},{40 + sum(COSTS[operation] for operation in cell)},60")
    (folder / nasbench201.RESULTS).write_text("\n".join(lines) + "\n")
    (folder / nasbench201.TIMES).write_text("\n".join(times) + "\n")
    coefficients = [[COSTS[operation] for operation in CELL_OPERATIONS[1:]]] * len(EDGES)
    models = {
        nasbench201.TRAINING: {"intercept": 40.0, "coef": coefficients},
        nasbench201.LONG_EVALUATION: {"intercept": 1000.0, "coef": [[0.0] * 4] * len(EDGES)},
    }
    (folder / nasbench201.TIME_MODEL).write_text(json.dumps({"models": models}))
    return folder


def made_result(
    seed: int,
    metrics: Sequence[float | None],
    seconds: Sequence[float] | None = None,
    tests: Sequence[float | None] | None = None,
) -> SearchResult:
    """Return a result whose children all have different architectures."""
    return SearchResult(
        seed=seed,
        architectures=tuple(f"{place:016x}" for place in range(len(metrics))),
        metrics=tuple(metrics),
        rewards=tuple(metric or 0.0 for metric in metrics),
        seconds=tuple(seconds or [1.0] * len(metrics)),
        tests=tuple(tests or [None] * len(metrics)),
    )
