"""A shard in every mode, under any pushes, departures, expired leases and crashes, against a plain dictionary."""

import math
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ps.consistency import Consistency
from ps.errors import NonFinite, TooFarAhead
from ps.shard.messages import ShardPush
from ps.shard.shard import Shard
from ps.store import Group, Layout

MEMBERS = ("a", "b", "c")
CLIENTS = (*MEMBERS, "stranger")
START = {"x": 0.0, "y": 0.0, "m": 0.0}

MODES: list[dict[str, Any]] = [
    {"mode": "async"},
    {"mode": "ssp", "bound": 0, "members": MEMBERS},
    {"mode": "ssp", "bound": 2, "members": MEMBERS},
    {"mode": "sync", "members": MEMBERS},
]
STALE: list[dict[str, Any]] = [{"stale": "apply"}, {"stale": "scale"}, {"stale": "drop", "max_staleness": 1}]
RULES = [Consistency(**mode, **stale) for mode in MODES for stale in STALE]


def layout(consistency: Consistency) -> Layout:
    sgd = Group(name="sgd", shapes={"x": (1,), "y": (1,)}, optimizer="sgd", options={"lr": 1.0})
    mean = Group(name="mean", shapes={"m": (1,)}, optimizer="average", options={"decay": 0.5})
    return Layout(run="machine", groups=(sgd, mean), shards=1, consistency=consistency)


class Model:
    """The rules again, with floats and sets. Numbers are small dyadic fractions, or compared with a tolerance."""

    def __init__(self, rules: Consistency) -> None:
        self.rules = rules
        self.values = dict(START)
        self.version = self.level = self.pushes = self.dropped = 0
        self.newest: dict[str, int] = {}
        self.acked: dict[str, int] = {}
        self.left: set[str] = set()
        self.expired: set[str] = set()
        self.open: list[dict[str, float]] = []

    def live(self) -> list[str]:
        return [m for m in self.rules.members if m not in self.left | self.expired]

    def clock(self, client: str) -> int:
        return self.newest.get(client, 0)

    def held_back(self, client: str) -> bool:
        slowest = min((self.clock(m) for m in self.live()), default=math.inf)
        return self.rules.mode != "async" and self.clock(client) - slowest > self.rules.bound

    def push(self, client: str, sequence: int, gradients: dict[str, float], seen: int) -> tuple[bool, int, bool]:
        duplicate = sequence <= self.clock(client)
        if not duplicate:
            self.newest[client] = sequence
            self.left.discard(client)
            staleness = self.acked[client] = max(0, self.version - seen)
            if self.drops(staleness):
                self.dropped += 1
            else:
                self.pushes += 1
                divisor = max(1, staleness) if self.rules.stale == "scale" else 1
                scaled = {name: g if name == "m" else g / divisor for name, g in gradients.items()}
                if self.rules.mode == "sync":
                    self.open.append(scaled)
                else:
                    self.step(scaled)
            self.settle()
        staleness = self.acked[client]
        return duplicate, staleness, self.drops(staleness)

    def drops(self, staleness: int) -> bool:
        return self.rules.stale == "drop" and staleness > (self.rules.max_staleness or 0)

    def settle(self) -> None:
        if self.rules.mode != "sync":
            return
        live = self.live()
        slowest = min((self.clock(m) for m in live), default=0)
        if slowest > self.level or (not live and self.open):
            named = {name: [g[name] for g in self.open if name in g] for name in START}
            self.step({name: sum(gs) / len(gs) for name, gs in named.items() if gs})
            self.open = []
            self.level = max(self.level, slowest)

    def step(self, gradients: dict[str, float]) -> None:
        for name, g in gradients.items():
            self.values[name] = (self.values[name] + g) / 2 if name == "m" else self.values[name] - g
        self.version += bool(gradients)


class ModesMachine(RuleBasedStateMachine):
    @initialize(rules=st.sampled_from(RULES))
    def start(self, rules: Consistency) -> None:
        self.layout = layout(rules)
        self.shard = Shard(self.layout, 0)
        self.shard.initialize({name: torch.zeros(1) for name in START})
        self.model = Model(rules)

    def deliver(self, client: str, sequence: int, gradients: dict[str, float], seen: int) -> None:
        self.model.expired.discard(client)  # a push or pull renews the lease
        tensors = {name: torch.tensor([g]) for name, g in gradients.items()}
        part = ShardPush(client=client, sequence=sequence, gradients=tensors, seen_version=seen)
        ack = self.shard.push(part, frozenset(self.model.expired))
        expected = self.model.push(client, sequence, gradients, seen)
        assert (ack.duplicate, ack.staleness, ack.dropped) == expected
        assert ack.version == self.model.version

    @rule(
        client=st.sampled_from(CLIENTS),
        skipped=st.sampled_from([1, 1, 1, 2]),
        gradients=st.dictionaries(st.sampled_from("xym"), st.integers(-8, 8).map(float)),
        behind=st.integers(0, 3),
    )
    def push(self, client: str, skipped: int, gradients: dict[str, float], behind: int) -> None:
        seen = max(0, self.model.version - behind)
        self.deliver(client, self.model.clock(client) + skipped, gradients, seen)

    @precondition(lambda self: self.model.newest)
    @rule(data=st.data())
    def push_again(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(sorted(self.model.newest)))
        self.deliver(client, data.draw(st.integers(1, self.model.clock(client))), {"x": 5.0}, 0)

    @rule(client=st.sampled_from(CLIENTS))
    def push_badly(self, client: str) -> None:
        before = self.shard.state()
        bad = {"x": torch.ones(1), "m": torch.tensor([math.nan])}
        with pytest.raises(NonFinite):
            self.shard.push(ShardPush(client=client, sequence=99, gradients=bad, seen_version=0))
        after = self.shard.state()
        assert after.metadata == before.metadata
        assert after.tensors.keys() == before.tensors.keys()
        assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())

    @rule(client=st.sampled_from(CLIENTS), catching_up=st.booleans())
    def pull(self, client: str, catching_up: bool) -> None:
        model = self.model
        model.expired.discard(client)
        model.left.discard(client)
        model.settle()
        expired = frozenset(model.expired)
        self.shard.settle(expired, client)
        if model.held_back(client) and not catching_up:
            with pytest.raises(TooFarAhead) as caught:
                self.shard.pull(None, [client], expired)
            assert caught.value.applied == model.clock(client)
        else:
            pulled = self.shard.pull(None, [client], expired, catching_up=catching_up)
            assert pulled.applied == (model.clock(client),)

    @rule(client=st.sampled_from(CLIENTS))
    def leave(self, client: str) -> None:
        is_member = client in set(self.model.rules.members) - self.model.left
        version = self.model.version
        if is_member:
            self.model.left.add(client)
        self.model.settle()
        changed = self.shard.leave(client, frozenset(self.model.expired))
        assert changed or (not is_member and self.model.version == version)

    @precondition(lambda self: self.model.rules.members)
    @rule(member=st.sampled_from(MEMBERS))
    def lease_ends(self, member: str) -> None:
        self.model.expired.add(member)
        self.model.settle()
        self.shard.settle(frozenset(self.model.expired))

    @rule()
    def crash(self) -> None:
        saved = self.shard.state()
        self.shard = Shard(self.layout, 0)
        self.shard.restore(saved)
        assert self.shard.state().metadata == saved.metadata
        self.model.expired.clear()  # a restart renews every lease

    @invariant()
    def state_equals_the_models(self) -> None:
        pulled, status = self.shard.pull(), self.shard.status()
        for name, expected in self.model.values.items():
            torch.testing.assert_close(pulled.values[name], torch.tensor([expected]), rtol=1e-4, atol=1e-4)
        assert (status.version, status.pushes, status.dropped) == (
            self.model.version,
            self.model.pushes,
            self.model.dropped,
        )

    @invariant()
    def the_slowest_live_member_may_always_pull(self) -> None:
        """Check that there is always a client for which the others can wait."""
        expired = frozenset(self.model.expired)
        if live := self.model.live():
            self.shard.pull([], min(live, key=self.model.clock), expired)


TestModesMachine = ModesMachine.TestCase
TestModesMachine.settings = settings(max_examples=150, stateful_step_count=30)
