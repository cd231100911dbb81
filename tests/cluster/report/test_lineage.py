"""The line of the best child: from the ledger to the page."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.inheritance.changes import ReplaceIdentity, Widen
from child_trainer.outcome import ACCURACY_BEFORE, Outcome
from child_trainer.supernets.jobs import TrainOn
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.lineage import lineage
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.decisions import uniform
from controller.searcher import Proposal
from tests.cluster.report.ledgers import CONFIG, SPACE, new_run

TOKENS = uniform(SPACE.decisions(0), random.Random(0))
MOTHER = Proposal(tokens=TOKENS, architecture=SPACE.decode(TOKENS))


def child(parent: int, job: TrainOn | None = None) -> Proposal:
    return replace(MOTHER, notes={"parent": parent, "change": f"of {parent}"}, job=job)


def run_of(storage: Path, *proposals: Proposal) -> RunFolder:
    """A run whose later children are better."""
    folder = new_run(storage)
    ledger = Ledger(folder.ledger, CONFIG.seed, CONFIG.max_children)
    ledger.begin(workers=1)
    ledger.admit(0, 1, proposals, (0,))
    for number, proposal in enumerate(proposals, start=1):
        before = {ACCURACY_BEFORE: 0.05 * number} if proposal.job else {}
        curve = (0.1 * number,)
        outcome = Outcome(curve=curve, seconds=1.0, parameters=10, flops=1, seed=0, measurements=before)
        ledger.finish(number, outcome, 0.1 * number)
    ledger.close()
    return folder


def test_the_line_goes_along_the_parents_from_the_first_one(tmp_path: Path) -> None:
    job = TrainOn(parent=3, checksum="c" * 64, changes=(Widen(node="c", width=8),))
    folder = run_of(tmp_path, MOTHER, MOTHER, child(1), child(2), child(3, job))
    with reading(folder) as db:
        found = lineage(db, 5, 10)
        assert [(one.child_id, one.parent, one.change) for one in found] == [
            (1, None, None),
            (3, 1, "of 1"),
            (5, 3, "of 3"),
        ]
        assert [(one.weights_of, one.checksum, one.before) for one in found[1:]] == [
            (None, None, None),
            (3, "c" * 64, pytest.approx(0.25)),
        ]
        assert [one.child_id for one in lineage(db, 5, 2)] == [3, 5]
        assert lineage(db, 2, 10) == []


def test_the_page_has_the_line_only_where_children_have_parents(tmp_path: Path) -> None:
    evolved = page(read_facts(run_of(tmp_path / "a", MOTHER, child(1)), 0.0))
    assert 'id="lineage"' in evolved and 'href="#lineage"' in evolved
    assert "before its training" not in evolved
    job = TrainOn(parent=1, checksum="abcdef" * 10)
    grown = page(read_facts(run_of(tmp_path / "b", MOTHER, child(1, job)), 0.0))
    assert "weights of child 1" in grown and "before its training" in grown and "abcdefabcdef" in grown
    assert "computes what its parent does, up to the noise of its changes.</p>" in grown
    pool = replace(job, changes=(ReplaceIdentity(node="i", op="max_pool"),))
    pooled = page(read_facts(run_of(tmp_path / "d", MOTHER, child(1, pool)), 0.0))
    assert "up to the noise of its changes, unless a pool came in the place of an identity.</p>" in pooled
    assert 'id="lineage"' not in page(read_facts(run_of(tmp_path / "c", MOTHER), 0.0))
