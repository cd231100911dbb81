"""When clients have to wait, compared with the papers, on one shard without a store."""

import random

import pytest
import torch
from torch import Tensor

from ps.consistency import Consistency
from ps.errors import TooFarAhead
from ps.shard.leases import Leases
from ps.shard.membership import Membership
from ps.shard.messages import ShardPush
from ps.shard.shard import Shard
from ps.store import Group, Layout

NAMES = ("a", "b", "c", "d")


def layout(shards: int = 1, accumulate: int = 1, **rules: object) -> Layout:
    group = Group(name="g", shapes={"x": (2,)}, optimizer="sgd", options={"lr": 1.0}, accumulate=accumulate)
    consistency = Consistency(**rules)  # pyright: ignore[reportArgumentType]
    return Layout(run="pace", groups=(group,), shards=shards, consistency=consistency)


def fresh(**rules: object) -> Shard:
    shard = Shard(layout(**rules), 0)
    shard.initialize({"x": torch.zeros(2)})
    return shard


def push(shard: Shard, client: str, sequence: int, size: float = 1.0, seen: int = 0, expired: str = ""):
    gradients = {"x": torch.full((2,), size)}
    part = ShardPush(client=client, sequence=sequence, gradients=gradients, seen_version=seen)
    return shard.push(part, frozenset(expired))


def may_go_on(shard: Shard, client: str, expired: str = "") -> bool:
    shard.settle(frozenset(expired), client)
    try:
        shard.pull([], [client], frozenset(expired))
    except TooFarAhead:
        return False
    return True


def x(shard: Shard) -> float:
    return shard.pull(["x"]).values["x"][0].item()


@pytest.mark.parametrize("bound", [0, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_under_any_schedule_no_client_exceeds_the_bound(bound: int, seed: int):
    """Check Ho et al. 2013, section 2: the fastest and the slowest working client are at most the bound apart.

    A client works on its push number clock + 1 once its pull has succeeded. The slowest client's pull always does.
    """
    rng = random.Random(seed)
    shard = fresh(mode="ssp", members=NAMES, bound=bound)
    done = dict.fromkeys(NAMES, 0)
    working: set[str] = set()
    widest = 0
    for _ in range(400):
        client = rng.choices(NAMES, weights=(8, 4, 2, 1))[0]
        if client in working:
            done[client] += 1
            push(shard, client, done[client])
            working.remove(client)
        elif may_go_on(shard, client):
            working.add(client)
            ahead = done[client] - min(done.values())
            assert ahead <= bound
            widest = max(widest, ahead)
        else:
            assert done[client] - min(done.values()) > bound
        slowest = min(done, key=done.__getitem__)
        assert slowest in working or may_go_on(shard, slowest)
    assert widest == bound, "the bound is used, too"


def test_async_lets_every_client_pull():
    shard = fresh()
    for sequence in range(1, 9):
        push(shard, "a", sequence)
        assert may_go_on(shard, "a")


def test_a_member_with_an_expired_lease_is_waited_for_only_when_it_returns():
    shard = fresh(mode="ssp", members=NAMES)
    for client in "abc":
        push(shard, client, 1)
    assert not may_go_on(shard, "a")
    assert may_go_on(shard, "a", expired="d")
    push(shard, "a", 2, expired="d")
    assert not may_go_on(shard, "a", expired="d")
    assert not may_go_on(shard, "c")
    assert may_go_on(shard, "d")


def test_without_live_members_every_client_may_pull():
    shard = fresh(mode="ssp", members=NAMES)
    push(shard, "stranger", 7)
    assert not may_go_on(shard, "stranger")
    assert may_go_on(shard, "stranger", expired="abcd")


def test_a_message_names_only_some_of_many():
    membership = Membership(Consistency(mode="sync", members=tuple("abcdefgh")))
    with pytest.raises(TooFarAhead, match=r"waiting for 'b' \(0\), 'c' \(1\), 'd' \(0\) and 4 more$") as caught:
        membership.check_pace("a", {"a": 2, "c": 1}, frozenset())
    assert caught.value.applied == 2


def test_a_round_ends_when_the_missing_members_lease_expires():
    shard = fresh(mode="sync", members=NAMES)
    for client in "abc":
        push(shard, client, 1, 3.0)
    assert not shard.settle(frozenset())
    assert x(shard) == 0.0
    assert shard.settle(frozenset("d"))
    assert x(shard) == -3.0
    assert not shard.settle(frozenset("d")), "a round ends once"
    assert shard.status().version == 1


def test_a_late_member_joins_the_next_round():
    shard = fresh(mode="sync", members=("a", "b"))
    push(shard, "a", 1, 1.0)
    assert may_go_on(shard, "a", expired="b")
    assert x(shard) == -1.0
    assert push(shard, "b", 1, 8.0).staleness == 1  # it returns with what it computed before its lease expired
    assert x(shard) == -1.0
    assert may_go_on(shard, "a")
    assert may_go_on(shard, "b")
    push(shard, "a", 2, 2.0, seen=1)
    assert x(shard) == -1.0
    assert not may_go_on(shard, "a")
    push(shard, "b", 2, 2.0, seen=1)
    assert x(shard) == -1.0 - (8.0 + 2.0 + 2.0) / 3
    for client in "ab":
        assert may_go_on(shard, client)
        assert push(shard, client, 3, 1.0, seen=2).staleness == 0
    assert x(shard) == -6.0


def test_a_client_that_skips_a_number_stays_in_step():
    shard = fresh(mode="sync", members=("a", "b"))
    push(shard, "a", 1)
    push(shard, "b", 2)
    assert shard.status().version == 1
    assert not may_go_on(shard, "b"), "it is one ahead"
    assert may_go_on(shard, "a")
    push(shard, "a", 2)
    assert shard.status().version == 2
    assert may_go_on(shard, "a")
    assert may_go_on(shard, "b")


def test_a_dropped_push_is_its_clients_push_of_the_round():
    shard = fresh(mode="sync", members=("a", "b"), stale="drop", max_staleness=0)
    push(shard, "a", 1, expired="b")
    assert push(shard, "b", 1, 5.0).dropped
    push(shard, "a", 2, 2.0, seen=1)
    assert push(shard, "b", 2, 4.0, seen=1).staleness == 0
    assert x(shard) == -1.0 - 3.0


def test_a_round_of_nothing_but_dropped_pushes_is_no_step():
    shard = fresh(mode="sync", members=("a",), stale="drop", max_staleness=0)
    push(shard, "a", 1)
    assert push(shard, "a", 2).dropped
    assert (shard.status().version, x(shard)) == (1, -1.0)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_scaling_follows_zhang_et_al(accumulate: int):
    """Check section 3: the learning rate is divided by the staleness, which is 1 here for what is not stale."""
    shard = fresh(stale="scale", accumulate=accumulate)
    generator = torch.Generator().manual_seed(0)
    expected, version = torch.zeros(2), 0
    scaled: list[Tensor] = []
    for number in range(1, 25):
        gradient = torch.randn(2, generator=generator)
        seen = int(torch.randint(0, version + 1, (), generator=generator))
        part = ShardPush(client="k", sequence=number, gradients={"x": gradient}, seen_version=seen)
        assert shard.push(part).staleness == version - seen
        scaled.append(gradient / max(1, version - seen))
        if len(scaled) == accumulate:
            total = scaled[0]
            for other in scaled[1:]:
                total = total + other
            expected = expected - total / accumulate
            version, scaled = version + 1, []
    assert torch.equal(shard.pull().values["x"], expected)


def test_a_state_from_before_membership_existed_still_loads():
    shard = Shard(layout(), 0)
    shard.initialize({"x": torch.zeros(2)})
    push(shard, "a", 1)
    saved = shard.state()
    for key in ("membership", "dropped"):
        del saved.metadata[key]
    other = Shard(layout(), 0)
    other.restore(saved)
    assert push(other, "a", 1).duplicate
    assert other.status().dropped == 0
    assert x(other) == -1.0


def test_every_request_renews_a_lease():
    now = [100.0]
    leases = Leases(Consistency(mode="ssp", members=("a", "b"), lease_s=10), lambda: now[0])
    now[0] = 109.0
    leases.renew("b")
    leases.renew("stranger")
    leases.renew(None)
    assert leases.expired() == frozenset()
    now[0] = 110.0
    assert leases.expired() == {"a"}
    now[0] = 119.0
    assert leases.expired() == {"a", "b"}
    leases.renew("a")
    assert leases.expired() == {"b"}
