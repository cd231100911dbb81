"""One shard as a pure state machine: no clock, no file, no lock. What goes in decides what comes out."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ps.errors import LostPushes, NotInitialized, StoreError, UnknownParameter
from ps.optimizers import UpdateRule
from ps.partition import partition
from ps.shard.membership import Membership
from ps.shard.messages import ShardAck, ShardPush, ShardState, ShardValues
from ps.status import ShardStatus
from ps.store import Group, Layout
from ps.validation import check_names, check_tensors


@dataclass(slots=True)
class _Mutable:
    """What changes: everything here travels in `ShardState`, and a bad push touches none of it."""

    initialized: bool = False
    version: int = 0
    incarnation: int = 1
    pushes: int = 0
    dropped: int = 0
    # client -> (the highest sequence applied, the staleness that it was acked with)
    clients: dict[str, tuple[int, int]] = field(default_factory=dict)
    # tensor name -> (the sum of the pushes since its last step, how many they are); for accumulate > 1 and `sync`
    sums: dict[str, tuple[Tensor, int]] = field(default_factory=dict)


class Shard:
    """A range of the flattened vector, with its optimizers and its memory of who has pushed what.

    With `accumulate=N` pushes are counted for each tensor, not for the group: a push may name only some tensors,
    and a count for the group would depend on which of them lie on this shard.

    Who has to wait, and when a synchronous round ends, depends on whose lease has ended: `lapsed` says so wherever it
    matters, as a shard has no clock.
    """

    def __init__(self, layout: Layout, index: int) -> None:
        if not 0 <= index < layout.shards:
            raise ValueError(f"a shard's index must be from 0 to {layout.shards - 1}, got {index}")
        self.layout = layout
        self.index = index
        self.shapes = {s.name: (s.size,) for s in partition(layout.shapes, layout.shards)[index]}
        """Tensor name -> shape of its slice here: always 1-D."""
        self._values = {name: torch.zeros(shape) for name, shape in self.shapes.items()}
        self._groups: list[tuple[Group, list[str]]] = []
        for group in layout.groups:
            if here := [name for name in group.shapes if name in self.shapes]:
                self._groups.append((group, here))
        self._update_rules = self._fresh_update_rules()
        self._state = _Mutable()
        self._rules = layout.consistency
        self._membership = Membership(self._rules)
        self._duplicates = 0
        self._rejected = 0

    def initialize(self, values: Mapping[str, Tensor]) -> bool:
        """Take the initial values, unless there are some already; whether it took them.

        Raises:
            UnknownParameter, ShapeMismatch, NonFinite: the slices are not exactly this shard's.
        """
        if missing := [name for name in self.shapes if name not in values]:
            raise UnknownParameter(f"initial values must cover shard {self.index}, missing: {', '.join(missing)}")
        check_tensors(self.shapes, values)
        if self._state.initialized:
            return False
        for name, value in values.items():
            self._values[name].copy_(value)
        self._state.initialized = True
        return True

    def pull(
        self,
        names: Sequence[str] | None = None,
        client: str | None = None,
        lapsed: Set[str] = frozenset(),
        *,
        catching_up: bool = False,
    ) -> ShardValues:
        """Copies of the named slices, or of all of them. Changes nothing: `settle` comes before.

        Args:
            names: which slices; `None` for all.
            client: who pulls for its next push.
            lapsed: the members whose lease has ended.
            catching_up: the client's last push is missing on other shards, so it need not wait for anybody.

        Raises:
            NotInitialized, UnknownParameter, TooFarAhead: see `ParameterStore.pull`.
        """
        self._require_initialized()
        wanted = list(self.shapes) if names is None else list(dict.fromkeys(names))
        check_names(self.shapes, wanted)
        if client is not None and not catching_up:
            self._membership.check_pace(client, self._clocks(), lapsed)
        applied = None if client is None else self._state.clients.get(client, (0, 0))[0]
        values = {name: self._values[name].clone() for name in wanted}
        return ShardValues(values, self._state.version, self._state.incarnation, applied)

    def push(self, push: ShardPush, lapsed: Set[str] = frozenset()) -> ShardAck:
        """Apply one client's slices once; an old sequence is acked again without being applied.

        The ack of a repetition carries the staleness of the client's newest applied push.

        Raises:
            NotInitialized, UnknownParameter, ShapeMismatch, NonFinite, LostPushes: nothing has changed.
        """
        try:
            self._require_initialized()
            check_tensors(self.shapes, push.gradients)
            self._require_seen(push)
        except StoreError:
            self._rejected += 1
            raise
        state = self._state
        last, staleness = state.clients.get(push.client, (0, 0))
        if duplicate := push.sequence <= last:
            self._duplicates += 1
        else:
            staleness = max(0, state.version - push.seen_version)
            state.clients[push.client] = push.sequence, staleness
            if self._drops(staleness):
                state.dropped += 1
            else:
                state.pushes += 1
                state.version += self._step(self._collect(self._scaled(push.gradients, staleness)))
            self.settle(lapsed, push.client)
        return ShardAck(state.version, state.incarnation, staleness, duplicate, self._drops(staleness))

    def leave(self, client: str, lapsed: Set[str] = frozenset()) -> bool:
        """Wait for this member no more, until it pulls or pushes again; whether that changed anything."""
        changed = self._membership.dismiss(client)
        return self.settle(lapsed) or changed

    def settle(self, lapsed: Set[str], client: str | None = None) -> bool:
        """Count `client` as a member again, and take the step of a round that waits for nobody any more.

        Returns:
            Whether anything changed, which must then become as durable as a push.
        """
        changed = self._membership.welcome(client)
        if self._membership.end_round(self._clocks(), lapsed, summed=bool(self._state.sums)):
            means = {name: self._mean(name) for name in list(self._state.sums)}
            self._state.version += self._step(means)
            changed = True
        return changed

    def restart(self, starts: int = 1) -> None:
        """Count a new incarnation, `starts` above the last."""
        self._state.incarnation += starts

    def status(self) -> ShardStatus:
        """The counters; `writes` is not this class's to know."""
        return ShardStatus(
            index=self.index,
            version=self._state.version,
            incarnation=self._state.incarnation,
            initialized=self._state.initialized,
            pushes=self._state.pushes,
            dropped=self._state.dropped,
            duplicates=self._duplicates,
            rejected=self._rejected,
            elements=sum(math.prod(shape) for shape in self.shapes.values()),
            clients=len(self._state.clients),
        )

    def state(self) -> ShardState:
        """A deep copy of all that the shard knows."""
        state = self._state
        tensors = {f"value/{name}": value.clone() for name, value in self._values.items()}
        for name, (total, _) in state.sums.items():
            tensors[f"sum/{name}"] = total.clone()
        for (_, here), rule in zip(self._groups, self._update_rules, strict=True):
            for name in here:
                for key, entry in rule.state.get(name, {}).items():
                    tensors[f"optimizer/{key}/{name}"] = entry.clone()
        metadata = {
            "initialized": state.initialized,
            "version": state.version,
            "incarnation": state.incarnation,
            "pushes": state.pushes,
            "dropped": state.dropped,
            "clients": {client: list(entry) for client, entry in state.clients.items()},
            "summed": {name: count for name, (_, count) in state.sums.items()},
            "membership": self._membership.to_json(),
        }
        return ShardState(tensors, metadata)

    def restore(self, saved: ShardState) -> None:
        """Become the shard that gave `saved`, which is copied; the layout and the index must be the same."""
        data = saved.metadata
        for name, value in self._values.items():
            value.copy_(saved.tensors[f"value/{name}"])
        self._update_rules = self._fresh_update_rules()
        for (_, here), rule in zip(self._groups, self._update_rules, strict=True):
            for key, tensor in saved.tensors.items():
                kind, _, rest = key.partition("/")
                slot, _, name = rest.partition("/")
                if kind == "optimizer" and name in here:
                    rule.state.setdefault(name, {})[slot] = tensor.clone()
        self._state = _Mutable(
            initialized=data["initialized"],
            version=data["version"],
            incarnation=data["incarnation"],
            pushes=data["pushes"],
            dropped=data.get("dropped", 0),  # files from before pushes could be dropped do not have it
            clients={client: (sequence, staleness) for client, (sequence, staleness) in data["clients"].items()},
            sums={name: (saved.tensors[f"sum/{name}"].clone(), count) for name, count in data["summed"].items()},
        )
        self._membership.restore(data.get("membership", {}))

    def _require_seen(self, push: ShardPush) -> None:
        """A newer push would hide for ever that the ones before it are gone."""
        last, _ = self._state.clients.get(push.client, (0, 0))
        if last < push.seen_applied:
            raise LostPushes(
                f"shard {self.index} has {push.client!r} at push {last}, which it had seen at {push.seen_applied}"
            )

    def _require_initialized(self) -> None:
        if not self._state.initialized:
            raise NotInitialized(f"shard {self.index} of run {self.layout.run!r} has no values: initialize it first")

    def _fresh_update_rules(self) -> list[UpdateRule]:
        return [UpdateRule(group.optimizer, group.options) for group, _ in self._groups]

    def _clocks(self) -> dict[str, int]:
        """What each client has pushed up to, where anybody is waited for: to look at thousands of them takes time."""
        clients = self._state.clients if self._rules.waits else {}
        return {client: sequence for client, (sequence, _) in clients.items()}

    def _drops(self, staleness: int) -> bool:
        limit = self._rules.max_staleness
        return limit is not None and staleness > limit

    def _scaled(self, gradients: Mapping[str, Tensor], staleness: int) -> Mapping[str, Tensor]:
        """The gradients, weighed by how old the values are that they were computed from."""
        if self._rules.stale != "scale" or staleness <= 1:
            return gradients
        observed = {name for group, here in self._groups if group.optimizer == "average" for name in here}
        return {name: g if name in observed else g / staleness for name, g in gradients.items()}

    def _collect(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add to the sums what others must come to, and give back what is to be stepped on now."""
        ready: dict[str, Tensor] = {}
        for group, here in self._groups:
            for name in here:
                if name not in gradients:
                    continue
                if group.accumulate == 1 and self._rules.mode != "sync":
                    ready[name] = gradients[name]  # a step only reads it
                elif self._add(name, gradients[name]) == group.accumulate and self._rules.mode != "sync":
                    ready[name] = self._mean(name)
        return ready

    def _add(self, name: str, gradient: Tensor) -> int:
        """Add to a tensor's sum; how many gradients it holds now."""
        total, count = self._state.sums.get(name, (None, 0))
        total = gradient.clone() if total is None else total.add_(gradient)
        self._state.sums[name] = total, count + 1
        return count + 1

    def _mean(self, name: str) -> Tensor:
        total, count = self._state.sums.pop(name)
        return total.div_(count)

    def _step(self, gradients: Mapping[str, Tensor]) -> bool:
        """Step the tensors that have a gradient; whether there were any."""
        for (_, here), rule in zip(self._groups, self._update_rules, strict=True):
            rule.step({name: self._values[name] for name in here}, gradients)
        return bool(gradients)
