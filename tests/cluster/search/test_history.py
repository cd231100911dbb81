"""Replicas of one process share a history, in threads or in turns."""

import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from child_trainer.outcome import Outcome
from cluster.search.history import History
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.schema import IN_MEMORY
from controller.searcher import Proposal
from controller.spaces.nasbench201 import NasBench201Space

OUTCOME = Outcome(curve=(0.5,), seconds=1.0, parameters=None, flops=None, seed=1)
PROPOSAL = Proposal(tokens=(0,) * 6, architecture=NasBench201Space(cells_per_stage=1).decode((0,) * 6))


def test_a_history_that_was_given_does_not_grow() -> None:
    with closing(Ledger(IN_MEMORY, 0, 10)) as ledger:
        ledger.admit(0, 1, [PROPOSAL] * 2, ())
        history = History(ledger)
        ledger.finish(2, OUTCOME, 0.5)
        before = history()
        ledger.finish(1, OUTCOME, None)
        assert [child.id for child in history()] == [2, 1]
        assert [child.id for child in before] == [2]


def test_threads_that_share_a_history_see_each_child_once_in_order() -> None:
    with closing(Ledger(IN_MEMORY, 0, 400)) as ledger:
        ledger.admit(0, 1, [PROPOSAL] * 400, ())
        history, begin = History(ledger), threading.Barrier(4)

        def look(first: int) -> list[list[int]]:
            begin.wait()
            seen = []
            for child in range(first, 401, 4):
                ledger.finish(child, OUTCOME, 0.5)
                seen.append([record.id for record in history()])
            return seen

        with ThreadPoolExecutor(4) as threads:
            views: list[Any] = [view for seen in threads.map(look, (1, 2, 3, 4)) for view in seen]
        whole = [record.id for record in ledger.history()]
        assert sorted(whole) == list(range(1, 401))
        assert all(view == whole[: len(view)] for view in views)


def test_a_long_history_is_garbage_that_nobody_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.search.history.MANY", 3)
    with closing(Ledger(IN_MEMORY, 0, 4)) as ledger:
        ledger.admit(0, 1, [PROPOSAL] * 4, ())
        history, frozen = History(ledger), gc.get_freeze_count()
        ledger.finish(1, OUTCOME, 0.5)
        history()
        assert gc.get_freeze_count() == frozen
        for child in (2, 3, 4):
            ledger.finish(child, OUTCOME, 0.5)
        try:
            history()
            assert gc.get_freeze_count() > frozen
        finally:
            gc.unfreeze()


def test_what_is_read_later_is_what_was_recorded() -> None:
    notes = {"parent": 1, "change": "edge 3: none to skip_connect"}
    proposals = [PROPOSAL, replace(PROPOSAL, notes=notes, log_prob=-1.5, same_as=1), PROPOSAL]
    outcomes = [OUTCOME, OUTCOME, replace(OUTCOME, curve=(0.1, 0.3), seed=7)]
    with closing(Ledger(IN_MEMORY, 0, 3)) as ledger:
        batch = ledger.admit(0, 1, proposals, ())
        assert batch is not None
        for child, outcome in zip(batch.children, outcomes, strict=True):
            ledger.finish(child.id, outcome, 0.25)
        whole = [
            replace(child, outcome=outcome, reward=0.25).record
            for child, outcome in zip(batch.children, outcomes, strict=True)
        ]
        assert list(ledger.history()) == whole
        assert pickle.loads(pickle.dumps(list(ledger.history()))) == whole
        later = ledger.history()[1]
        assert (later.notes, later.log_prob, later.same_as, later.job) == (notes, -1.5, 1, None)
        with pytest.raises(AttributeError, match="no attribute 'parent'"):
            _ = later.parent  # pyright: ignore[reportAttributeAccessIssue]
