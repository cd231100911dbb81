"""A run's Pareto front is read where it is shown, and nowhere else."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from child_trainer.outcome import Outcome
from cluster.config.objective_options import ObjectiveOptions
from cluster.config.run_config import RunConfig
from cluster.monitoring import front as fronts
from cluster.monitoring.live_view import line, status_rows
from cluster.monitoring.status import read_status
from cluster.monitoring.summary import best_json, best_lines, summary
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.front import CostedChild, children_with
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from controller.spaces.convolutional import ConvolutionalSpace

SPACE = ConvolutionalSpace(initial_depth=1)
CONFIG = RunConfig(
    max_children=20, objectives=ObjectiveOptions(objective=("parameters=min",), target=("parameters=1M",))
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A finished run of three children, the last of which is dominated."""
    folder = run_folder(tmp_path, "demo")
    folder.create(CONFIG)
    finish(folder, 0, (0.8, 900), (0.6, 100), (0.5, 200))
    return folder


def finish(folder: RunFolder, replica: int, *children: tuple[float, int]) -> None:
    """Add a replica's children with these metrics and parameters."""
    tokens = (1, 1, 1)
    ledger = Ledger(folder.ledger, CONFIG.seed, CONFIG.max_children)
    ledger.begin(workers=1)
    proposals = [Proposal(tokens=tokens, architecture=SPACE.decode(tokens))] * len(children)
    batch = ledger.admit(replica, 1, proposals, (0, 0))
    assert batch is not None
    for child, (metric, parameters) in zip(batch.children, children, strict=True):
        outcome = Outcome(curve=(metric,), seconds=1.0, parameters=parameters, flops=9, seed=1)
        ledger.finish(child.id, outcome, metric)
    ledger.end("finished")
    ledger.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many children each reading of a front has read."""
    counts: list[int] = []

    def counting(db: sqlite3.Connection, costs: Sequence[str]) -> list[CostedChild]:
        children = children_with(db, costs)
        counts.append(len(children))
        return children

    monkeypatch.setattr(fronts, "children_with", counting)
    return counts


def test_the_live_view_and_all_that_only_ask_for_the_state_read_no_front(folder: RunFolder, reads: list[int]) -> None:
    status = read_status(folder, 0.0)
    assert (status.state, status.finished) == ("finished", 3)
    assert status_rows(status)
    assert line(status)
    assert best_lines(status, CONFIG)
    assert "The search is for low parameters, too." in page(read_facts(folder, 0.0))
    assert reads == []


def test_what_shows_the_front_reads_it_once(folder: RunFolder, reads: list[int]) -> None:
    status = read_status(folder, 0.0)
    assert [member["child_id"] for member in status.to_json()["pareto"]["front"]] == [2, 1]
    found = best_json(status, CONFIG)
    assert found is not None
    assert [member["child_id"] for member in found["front"]] == [2, 1]
    assert "Pareto front of validation accuracy and parameters: 2 of 3 children" in summary(status, folder)
    assert reads == [3]


def test_a_later_status_has_the_later_front(folder: RunFolder) -> None:
    assert "2 of 3 children" in summary(read_status(folder, 0.0), folder)
    finish(folder, 1, (0.9, 50))
    status = read_status(folder, 0.0)
    assert status.front is not None
    assert [member.child_id for member in status.front.members] == [4]


def test_a_run_of_one_objective_has_no_front(tmp_path: Path) -> None:
    plain = run_folder(tmp_path, "plain")
    plain.create(RunConfig(max_children=20))
    status = read_status(plain, 0.0)
    assert status.front is None
    assert "pareto" not in status.to_json()
