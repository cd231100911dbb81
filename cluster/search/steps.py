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

Tensors = Mapping[str, Tensor]


class StepRule(Protocol):
    """What the steps of one child are. Equal values give equal gradients, in every attempt at the child."""

    def names(self, step: int, pulled: Sequence[Tensors]) -> Sequence[str]:
        """Return the names of the tensors that a step reads from a store; steps count from 0.

        Args:
            step: which.
            pulled: what it has read from the stores before this one.
        """
        ...

    def gradients(self, step: int, pulled: Sequence[Tensors]) -> Sequence[Tensors]:
        """Return the gradients that a step pushes to each store, by name, from what it reads of each."""
        ...


def lane_client(replica: int, lane: int) -> str:
    """Return the name by which the shards know a lane of a replica."""
    return f"replica-{replica}.{lane}"


def make_steps(
    stores: Sequence[ParameterStore],
    lane: Lane,
    count: int,
    rule: StepRule,
    *,
    before: Callable[[int], None] = lambda _: None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Make those of a child's steps that the shards do not have yet.

    Each step is pushed to every store, be it without gradients, so that all of them know how far the child is. If only
    some shards have a step, because its push was interrupted or a shard fell back to an older snapshot, it is made
    again from the values as they are then, and only the other shards apply it. After the last step no lane waits for
    this one any more.

    Args:
        stores: what the steps read and change, such as the shared weights alone.
        lane: of the child.
        count: how many steps the child has.
        rule: what they are.
        before: called with the number of each step before it is made; it may raise to end the attempt.
        pause: called while a store's consistency makes the lane wait.

    Raises:
        NonFinite: a gradient is NaN or infinite.
        StoreUnavailable, NotDurable: a shard did not answer, or could not write.
    """
    step = 0
    while step < count:
        before(step)
        snapshots: list[Snapshot] = []
        for store in stores:
            names = rule.names(step, [snapshot.values for snapshot in snapshots])
            snapshots.append(_pull(store, lane, names, pause))
        done = min(_steps_done(lane, snapshot) for snapshot in snapshots)
        if done != step:
            step = done
            continue
        gradients = rule.gradients(step, [snapshot.values for snapshot in snapshots])
        try:
            for store, snapshot, pushed in zip(stores, snapshots, gradients, strict=True):
                store.push(_push_of(lane, step, snapshot, pushed))
        except LostPushes:
            continue  # a shard fell back since the pull: the next one shows how far
        step += 1
    for store in stores:
        store.leave(lane_client(lane.replica, lane.number))  # until the lane's next child


def _push_of(lane: Lane, step: int, snapshot: Snapshot, gradients: Tensors) -> Push:
    return Push(
        client=lane_client(lane.replica, lane.number),
        sequence=lane.steps_before + step + 1,
        gradients=gradients,
        versions=snapshot.versions,
        applied=snapshot.applied,
    )


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
