"""`Shard`: one shard as a pure state machine, without clock, file or lock, so that equal calls give equal results."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from torch import Tensor

from ps.errors import LostPushes, NotInitialized, StoreError, UnknownParameter
from ps.shard.deferred import Deferred, Kept, split
from ps.shard.membership import Membership
from ps.shard.messages import ShardAck, ShardPush, ShardState, ShardValues
from ps.shard.order import Order
from ps.shard.sums import Sums
from ps.shard.vector import Vector, take_steps
from ps.slices import Slices
from ps.status import ShardStatus
from ps.store import Layout
from ps.validation import check_names, check_rated, check_tensors


@dataclass(slots=True)
class _Mutable:
    """The mutable state other than values and optimizers. All of it is saved, and a bad push changes none of it.

    Attributes:
        last_applied: the deduplication table: client -> [its highest sequence applied, the staleness in its ack], a
            list that does not change. It has the key `clients` in a snapshot.
        sums: the pushes since each tensor's last step; for `accumulate` above 1 and for `sync`.
        deferred: what waits for the end of a round.
        order: which pushes it has applied, of those that came with a note.
    """

    initialized: bool = False
    version: int = 0
    incarnation: int = 1
    pushes: int = 0
    dropped: int = 0
    last_applied: dict[str, list[int]] = field(default_factory=dict)
    sums: Sums = field(default_factory=Sums)
    deferred: Deferred = field(default_factory=Deferred)
    order: Order = field(default_factory=Order)


class Shard:
    """A range of the flattened vector, with its optimizers and its deduplication table.

    With `accumulate=N` pushes are counted for each tensor, not for the group: a push may name only some tensors,
    and a count for the group would depend on which of them are on this shard.

    Which clients have to wait, and when a synchronous round ends, depends on leases. A shard has no clock, so the
    methods that need them take `expired`, the members whose lease has expired.
    """

    def __init__(self, layout: Layout, index: int) -> None:
        if not 0 <= index < layout.shards:
            raise ValueError(f"a shard's index must be from 0 to {layout.shards - 1}, got {index}")
        self.layout = layout
        self.index = index
        self._vector = Vector(layout, index)
        self.sizes = self._vector.sizes
        """Tensor name -> number of elements of its slice here."""
        self.shapes = {name: (size,) for name, size in self.sizes.items()}
        """Tensor name -> shape of its slice here, which is always 1-D."""
        self._state = _Mutable()
        self._rules = layout.consistency
        self._membership = Membership(self._rules)
        self._summing = {
            name: part.group
            for part in self._vector.groups
            if part.group.accumulate > 1 or self._rules.mode == "sync"
            for name in part.names
        }
        """Tensor name -> group, of the tensors that take a step on the sum of several pushes."""
        self._deferred_to = {
            name: part.group.deferred_to
            for part in self._vector.groups
            if part.group.deferred_to is not None
            for name in part.names
        }
        """Tensor name -> the client whose push ends the round, of the tensors that wait for that."""
        self._duplicates = 0
        self._rejected = 0

    def initialize(self, values: Mapping[str, Tensor]) -> bool:
        """Set the initial values, unless the shard has values already. Return whether it set them.

        Raises:
            UnknownParameter, ShapeMismatch, NonFinite: the slices are not exactly this shard's.
        """
        if missing := [name for name in self.shapes if name not in values]:
            raise UnknownParameter(f"initial values must cover shard {self.index}, missing: {', '.join(missing)}")
        check_tensors(self.shapes, values)
        if self._state.initialized:
            return False
        self._vector.set(values)
        self._state.initialized = True
        return True

    def pull(
        self,
        names: Sequence[str] | None = None,
        clients: Sequence[str] = (),
        expired: Set[str] = frozenset(),
        *,
        catching_up: bool = False,
    ) -> ShardValues:
        """Return copies of the named slices, or of all, and change nothing. Call `settle` first.

        Args:
            names: which slices; `None` for all.
            clients: who pulls for its next push; several only where no client ever waits.
            expired: the members whose lease has expired.
            catching_up: the client's last push is missing on other shards, so it need not wait.

        Raises:
            NotInitialized, UnknownParameter, TooFarAhead: see `ParameterStore.pull`.
        """
        self._require_initialized()
        requested = None if names is None else list(dict.fromkeys(names))
        check_names(self.shapes, requested or ())
        if not catching_up:
            for client in clients:
                self._membership.check_pace(client, self._clocks(), expired)
        state = self._state
        applied = tuple(state.last_applied.get(client, [0, 0])[0] for client in clients)
        return ShardValues(self._vector.get(requested), state.version, state.incarnation, applied)

    def push(self, push: ShardPush, expired: Set[str] = frozenset()) -> ShardAck:
        """Apply one client's slices exactly once; ack a duplicate without applying it.

        The ack of a duplicate has the staleness of the client's newest applied push.

        Raises:
            NotInitialized, UnknownParameter, ShapeMismatch, NonFinite, LostPushes: nothing has changed.
        """
        ack = self.begin_push(push, expired)
        self.take_steps([self])
        return ack

    def begin_push(self, push: ShardPush, expired: Set[str] = frozenset()) -> ShardAck:
        """Do all of `push` but the arithmetic, for which there is `take_steps`; until then no gradient may change.

        Raises:
            NotInitialized, UnknownParameter, ShapeMismatch, NonFinite, LostPushes: nothing has changed.
        """
        try:
            self._require_initialized()
            check_rated(self.layout, push.rates)
            check_tensors(self.shapes, push.gradients)
            self._require_earlier_pushes(push)
        except StoreError:
            self._rejected += 1
            raise
        state = self._state
        last_sequence, staleness = state.last_applied.get(push.client, [0, 0])
        if duplicate := push.sequence <= last_sequence:
            self._duplicates += 1
        else:
            staleness = max(0, state.version - push.seen_version)
            state.last_applied[push.client] = [push.sequence, staleness]
            if self._is_too_stale(staleness):
                state.dropped += 1
            else:
                state.pushes += 1
                gradients = self._scaled(self._ordered(push.gradients), staleness)
                state.version += self._step(self._kept(push, gradients), push.rates)
            state.version += self._end_round(push.client)
            self.settle(expired, push.client)
            if push.note:
                state.order.add(state.version, push.client, push.sequence, push.note)
        return ShardAck(state.version, state.incarnation, staleness, duplicate, self._is_too_stale(staleness))

    def leave(self, client: str, expired: Set[str] = frozenset()) -> bool:
        """Record that a member has left, until it pulls or pushes again. Return whether that changed anything."""
        changed = self._membership.leave(client)
        return self.settle(expired) or changed

    def settle(self, expired: Set[str], *clients: str) -> bool:
        """Make the clients members again if they had left, and take the step of a synchronous round that is complete.

        Returns:
            Whether anything changed, which must then become as durable as a push.
        """
        changed = any([self._membership.rejoin(client) for client in clients])
        if self._membership.end_round(self._clocks(), expired, has_sums=bool(self._state.sums)):
            self._state.version += self._step_sums(list(self._state.sums))
            changed = True
        return changed

    def restart(self, starts: int = 1) -> None:
        """Increase the incarnation by `starts`."""
        self._state.incarnation += starts

    @property
    def incarnation(self) -> int:
        """How often the shard has been started or restored."""
        return self._state.incarnation

    @property
    def order(self) -> Order:
        """Which pushes it has applied, of those that came with a note."""
        return self._state.order

    @staticmethod
    def take_steps(shards: Sequence["Shard"]) -> None:
        """Do the arithmetic of the pushes that have begun, which takes less time than that of each shard alone."""
        take_steps([shard._vector for shard in shards])

    def status(self) -> ShardStatus:
        """Return the counters, without those of the snapshot file."""
        return ShardStatus(
            index=self.index,
            version=self._state.version,
            incarnation=self._state.incarnation,
            initialized=self._state.initialized,
            pushes=self._state.pushes,
            dropped=self._state.dropped,
            duplicates=self._duplicates,
            rejected=self._rejected,
            elements=sum(self.sizes.values()),
            clients=len(self._state.last_applied),
        )

    def state(self) -> ShardState:
        """Return a deep copy of the shard's whole state."""
        state = self._state
        metadata = {
            "initialized": state.initialized,
            "version": state.version,
            "incarnation": state.incarnation,
            "pushes": state.pushes,
            "dropped": state.dropped,
            "clients": dict(state.last_applied),
            "membership": self._membership.to_json(),
        }
        more = {**state.sums.tensors(), **state.deferred.tensors()}
        metadata |= state.sums.to_json() | state.deferred.to_json() | state.order.to_json()
        return ShardState(self._vector.state(more), metadata)

    def restore(self, saved: ShardState) -> None:
        """Restore a copy of the state that `state` returned for a shard of the same layout and index."""
        metadata = saved.metadata
        self._vector.restore(saved.tensors)
        self._state = _Mutable(
            initialized=metadata["initialized"],
            version=metadata["version"],
            incarnation=metadata["incarnation"],
            pushes=metadata["pushes"],
            dropped=metadata.get("dropped", 0),  # files that predate `dropped` do not have it
            last_applied=dict(metadata["clients"]),
            sums=Sums.restored(saved.tensors, metadata),
            deferred=Deferred.restored(saved.tensors, metadata),
            order=Order.restored(metadata),
        )
        self._membership.restore(metadata.get("membership", {}))

    def _require_earlier_pushes(self, push: ShardPush) -> None:
        """Raise `LostPushes` if the shard has lost pushes of this client; a newer push would hide the loss."""
        last_sequence, _ = self._state.last_applied.get(push.client, [0, 0])
        if last_sequence < push.seen_applied:
            raise LostPushes(
                f"shard {self.index} has applied the pushes of {push.client!r} up to {last_sequence}, but the client "
                f"has seen {push.seen_applied} applied"
            )

    def _require_initialized(self) -> None:
        if not self._state.initialized:
            raise NotInitialized(f"shard {self.index} of run {self.layout.run!r} has no values: initialize it first")

    def _clocks(self) -> dict[str, int]:
        """Return each client's highest sequence applied; nothing in a mode that does not need it.

        Going through thousands of clients takes time.
        """
        last_applied = self._state.last_applied if self._rules.waits else {}
        return {client: sequence for client, (sequence, _) in last_applied.items()}

    def _is_too_stale(self, staleness: int) -> bool:
        limit = self._rules.max_staleness
        return limit is not None and staleness > limit

    def _ordered(self, gradients: Mapping[str, Tensor]) -> Slices:
        if isinstance(gradients, Slices):
            return gradients
        return Slices.of({name: gradients[name] for name in self.shapes if name in gradients})

    def _scaled(self, gradients: Slices, staleness: int) -> Slices:
        """Return the gradients, divided by the staleness where `stale` is `scale`."""
        if self._rules.stale != "scale" or staleness <= 1:
            return gradients
        scaled = Slices(gradients.sizes, gradients.flat / staleness)
        for part in self._vector.groups:
            if part.group.optimizer == "average":
                for name in gradients.sizes.keys() & part.names:
                    scaled[name].copy_(gradients[name])
        return scaled

    def _kept(self, push: ShardPush, gradients: Slices) -> Slices:
        """Keep what waits for the end of a round, and return the rest."""
        if not self._deferred_to:
            return gradients
        at_once, waiting = split(gradients, self._deferred_to)
        for until, part in waiting.items():
            self._state.deferred.add(Kept(until, push.client, push.sequence, part, push.rates))
        return at_once

    def _end_round(self, client: str) -> int:
        """Take the steps that waited for this client's push, and return how many there were."""
        ended = self._state.deferred.end_round(client)
        for one in ended:
            self._vector.step(one.gradients, one.rates)
        return len(ended)

    def _step(self, gradients: Slices, rates: Mapping[str, float]) -> bool:
        """Take the steps that need no other push, and add to the sums of the others. Return whether any was taken."""
        summing = self._summing
        if not summing:
            self._vector.step(gradients, rates)
            return bool(gradients)
        complete: list[str] = []
        for name in [name for name in gradients if name in summing]:
            count = self._state.sums.add(name, gradients[name], rates.get(summing[name].name))
            if count == summing[name].accumulate and self._rules.mode != "sync":
                complete.append(name)
        single = {name: gradient for name, gradient in gradients.items() if name not in summing}
        if single:
            self._vector.step(Slices.of(single), rates)
        return self._step_sums(complete) or bool(single)

    def _step_sums(self, names: Sequence[str]) -> bool:
        """Take the step of tensors whose sums are complete, on their means. Return whether there are any."""
        complete = {name: self._state.sums.pop(name) for name in self.shapes if name in names}
        for rate in dict.fromkeys(one.rate for one in complete.values()):
            means = Slices.of({name: one.mean for name, one in complete.items() if one.rate == rate})
            self._vector.step(means, {} if rate is None else {p.group.name: rate for p in self._vector.groups})
        return bool(complete)
