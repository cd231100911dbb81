"""Small searches on digits whose children begin with the weights of others."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cluster.cli import main as cli

ROOT = Path(__file__).parents[3]

STAGES = (
    *("--stage-children", "3", "3", "--max-children", "7", "--children", "3", "--seed", "3"),
    *("--epochs", "2", "--train-fraction", "0.3", "--name", "run"),
)
"""The start, three children that grow from it, and three that grow from the best of these."""

SEARCHES: Mapping[str, tuple[str, ...]] = {
    "eas": ("eas-digits", *STAGES),
    # Without noise and pools, which change what a child computes before its training.
    "path-eas": (
        *("path-eas-digits", *STAGES, "--branch-noise", "0", "--operation-noise", "0"),
        *("--operations", "sep_3x3", "conv_1x1", "identity", "--encoder-units", "8", "--seed", "4"),
    ),
}

RECORD = """
SELECT id, tokens, notes, job, reward, coalesce(json_extract(outcome, '$.curve'), metric),
    json_extract(outcome, '$.weights'), json_extract(outcome, '$.measurements.accuracy_before_training')
FROM children ORDER BY id
"""
"""All that must be equal in searches with one seed; not the seconds."""


def rows(folder: Path, query: str = RECORD) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


def run(*words: object) -> int:
    return cli.run([str(word) for word in words])
