"""What is kept between two uses of the ledger is never another's."""

import json

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Cause, Outcome
from cluster.storage.ledger.rows import KEPT, Architectures


def network(filters: int) -> Architecture:
    return Architecture("feedforward", (node("a", "conv", "image", height=1, width=1, filters=filters),), ("a",))


def test_each_architecture_has_its_own_text_however_many_come_and_go() -> None:
    """An `id()` is free for another object as soon as its own is gone."""
    kept = Architectures()
    for filters in [*range(1, 2 * KEPT), *range(1, 50), *range(1, 50)]:
        made = network(filters)  # a new object each time, equal ones among them
        text = kept.text(made)
        assert json.loads(text) == made.to_json()
        assert kept.text(made) is text
        assert kept(text) == made
        assert kept(text) is kept(text)
        assert len(kept._by_text) == len(kept._texts) <= KEPT


def test_a_text_written_by_another_hand_is_read_as_well() -> None:
    kept = Architectures()
    spaced = json.dumps(network(3).to_json(), indent=1)
    read = kept(spaced)
    assert read == network(3)
    assert kept(kept.text(read)) == read


def test_outcomes_with_and_without_failure_are_plain_data() -> None:
    whole = Outcome(curve=(0.5, 0.25), seconds=2.0, parameters=3, flops=None, seed=7, gpu_bytes=5)
    failed = Outcome.failed(Cause.DIVERGED, "NaN", seed=1)
    for outcome in (whole, failed):
        assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    assert failed.to_json()["failure"] == {"cause": "diverged", "message": "NaN"}
