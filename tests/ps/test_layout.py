import json
import pickle
from typing import Any

import pytest

from ps.store import Group, Layout, Push
from tests.contracts.parameter_store import LAYOUT


def group(**changes: Any) -> Group:
    return Group(**({"name": "g", "shapes": {"w": (2, 3)}, "optimizer": "adam", "options": {"lr": 0.1}} | changes))


def test_json_and_pickle_give_back_an_equal_layout():
    assert Layout.from_json(json.loads(json.dumps(LAYOUT.to_json()))) == LAYOUT
    assert pickle.loads(pickle.dumps(LAYOUT)).fingerprint == LAYOUT.fingerprint


def test_defaults_are_filled_in():
    assert group().options == {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0}
    assert group(optimizer="sgd").options == {"lr": 0.1, "momentum": 0.0, "nesterov": 0, "weight_decay": 0}


@pytest.mark.parametrize(
    ("optimizer", "option"), [("adam", "weight_decay"), ("sgd", "nesterov"), ("sgd", "weight_decay")]
)
def test_an_option_added_later_counts_in_the_fingerprint_unless_it_has_its_default(optimizer: str, option: str):
    """Layouts on disk that predate it keep their fingerprint."""
    options = {"lr": 0.1} | ({"momentum": 0.9} if optimizer == "sgd" else {})
    old, default, changed = (
        Layout(run="r", groups=(group(optimizer=optimizer, options=options | added),), shards=1)
        for added in ({}, {option: 0}, {option: 1})
    )
    assert option not in old.to_json()["groups"][0]["options"]
    assert default.fingerprint == old.fingerprint != changed.fingerprint
    assert [Layout.from_json(json.loads(json.dumps(one.to_json()))) for one in (old, changed)] == [old, changed]


def test_the_order_of_tensors_counts_in_the_fingerprint():
    layouts = [
        Layout(run="r", groups=(group(shapes=s),), shards=1) for s in ({"a": (1,), "b": (1,)}, {"b": (1,), "a": (1,)})
    ]
    assert layouts[0].fingerprint != layouts[1].fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "a group's name must be 1 to 200 printable characters, got ''"),
        ({"name": "a\nb"}, "printable"),
        ({"shapes": {}}, "at least one tensor"),
        ({"shapes": {"w" * 201: (1,)}}, "a tensor's name in group 'g' must be 1 to 200"),
        ({"shapes": {"w": (2, 0)}}, r"the shape of 'w' must be .* at least 1, got \(2, 0\)"),
        ({"shapes": {"w": (2.0,)}}, "integers"),
        ({"shapes": {"w": (1,) * 9}}, "up to 8"),
        ({"accumulate": 0}, "`accumulate` of group 'g' must be an integer of at least 1, got 0"),
        ({"optimizer": "rmsprop"}, "`optimizer` must be one of adam, sgd, average, got 'rmsprop'"),
        ({"options": {}}, "`adam` needs the option `lr`"),
        (
            {"options": {"lr": 0.1, "decay": 1}},
            "`adam` takes the options lr, beta1, beta2, eps, weight_decay, got decay",
        ),
        ({"options": {"lr": -0.1}}, "`lr` of `adam` must be above 0, got -0.1"),
        ({"options": {"lr": float("nan")}}, "`lr` of `adam` must be a finite number, got nan"),
        ({"options": {"lr": True}}, "must be a finite number, got True"),
        ({"options": {"lr": 0.1, "beta1": 1.0}}, "`beta1` of `adam` must be at least 0 and below 1, got 1.0"),
        ({"options": {"lr": 0.1, "weight_decay": -1}}, "`weight_decay` of `adam` must be 0 or more, got -1"),
        ({"optimizer": "sgd", "options": {"lr": 0.1, "nesterov": 2}}, "`nesterov` of `sgd` must be 0 or 1, got 2"),
        ({"optimizer": "sgd", "options": {"lr": 0.1, "nesterov": 1}}, "`nesterov` of `sgd` needs a `momentum` above 0"),
        ({"optimizer": "average", "options": {"decay": 1.0}}, "`decay` of `average` must be at least 0 and below 1"),
    ],
)
def test_a_bad_group_is_refused_by_name_rule_and_value(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        group(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": 0}, r"`shards` must be from 1 to the number of elements \(6\), got 0"),
        ({"shards": 7}, "got 7"),
        ({"run": ""}, "`run` must be 1 to 200"),
        ({"groups": (group(), group(name="h"))}, "tensor names must be unique in a layout, got w more than once"),
        ({"groups": (group(), group(shapes={"v": (1,)}))}, "group names must be unique in a layout, got g"),
    ],
)
def test_a_bad_layout_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Layout(**({"run": "r", "groups": (group(),), "shards": 1} | changes))


@pytest.mark.parametrize(
    "data", [{}, {"run": "r", "shards": 1, "groups": [{"shapes": []}]}, {"run": "r", "groups": [3], "shards": 1}]
)
def test_json_that_is_no_layout_is_refused(data: dict[str, Any]):
    with pytest.raises(ValueError, match=r"layout must be as|at least one"):
        Layout.from_json(data)


@pytest.mark.parametrize(("client", "sequence"), [("", 1), ("a", 0), ("a", 2**63), ("a", 1.0)])
def test_a_push_needs_a_usable_id(client: str, sequence: int):
    with pytest.raises(ValueError, match=r"`client` must be|`sequence` must be"):
        Push(client=client, sequence=sequence, gradients={}, versions=(0,))


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), "0.1", True])
def test_a_rate_of_a_push_must_be_usable(rate: Any):
    with pytest.raises(ValueError, match="the rate of group 'g' must be a finite number of at least 0, got"):
        Push(client="a", sequence=1, gradients={}, versions=(0,), rates={"g": rate})
