"""The pace of clients against what the papers say, without any store."""

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


def push(shard: Shard, client: str, sequence: int, size: float = 1.0, seen: int = 0, lapsed: str = ""):
    gradients = {"x": torch.full((2,), size)}
    part = ShardPush(client=client, sequence=sequence, gradients=gradients, seen_version=seen)
    return shard.push(part, frozenset(lapsed))


def may_go_on(shard: Shard, client: str, lapsed: str = "") -> bool:
    shard.settle(frozenset(lapsed), client)
    try:
        shard.pull([], client, frozenset(lapsed))
    except TooFarAhead:
        return False
    return True


def x(shard: Shard) -> float:
    return shard.pull(["x"]).values["x"][0].item()


@pytest.mark.parametrize("bound", [0, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_under_any_schedule_nobody_is_further_ahead_than_the_bound(bound: int, seed: int):
    """Ho et al. 2013, section 2: at every moment the fastest and the slowest that work are at most the bound apart.

    A client works on its push number clock + 1 once it has been let through. The one that is slowest always is.
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


def test_async_lets_everybody_through():
    shard = fresh()
    for sequence in range(1, 9):
        push(shard, "a", sequence)
        assert may_go_on(shard, "a")


def test_whose_lease_has_ended_is_waited_for_no_more_until_it_is_back():
    shard = fresh(mode="ssp", members=NAMES)
    for client in "abc":
        push(shard, client, 1)
    assert not may_go_on(shard, "a")
    assert may_go_on(shard, "a", lapsed="d")
    push(shard, "a", 2, lapsed="d")
    assert not may_go_on(shard, "a", lapsed="d")
    assert not may_go_on(shard, "c")
    assert may_go_on(shard, "d")


def test_with_nobody_left_everybody_may_go_on():
    shard = fresh(mode="ssp", members=NAMES)
    push(shard, "stranger", 7)
    assert not may_go_on(shard, "stranger")
    assert may_go_on(shard, "stranger", lapsed="abcd")


def test_a_message_names_only_some_of_many():
    membership = Membership(Consistency(mode="sync", members=tuple("abcdefgh")))
    with pytest.raises(TooFarAhead, match=r"waiting for 'b' \(0\), 'c' \(1\), 'd' \(0\) and 4 more$") as caught:
        membership.check_pace("a", {"a": 2, "c": 1}, frozenset())
    assert caught.value.applied == 2


def test_a_round_ends_when_the_lease_of_the_missing_one_does():
    shard = fresh(mode="sync", members=NAMES)
    for client in "abc":
        push(shard, client, 1, 3.0)
    assert not shard.settle(frozenset())
    assert x(shard) == 0.0
    assert shard.settle(frozenset("d"))
    assert x(shard) == -3.0
    assert not shard.settle(frozenset("d")), "a round ends once"
    assert shard.status().version == 1


def test_a_late_member_joins_the_next_round_and_is_in_step_again():
    shard = fresh(mode="sync", members=("a", "b"))
    push(shard, "a", 1, 1.0)
    assert may_go_on(shard, "a", lapsed="b")
    assert x(shard) == -1.0
    assert push(shard, "b", 1, 8.0).staleness == 1  # it comes back with what it had computed before it was given up
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
    push(shard, "a", 1, lapsed="b")
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
def test_scaling_is_as_zhang_et_al_write_it(accumulate: int):
    """Section 3: the learning rate divided by the staleness, which is here 1 for what is not stale."""
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


def test_a_state_from_before_there_were_members_still_loads():
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


def test_a_lease_is_renewed_by_every_sign_of_life():
    now = [100.0]
    leases = Leases(Consistency(mode="ssp", members=("a", "b"), lease_s=10), lambda: now[0])
    now[0] = 109.0
    leases.hear("b")
    leases.hear("stranger")
    leases.hear(None)
    assert leases.lapsed() == frozenset()
    now[0] = 110.0
    assert leases.lapsed() == {"a"}
    now[0] = 119.0
    assert leases.lapsed() == {"a", "b"}
    leases.hear("a")
    assert leases.lapsed() == {"b"}
