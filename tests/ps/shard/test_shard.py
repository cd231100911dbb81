import math
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor

from ps.errors import NonFinite, ShapeMismatch, StoreError, UnknownParameter
from ps.shard.shard import Shard, ShardPush, ShardState
from ps.store import Group, Layout

LAYOUT = Layout(
    run="shard",
    shards=1,
    groups=(
        Group(name="adam", shapes={"a": (2, 2)}, optimizer="adam", options={"lr": 0.1}),
        Group(name="sgd", shapes={"s": (3,)}, optimizer="sgd", options={"lr": 0.5, "momentum": 0.5}, accumulate=2),
        Group(name="mean", shapes={"m": ()}, optimizer="average", options={"decay": 0.5}),
    ),
)


def fresh() -> Shard:
    shard = Shard(LAYOUT, 0)
    shard.initialize({name: torch.ones(shape) for name, shape in shard.shapes.items()})
    return shard


def push(sequence: int, seen_version: int = 0, client: str = "a", **gradients: list[float]) -> ShardPush:
    tensors = {name: torch.tensor(gradient) for name, gradient in gradients.items()}
    return ShardPush(client=client, sequence=sequence, gradients=tensors, seen_version=seen_version)


def same_state(one: ShardState, other: ShardState) -> bool:
    return (
        one.metadata == other.metadata
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(one.tensors[name], tensor) for name, tensor in other.tensors.items())
    )


def test_accumulation_counts_each_tensor_for_itself():
    """Check that the tensors of a shard do not decide the steps: `p` and `q` share a group, and are pushed in turn."""
    group = Group(name="g", shapes={"p": (1,), "q": (1,)}, optimizer="sgd", options={"lr": 1.0}, accumulate=2)
    layouts = [Layout(run="r", groups=(group,), shards=shards) for shards in (1, 2)]
    whole, *halves = Shard(layouts[0], 0), Shard(layouts[1], 0), Shard(layouts[1], 1)
    for shard in (whole, *halves):
        shard.initialize({name: torch.zeros(1) for name in shard.shapes})
        for number, name in enumerate("pqpqq", start=1):
            shard.push(push(number, **({name: [float(number)]} if name in shard.shapes else {})))
    together = {name: value for shard in halves for name, value in shard.pull().values.items()}
    assert whole.pull().values == together == {"p": torch.tensor([-2.0]), "q": torch.tensor([-3.0])}
    assert (whole.pull().version, halves[0].pull().version, halves[1].pull().version) == (2, 1, 1)


def test_the_version_counts_steps_not_pushes():
    shard = fresh()
    versions = [
        shard.push(p).version
        for p in (push(1, s=[1, 1, 1.0]), push(2, s=[1, 1, 1.0]), push(3), push(4, a=[1.0] * 4, m=[1.0], s=[1.0] * 3))
    ]
    assert versions == [0, 1, 1, 2]


def test_a_shard_keeps_no_reference_to_pushed_tensors():
    shard, twin = fresh(), fresh()
    gradients = {name: torch.full(shape, 0.5) for name, shape in shard.shapes.items()}
    for number in (1, 2, 3):
        pushed = {name: tensor.clone() for name, tensor in gradients.items()}
        shard.push(ShardPush(client="a", sequence=number, gradients=pushed, seen_version=0))
        for tensor in pushed.values():
            tensor.fill_(7)
        twin.push(ShardPush(client="a", sequence=number, gradients=gradients, seen_version=0))
    assert same_state(shard.state(), twin.state())


def test_a_state_is_a_copy_both_ways():
    shard = fresh()
    shard.push(push(1, a=[1.0] * 4, s=[1.0] * 3))
    saved, unchanged = shard.state(), shard.state()
    other = Shard(LAYOUT, 0)
    other.restore(saved)
    for number in (2, 3):
        shard.push(push(number, a=[1.0] * 4, s=[1.0] * 3, m=[0.0]))
    assert same_state(saved, unchanged)
    assert same_state(other.state(), unchanged)


@pytest.mark.parametrize(
    ("gradients", "error"),
    [
        ({"x": [1.0]}, UnknownParameter),
        ({"a": [1.0] * 3}, ShapeMismatch),
        ({"a": [1, 2, 3, 4]}, ShapeMismatch),
        ({"m": [math.nan]}, NonFinite),
        ({"s": [1.0] * 3, "m": [-math.inf]}, NonFinite),
    ],
)
def test_a_bad_push_leaves_the_whole_state_as_it_was(gradients: dict[str, list[float]], error: type[StoreError]):
    shard = fresh()
    shard.push(push(1, a=[1.0] * 4, s=[1.0] * 3))
    before = shard.state()
    with pytest.raises(error):
        shard.push(push(2, **gradients))
    assert same_state(shard.state(), before)
    assert shard.status().rejected == 1


@pytest.mark.parametrize("change", [{"client": ""}, {"sequence": 0}, {"seen_version": -1}])
def test_an_impossible_push_is_refused(change: dict[str, Any]):
    with pytest.raises(ValueError, match=f"`{next(iter(change))}` must be"):
        push(**({"sequence": 1} | change))


def test_an_index_outside_the_layout_is_refused():
    with pytest.raises(ValueError, match="from 0 to 0, got 1"):
        Shard(LAYOUT, 1)


class ShardMachine(RuleBasedStateMachine):
    """A shard under any deliveries, refusals and restarts, against plain torch fed each unique push once."""

    @initialize()
    def start(self) -> None:
        self.shard = fresh()
        self.model = {"a": torch.ones(4), "s": torch.ones(3), "m": torch.ones(1)}
        self.adam = torch.optim.Adam([self.model["a"]], lr=0.1)
        self.sgd = torch.optim.SGD([self.model["s"]], lr=0.5, momentum=0.5)
        self.waiting: list[Tensor] = []
        self.newest: dict[str, int] = {}
        self.version = 0

    @rule(client=st.sampled_from("ab"), number=st.integers(1, 12), names=st.sets(st.sampled_from("asm")))
    def deliver(self, client: str, number: int, names: set[str]) -> None:
        gradients = {name: torch.full_like(self.model[name], number / 4) for name in sorted(names)}
        ack = self.shard.push(ShardPush(client=client, sequence=number, gradients=gradients, seen_version=0))
        assert ack.duplicate == (number <= self.newest.get(client, 0))
        if not ack.duplicate:
            self.newest[client] = number
            self._apply(gradients)
        assert ack.version == self.version

    def _apply(self, gradients: dict[str, Tensor]) -> None:
        stepped = bool(gradients.keys() & {"a", "m"})
        self.model["a"].grad = gradients.get("a")
        self.adam.step()
        if "m" in gradients:
            self.model["m"].mul_(0.5).add_(gradients["m"], alpha=0.5)
        if "s" in gradients:
            self.waiting.append(gradients["s"])
        if len(self.waiting) == 2:
            self.model["s"].grad = (self.waiting[0] + self.waiting[1]) / 2
            self.sgd.step()
            self.waiting, stepped = [], True
        self.version += stepped

    @rule()
    def refuse(self) -> None:
        before = self.shard.state()
        with pytest.raises(NonFinite):
            self.shard.push(push(99, a=[1.0] * 4, s=[1.0, 1.0, math.nan]))
        assert same_state(self.shard.state(), before)

    @rule()
    def restart(self) -> None:
        saved = self.shard.state()
        self.shard = Shard(LAYOUT, 0)
        self.shard.restore(saved)
        assert same_state(self.shard.state(), saved)

    @invariant()
    def parameters_are_the_models(self) -> None:
        values = self.shard.pull().values
        assert all(torch.equal(values[name], tensor) for name, tensor in self.model.items())


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=40, stateful_step_count=25)
