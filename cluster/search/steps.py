"""A child's steps on the shared weights: pull, compute, push. Knows neither Ray nor the clock.

Each step changes the weights exactly once, and the strengths if it learns them, in whichever workers and
however often the child's steps are made: each of its pushes has the identity of the child's lane and the step's number
on it, by which the shards know that they have applied it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from controller.searcher import Lane
from controller.strengths import before_name, strengths_before, strengths_in, strengths_name
from ps.errors import LostPushes, TooFarAhead
from ps.store import ParameterStore, Push, Snapshot

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = Snapshot(values={}, versions=(), incarnations=(), applied=())


@dataclass(frozen=True, slots=True)
class Gradients:
    """What a half-step pushes.

    Attributes:
        weights: gradients by name.
        strengths: gradients by gate.
    """

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    strengths: Mapping[str, Tensor] = field(default_factory=dict)


class HalfStep(Protocol):
    """A part of a step with pulls and pushes of its own. Equal values give equal gradients, in every attempt."""

    @property
    def learns(self) -> AbstractSet[str]:
        """What it pushes gradients of: `weights`, `strengths` or both."""
        ...

    def names(self, strengths: Mapping[str, Tensor]) -> Sequence[str]:
        """Return the names of the weights that it reads, given the strengths by gate."""
        ...

    def gradients(self, weights: Mapping[str, Tensor], strengths: Mapping[str, Tensor]) -> Gradients:
        """Return the gradients, from the weights and the strengths that it reads."""
        ...


class StepRule(Protocol):
    """What the steps of one child are."""

    @property
    def strengths(self) -> Sequence[str]:
        """The names of the searcher's tensors that its half-steps read; none if the steps are of weights alone."""
        ...

    @property
    def rates(self) -> Mapping[str, float]:
        """The learning rates of the weights' groups, where they are others than those of the layout."""
        ...

    def half_steps(self, step: int) -> Sequence[HalfStep]:
        """Return the parts of a step, of which exactly one learns weights; steps count from 0."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a child's steps go.

    Attributes:
        weights: the shards of the shared weights.
        policy: the shards of the searcher's parameters, for steps that read strengths.
    """

    weights: ParameterStore
    policy: ParameterStore | None = None


def lane_client(replica: int, lane: int) -> str:
    """Return the name by which the shards know a lane of a replica."""
    return f"replica-{replica}.{lane}"


def leave_lane(weights: ParameterStore, replica: int, lane: Lane) -> None:
    """Have no other lane wait for this one, whose child has ended before its last step, until the lane's next child.

    Raises:
        StoreUnavailable, NotDurable: a shard did not answer, or could not write.
    """
    weights.leave(lane_client(replica, lane.number))


def rounds_client(replica: int) -> str:
    """Return the name by which a replica tells the shards that a batch of its children has ended."""
    return f"replica-{replica}.rounds"


def end_round(weights: ParameterStore, replica: int, number: int) -> None:
    """Have the shards take the steps that wait for the end of this batch, unless they have; no child may be left in it.

    Args:
        weights: the shards of the shared weights.
        replica: the batch's.
        number: of the batch, by which repeated calls are known.

    Raises:
        StoreUnavailable, NotDurable: a shard did not answer, or could not write.
    """
    client = rounds_client(replica)
    snapshot = weights.pull([], client=client)
    if min(snapshot.applied) < number:
        weights.push(Push(client=client, sequence=number, gradients={}, versions=snapshot.versions))


def make_steps(
    stores: Stores,
    lane: Lane,
    count: int,
    rule: StepRule,
    *,
    before: Callable[[int], None] = lambda _: None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Make those of a child's steps that the shards do not have yet.

    If only some shards have a push, because it was interrupted or a shard fell back to an older snapshot, it is made
    again from the values as they are then, and only the other shards apply it. A half-step that moves both weights and
    strengths pushes the strengths first, and with them those that it began with: if it ends in between, the weights are
    moved by those. After the last step no lane waits for this one any more; where a child ends without it, that is up
    to its replica, as it may be tried again.

    Args:
        stores: hold the weights and the strengths.
        lane: of the child.
        count: how many steps the child has.
        rule: what they are.
        before: called with the number of each step before it is made, and again while the lane must wait for others; it
            may raise to end the attempt.
        pause: called while a store's consistency makes the lane wait.

    Raises:
        NonFinite: a gradient is NaN or infinite.
        StoreUnavailable, NotDurable: a shard did not answer, or could not write.
    """
    making = _Making(stores, lane, rule, before, pause)
    step = 0
    while step < count:
        before(step)
        try:
            step = making.make(step)
        except LostPushes:
            continue  # a shard fell back since the pull: the next one shows how far
    stores.weights.leave(lane_client(lane.replica, lane.number))  # until the lane's next child


@dataclass(frozen=True, slots=True)
class _Making:
    stores: Stores
    lane: Lane
    rule: StepRule
    before: Callable[[int], None]
    pause: Callable[[], None]

    def make(self, step: int) -> int:
        """Make what the shards lack of a step; return the step to be made next.

        That is an earlier one if the weights lack an earlier one, and a later one if they have it already. Half-steps
        before which the step has not moved the weights read the same ones, and pull them once.
        """
        pulled: Snapshot | None = None  # the weights, while the step has not moved them
        for half in self.rule.half_steps(step):
            now = self._pull_strengths(step)
            known = "strengths" in half.learns and _done(self.lane, now) > step
            if known and "weights" not in half.learns:
                continue
            given = strengths_before(now.values) if known else strengths_in(now.values)
            names = half.names(given)
            if pulled is None or not pulled.values.keys() >= set(names):
                pulled = self._pull(self.stores.weights, names, step)
            done = _done(self.lane, pulled)
            if done < step:
                return done
            if done > step + 1:
                return done - 1  # the last step that the weights have: the rest of it may be missing
            missing = half.learns - ({"strengths"} if known else set()) - ({"weights"} if done > step else set())
            if not missing:
                continue
            gradients = half.gradients({name: pulled.values[name] for name in names}, given)
            if "strengths" in missing:
                self._push_strengths(step, gradients, now, keep="weights" in half.learns)
            if "weights" in missing:
                self._push(self.stores.weights, step, gradients.weights, pulled, self.rule.rates)
                pulled = None
        return step + 1

    def _pull_strengths(self, step: int) -> Snapshot:
        policy = self.stores.policy
        return self._pull(policy, self.rule.strengths, step) if policy and self.rule.strengths else NOTHING

    def _push_strengths(self, step: int, gradients: Gradients, now: Snapshot, *, keep: bool) -> None:
        """Push the strengths' gradients, and keep what the strengths were, for the weights' push that follows."""
        assert self.stores.policy is not None
        named = {strengths_name(gate): gradient for gate, gradient in gradients.strengths.items()}
        if keep:
            named |= {before_name(gate): value for gate, value in strengths_in(now.values).items()}
        self._push(self.stores.policy, step, named, now, {})

    def _pull(self, store: ParameterStore, names: Sequence[str], step: int) -> Snapshot:
        """Return the named tensors once the store's consistency admits the lane."""
        while True:
            try:
                return store.pull(names, client=lane_client(self.lane.replica, self.lane.number))
            except TooFarAhead:
                self.pause()
                self.before(step)

    def _push(
        self,
        store: ParameterStore,
        step: int,
        gradients: Mapping[str, Tensor],
        pulled: Snapshot,
        rates: Mapping[str, float],
    ) -> None:
        push = Push(
            client=lane_client(self.lane.replica, self.lane.number),
            sequence=self.lane.steps_before + step + 1,
            gradients=gradients,
            versions=pulled.versions,
            applied=pulled.applied,
            rates=rates,
        )
        store.push(push)


def _done(lane: Lane, snapshot: Snapshot) -> int:
    """Return how many of the child's steps every shard has; what it has lost of earlier children stays lost."""
    return max(0, min(snapshot.applied) - lane.steps_before)
