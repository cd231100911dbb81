"""A child's steps on the shared weights: pull, compute, push. Knows neither Ray nor the clock.

Each step changes the weights exactly once, whoever makes the child's steps, and however often: the push of a step has
the identity of the child's lane and the step's number on it, by which the shards know that they have applied it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from controller.searcher import Lane
from ps.errors import LostPushes, TooFarAhead
from ps.store import ParameterStore, Push, Snapshot


class StepRule(Protocol):
    """What the steps of one child are. Equal weights give equal gradients, in every attempt at the child."""

    def names(self, step: int) -> Sequence[str]:
        """Return the names of the tensors that a step reads; steps count from 0."""
        ...

    def gradients(self, step: int, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the gradients that a step pushes, by name, from the weights that it reads."""
        ...


def lane_client(replica: int, lane: int) -> str:
    """Return the name by which the shards know a lane of a replica."""
    return f"replica-{replica}.{lane}"


def make_steps(
    store: ParameterStore,
    lane: Lane,
    count: int,
    rule: StepRule,
    *,
    before: Callable[[int], None] = lambda _: None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Make those of a child's steps that the shards do not have yet.

    If only some shards have a step, because its push was interrupted or a shard fell back to an older snapshot, it is
    made again from the weights as they are then, and only the other shards apply it.

    Args:
        store: holds the weights.
        lane: of the child.
        count: how many steps the child has.
        rule: what they are.
        before: called with the number of each step before it is made; it may raise to end the attempt.
        pause: called while the store's consistency makes the lane wait.

    Raises:
        NonFinite: a gradient is NaN or infinite.
        StoreUnavailable, NotDurable: a shard did not answer, or could not write.
    """
    step = 0
    while step < count:
        before(step)
        snapshot = _pull(store, lane, rule.names(step), pause)
        done = _steps_done(lane, snapshot)
        if done != step:
            step = done
            continue
        push = Push(
            client=lane_client(lane.replica, lane.number),
            sequence=lane.steps_before + step + 1,
            gradients=rule.gradients(step, snapshot.values),
            versions=snapshot.versions,
            applied=snapshot.applied,
        )
        try:
            store.push(push)
        except LostPushes:
            continue  # a shard fell back since the pull: the next one shows how far
        step += 1


def _pull(store: ParameterStore, lane: Lane, names: Sequence[str], pause: Callable[[], None]) -> Snapshot:
    """Return the named tensors once the store's consistency admits the lane."""
    while True:
        try:
            return store.pull(names, client=lane_client(lane.replica, lane.number))
        except TooFarAhead:
            pause()


def _steps_done(lane: Lane, snapshot: Snapshot) -> int:
    """Return how many of the child's steps every shard has; what it has lost of earlier children stays lost."""
    return max(0, min(snapshot.applied) - lane.steps_before)
