import json

import pytest

from child_trainer.inheritance.changes import (
    Branch,
    Deepen,
    InsertIdentity,
    Repeat,
    ReplaceIdentity,
    Widen,
    change_from_json,
    change_to_json,
)

CHANGES = [
    Widen(node="c1", width=8),
    Deepen(after="c1", name="n", op="conv", width=6, size=5),
    Deepen(after="fc", name="n", op="linear", width=6, noise=0.5),
    Branch(node="c1", name="b", allocation="split", merge="concat", count=4),
    Repeat(node="d1", name="n", noise=0.5),
    InsertIdentity(after="c1", name="i"),
    ReplaceIdentity(node="i", op="separable_conv", size=5, width=6, noise=0.5),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_survives_json(change):
    assert change_from_json(json.loads(json.dumps(change_to_json(change)))) == change


def test_a_change_of_another_version_is_refused():
    with pytest.raises(ValueError, match=r"a change is widen, deepen, branch, insert-identity, .*, got 'prune'"):
        change_from_json({"kind": "prune"})
