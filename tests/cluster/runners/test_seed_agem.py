"""A real, small search of `seed-agem`: sub-networks that learn together on digits, and the one that is selected."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from child_trainer.architectures.architecture import Architecture
from cluster.api.python_api import launch
from tests.command_line import nascluster

CHILDREN = 4


def test_a_search_trains_subnetworks_learns_and_shows_the_selected_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = launch(
        "seed-agem-digits", storage_path=tmp_path, name="demo", local=True, show=False, max_children=CHILDREN,
        children=2, layers=2, num_filters=(8, 16), epochs=4, batch_size=16, train_fraction=0.3,
        true_label_weight=0.9, teacher_weight=0.1, learning_rate=0.2,  # so that few steps show something
    )  # fmt: skip
    status = run.status()
    assert (status.state, status.finished, status.failed) == ("finished", CHILDREN, 0)
    assert status.best is not None
    assert status.best.metric > 0.2  # a tenth is chance
    with closing(sqlite3.connect(tmp_path / "demo" / "ledger.sqlite")) as db:
        children = db.execute("SELECT notes, outcome FROM children ORDER BY id").fetchall()
        learned = db.execute("SELECT count(*) FROM batches WHERE learned_at IS NOT NULL").fetchone()
    notes, told = (list(map(json.loads, column)) for column in zip(*children, strict=True))
    assert learned == (2,)
    assert [each.get("emitted", False) for each in notes] == [False] * (CHILDREN - 1) + [True]
    assert [each["lead_penalty"] for each in notes] == pytest.approx([0.5, 0.5, 0.25, 0.25])
    for each in told:
        assert 0 < each["measurements"]["similarity_reward"] <= 1
        assert sum(each["measurements"][f"{mode}_epochs"] for mode in ("individual", "iterative", "joint")) == 4

    assert nascluster("best", "demo", "--storage-path", tmp_path, "--json") == 0
    best = Architecture.from_json(json.loads(capsys.readouterr().out)["architecture"])
    assert len(best.outputs) == 2
    selected = best.without_auxiliary()
    assert len({n.name.partition(".")[0] for n in selected.nodes}) == 1  # what remains is one sub-network
