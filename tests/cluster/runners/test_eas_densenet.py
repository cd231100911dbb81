"""A whole EAS search of DenseNets on digits, in one process."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cluster.cli import main as cli
from controller.spaces.densenet import DIGITS


def test_densenets_begin_at_the_accuracy_of_their_parents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The start, two that grow from it, and two that grow from the best; without noise, so that nothing is lost."""
    few = ["--max-children", "5", "--stage-children", "2", "2", "--children", "2", "--epochs", "1", "--seed", "1"]
    exact = ["--wider-noise", "0", "--deeper-noise", "0", "--train-fraction", "0.1", "--name", "run"]
    place = ["--storage-path", str(tmp_path)]
    assert cli.run(["launch", "eas-dense-digits", "--local", *few, *exact, *place]) == 0
    with closing(sqlite3.connect(tmp_path / "run" / "ledger.sqlite")) as db:
        children = {
            row[0]: row[1:] for row in db.execute("SELECT id, tokens, notes, job, outcome, metric FROM children")
        }
    assert len(children) == 5
    for tokens, notes, job, outcome, _ in children.values():
        assert len(DIGITS.blocks(DIGITS.chain(json.loads(tokens)))) == 2
        if job is not None:
            parent = children[json.loads(notes)["parent"]]
            begun = json.loads(outcome)["measurements"]["accuracy_before_training"]
            assert begun == pytest.approx(parent[4], abs=0.005)
    assert sum(job is not None for _, _, job, *_ in children.values()) >= 3
    capsys.readouterr()
    assert cli.run(["best", "run", *place]) == 0
    assert re.search(r"in EAS's notation.*g\d+_t_g\d+", capsys.readouterr().out, re.DOTALL)
