"""A graph comes back from the ledger exactly as it was sampled, and is stored once."""

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Cause, Outcome
from cluster.storage.ledger import graphs
from cluster.storage.ledger.graphs import GraphTable, columns_of, columns_of_graph, pack, rows_of, unpack
from cluster.storage.ledger.schema import migrate
from controller.decisions import uniform
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.recurrent import RecurrentSpace

SPACES = (ConvolutionalSpace(initial_depth=4), NasBench201Space(), RecurrentSpace())


def network(filters: int) -> Architecture:
    return Architecture("feedforward", (node("a", "conv", "image", height=1, width=1, filters=filters),), ("a",))


def rated(rate: float) -> Architecture:
    """Return a network with an attribute that is equal for numbers of another type, but is not written alike."""
    return Architecture("feedforward", (node("a", "dropout", "image", rate=rate),), ("a",))


BACKWARDS = Architecture(
    "feedforward",
    (node("sum", "add", ("late", "image")), node("late", "relu", "image")),
    ("sum",),
    (("learning_rate", 0.1),),
)
"""A node that is read before it comes."""


@pytest.fixture
def table() -> Iterator[GraphTable]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, "memory")
        yield GraphTable(db)


def stored(table: GraphTable) -> int:
    return table._db.execute("SELECT count(*) FROM architectures").fetchone()[0]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_packing_keeps_every_detail(space: ConvolutionalSpace) -> None:
    for seed in range(20):
        data = space.decode(uniform(space.decisions(0), random.Random(seed))).to_json()
        assert json.dumps(unpack(pack(columns_of(data)))) == json.dumps(data)


@pytest.mark.parametrize("data", [BACKWARDS.to_json(), {}, {"nodes": [{"name": "a"}]}, {"nodes": 3}])
def test_forward_references_and_data_that_is_no_graph_are_kept(data: dict[str, object]) -> None:
    assert json.dumps(rows_of(columns_of(data))) == json.dumps(data)


def test_graphs_with_one_canonical_id_stay_apart(table: GraphTable) -> None:
    one = Architecture("feedforward", (node("a", "relu", "image"),), ("a",))
    other = Architecture("feedforward", (node("b", "relu", "image"),), ("b",))
    assert one.id == other.id
    keys = [table.add(one), table.add(other), table.add(one)]
    assert (keys[0] == keys[2], keys[0] == keys[1], stored(table)) == (True, False, 2)
    fresh = GraphTable(table._db)
    assert [fresh.get(key).nodes[0].name for key in keys] == ["a", "b", "a"]


def test_each_graph_keeps_its_key_however_many_come_and_go(table: GraphTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_RECENT", 8)
    keys = {filters: table.add(network(filters)) for filters in [*range(1, 30), *range(1, 10), *range(1, 10)]}
    assert len(table._recent) == 8
    assert all(table.get(key) == network(filters) for filters, key in keys.items())
    assert stored(table) == len(keys) == 29


def test_a_graph_whose_transaction_was_rolled_back_is_stored_by_the_next(table: GraphTable) -> None:
    table._db.execute("BEGIN")
    key = table.add(network(1))
    table._db.execute("ROLLBACK")
    assert stored(table) == 0
    assert table.add(network(1)) == key
    assert stored(table) == 1


def test_operations_are_counted_without_joins(table: GraphTable) -> None:
    table.add(BACKWARDS)
    assert table._db.execute("SELECT nodes FROM architectures").fetchall() == [(1,)]


def test_outcomes_with_and_without_failure_are_plain_data() -> None:
    whole = Outcome(curve=(0.5, 0.25), seconds=2.0, parameters=3, flops=None, seed=7, gpu_bytes=5)
    failed = Outcome.failed(Cause.DIVERGED, "NaN", seed=1)
    for outcome in (whole, failed):
        assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    assert failed.to_json()["failure"] == {"cause": "diverged", "message": "NaN"}


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_the_columns_of_an_architecture_are_those_of_its_json(space: Any) -> None:
    sampled = [space.decode(uniform(space.decisions(0), random.Random(seed))) for seed in range(20)]
    for architecture in (*sampled, BACKWARDS, network(24), *(rated(rate) for rate in (1, 1.0, 0, 0.0, -0.0))):
        assert columns_of_graph(architecture) == columns_of(architecture.to_json())
