"""The contract for every `ParameterStore` whose layout makes clients wait, or treats stale pushes specially."""

import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from ps.consistency import Consistency
from ps.errors import LostPushes, NonFinite, StoreUnavailable, TooFarAhead
from ps.store import Ack, Group, Layout, ParameterStore, Push
from tests.contracts.parameter_store import OpenStore, assert_equal, sgd_layout

NAMES = ("a", "b", "c")


def layout(mode: Any = "async", *, shards: int = 3, optimizer: str = "sgd", **rules: Any) -> Layout:
    members = () if mode == "async" else NAMES
    groups = (
        Group(name="g", shapes={"x": (10,)}, optimizer=optimizer, options={"lr": 1.0}),
        Group(name="seen", shapes={"y": (5,)}, optimizer="average", options={"decay": 0.5}),
    )
    rules = {"members": members} | rules
    return Layout(run="modes", groups=groups, shards=shards, consistency=Consistency(mode=mode, **rules))


def opened(open_store: OpenStore, its_layout: Layout, **options: Any) -> ParameterStore:
    store = open_store(its_layout, **options)
    store.initialize({"x": torch.zeros(10), "y": torch.zeros(5)})
    return store


def push(store: ParameterStore, client: str, sequence: int, size: float = 1.0, seen: int | None = None) -> Ack:
    """Push `size` for every element, as computed from version `seen`, or from the current version."""
    versions = store.pull([]).versions if seen is None else (seen,) * len(store.status())
    gradients = {"x": torch.full((10,), size), "y": torch.full((5,), size)}
    return store.push(Push(client=client, sequence=sequence, gradients=gradients, versions=versions))


def held_back(store: ParameterStore, client: str) -> bool:
    try:
        store.pull([], client=client)
    except TooFarAhead:
        return True
    return False


def value(store: ParameterStore, name: str = "x") -> float:
    tensor = store.pull([name]).values[name]
    assert bool((tensor == tensor[0]).all()), tensor
    return tensor[0].item()


class ConsistencyContract:
    """Subclass and supply the fixture `open_store`."""

    def test_a_pull_returns_the_clients_highest_applied_sequence(self, open_store: OpenStore):
        store = opened(open_store, layout())
        assert store.pull().applied == ()
        assert store.pull(client="a").applied == (0, 0, 0)
        push(store, "a", 3)
        assert store.pull(["x"], client="a").applied == (3, 3, 3)
        assert store.pull(client="b").applied == (0, 0, 0)

    @pytest.mark.parametrize("client", ["", "x" * 201, "a\nb"])
    def test_a_client_needs_a_usable_name(self, open_store: OpenStore, client: str):
        store = opened(open_store, layout("ssp"))
        with pytest.raises(ValueError, match="`client` must be 1 to 200 printable"):
            store.pull(client=client)
        with pytest.raises(ValueError, match="`client` must be 1 to 200 printable"):
            store.leave(client)

    def test_async_never_refuses_a_pull(self, open_store: OpenStore):
        store = opened(open_store, layout())
        for sequence in range(1, 6):
            assert not held_back(store, "a")
            push(store, "a", sequence)
        store.leave("a")
        assert not held_back(store, "a")

    @pytest.mark.parametrize("bound", [0, 2])
    def test_ssp_refuses_a_client_further_ahead_than_the_bound(self, open_store: OpenStore, bound: int):
        store = opened(open_store, layout("ssp", bound=bound))
        for sequence in range(1, bound + 2):
            store.pull(client="a")
            assert push(store, "a", sequence).versions == (sequence,) * 3, "each push is a step of its own"
        began = time.monotonic()
        message = rf"'a' has pushed up to {bound + 1}, and may be {bound} ahead .* waiting for 'b' \(0\), 'c' \(0\)$"
        with pytest.raises(TooFarAhead, match=message):
            store.pull(client="a")
        assert time.monotonic() - began < 1, "it is refused at once"
        assert not held_back(store, "b")
        assert store.pull().values.keys() == {"x", "y"}, "a pull without a client never waits"
        push(store, "b", 1)
        with pytest.raises(TooFarAhead, match=r"waiting for 'c' \(0\)$"):
            store.pull(client="a")
        push(store, "c", 1)
        assert not held_back(store, "a")

    def test_a_member_that_left_is_waited_for_only_after_it_rejoins(self, open_store: OpenStore):
        store = opened(open_store, layout("ssp"))
        push(store, "a", 1)
        push(store, "b", 1)
        assert held_back(store, "a")
        for _ in range(2):
            store.leave("c")
        store.leave("stranger")
        assert not held_back(store, "a")
        store.pull(client="c")
        assert held_back(store, "a")
        store.leave("c")
        assert not held_back(store, "a")
        push(store, "c", 1)
        push(store, "a", 2)
        push(store, "b", 2)
        assert held_back(store, "a")

    def test_a_duplicate_push_does_not_make_its_client_rejoin(self, open_store: OpenStore):
        """A duplicate may be a copy that the network has delayed."""
        store = opened(open_store, layout("ssp"))
        for client in NAMES:
            push(store, client, 1)
        store.leave("c")
        assert push(store, "c", 1).duplicate
        for client in "ab":
            push(store, client, 2)
        assert not held_back(store, "a")

    def test_sync_takes_one_step_on_the_mean_of_all(self, open_store: OpenStore):
        store = opened(open_store, layout("sync"))
        for client, size in zip(NAMES, (1.0, 2.0, 6.0), strict=True):
            assert (value(store), value(store, "y")) == (0.0, 0.0)
            ack = push(store, client, 1, size)
            assert held_back(store, client) == (client != "c")
        assert ack.versions == (1, 1, 1)
        assert ack.staleness == (0, 0, 0)
        assert (value(store), value(store, "y")) == (-3.0, 1.5)
        assert not any(held_back(store, client) for client in NAMES)
        assert [(status.pushes, status.version) for status in store.status()] == [(3, 1)] * 3

    def test_sync_is_plain_synchronous_sgd_to_the_bit(self, open_store: OpenStore):
        """A round's pushes are added in the order in which they arrive; the reference adds in the same order."""
        generator = torch.Generator().manual_seed(0)
        for shards in (1, 3):
            store = opened(open_store, layout("sync", shards=shards, optimizer="adam"), separate=f"sync-{shards}")
            parameter = torch.zeros(10, requires_grad=True)
            adam = torch.optim.Adam([parameter], lr=1.0, foreach=False)
            for number in range(1, 6):
                gradients = [torch.randn(10, generator=generator) for _ in NAMES]
                versions = store.pull(client="a").versions
                for client, gradient in zip(NAMES, gradients, strict=True):
                    both = {"x": gradient, "y": torch.ones(5)}
                    store.push(Push(client=client, sequence=number, gradients=both, versions=versions))
                parameter.grad = (gradients[0] + gradients[1] + gradients[2]) / 3
                adam.step()
                pulled = store.pull(["x"])
                assert_equal(pulled.values, {"x": parameter.detach()})
                assert pulled.versions == (number,) * shards
            store.close()

    def test_a_round_ends_when_the_missing_member_leaves(self, open_store: OpenStore):
        store = opened(open_store, layout("sync"))
        push(store, "a", 1, 2.0)
        push(store, "b", 1, 4.0)
        assert value(store) == 0.0
        store.leave("c")
        assert value(store) == -3.0
        assert store.pull().versions == (1, 1, 1)
        assert not held_back(store, "a")

    def test_a_round_keeps_the_push_of_a_member_that_leaves(self, open_store: OpenStore):
        store = opened(open_store, layout("sync"))
        push(store, "a", 1, 3.0)
        store.leave("a")
        push(store, "b", 1, 6.0)
        push(store, "c", 1, 9.0)
        assert value(store) == -6.0
        for client in NAMES:
            store.leave(client)
        push(store, "stranger", 1, 1.0)
        assert value(store) == -7.0, "without live members, each push is a round"

    def test_a_shard_that_lost_pushes_refuses_newer_ones(self, open_store: OpenStore):
        """Otherwise the newer push would hide for ever that the ones before it are lost."""
        store = open_store(sgd_layout())
        store.initialize({"x": torch.zeros(10)})

        def push(sequence: int, applied: tuple[int, ...]) -> Push:
            gradients = {"x": torch.ones(10)}
            return Push(client="a", sequence=sequence, gradients=gradients, versions=(0, 0, 0), applied=applied)

        store.push(push(1, ()))
        with pytest.raises(LostPushes, match=r"the pushes of 'a' up to 1, but .* seen 2 applied"):
            store.push(push(3, (2, 2, 2)))
        assert store.pull(client="a").applied == (1, 1, 1)
        assert torch.equal(store.pull().values["x"], torch.full((10,), -1.0))
        store.push(push(2, (1, 1, 1)))
        store.push(push(3, (2, 2, 2)))
        assert store.push(push(3, (2, 2, 2))).duplicate  # a duplicate is acked whatever it has seen
        assert torch.equal(store.pull().values["x"], torch.full((10,), -3.0))
        with pytest.raises(ValueError, match="`applied` must be empty or 3 integers"):
            store.push(push(4, (3,)))

    def test_a_push_in_an_open_round_is_applied_once(self, open_store: OpenStore):
        store = opened(open_store, layout("sync"))
        for _ in range(3):
            push(store, "a", 1, 3.0)
        assert push(store, "a", 1, 3.0).duplicate
        push(store, "b", 1, 3.0)
        with pytest.raises(NonFinite):
            push(store, "c", 1, float("nan"))
        assert store.pull(client="c").versions == (0, 0, 0)
        push(store, "c", 1, 3.0)
        assert value(store) == -3.0
        assert push(store, "c", 1, 3.0).duplicate

    def test_scale_divides_a_stale_gradient_but_no_observation(self, open_store: OpenStore):
        store = opened(open_store, layout(stale="scale"))
        expected_x, expected_y = torch.zeros(()), torch.zeros(())
        for sequence, seen in enumerate((0, 1, 1, 0, 0), start=1):
            staleness = max(0, (sequence - 1) - seen)
            ack = push(store, "a", sequence, 0.7, seen=seen)
            assert ack.staleness == (staleness,) * 3
            expected_x = expected_x - torch.tensor(0.7) / max(1, staleness)
            expected_y = expected_y * 0.5 + torch.tensor(0.7) * 0.5
            assert value(store) == expected_x.item()
            assert value(store, "y") == expected_y.item()

    def test_drop_changes_no_value_and_records_the_push(self, open_store: OpenStore):
        store = opened(open_store, layout(stale="drop", max_staleness=1))
        acks = [push(store, client, 1, seen=0) for client in "abcd"]
        assert [ack.dropped for ack in acks] == [False, False, True, True]
        assert [ack.versions[0] for ack in acks] == [1, 2, 2, 2]
        assert value(store) == -2.0
        again = push(store, "c", 1)
        assert (again.duplicate, again.dropped, again.staleness) == (True, True, (2, 2, 2)), "acked as it was before"
        assert store.pull(client="c").applied == (1, 1, 1)
        assert [(s.pushes, s.dropped, s.version) for s in store.status()] == [(2, 2, 2)] * 3
        assert not push(store, "c", 2).dropped

    def test_ssp_keeps_its_bound_with_many_threads(self, open_store: OpenStore):
        """At every successful pull the client is at most the bound ahead of the slowest, and none waits for ever."""
        bound, pushes = 1, 6
        store = opened(open_store, layout("ssp", bound=bound))
        done = dict.fromkeys(NAMES, 0)
        failures: list[BaseException] = []

        def run(client: str) -> None:
            try:
                for sequence in range(1, pushes + 1):
                    while held_back(store, client):
                        time.sleep(0.002)
                    # `done` is written after the ack, so it never runs ahead of the shards; it only grows.
                    assert sequence - 1 - min(done.values()) <= bound + 1
                    push(store, client, sequence)
                    done[client] = sequence
                store.leave(client)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(client,)) for client in NAMES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert value(store) == -3.0 * pushes

    def test_leaving_a_closed_store_is_refused(self, open_store: OpenStore):
        store = opened(open_store, layout("ssp"))
        store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            store.leave("a")


class DurableConsistencyContract(ConsistencyContract):
    """For stores on disk: a second call of `open_store` must crash the store opened before, and resume it."""

    def test_a_member_that_left_is_remembered(self, open_store: OpenStore):
        store = opened(open_store, layout("ssp"))
        push(store, "a", 1)
        push(store, "b", 1)
        store.leave("c")
        store = open_store(layout("ssp"))
        assert not held_back(store, "a")
        assert not held_back(store, "c"), "its pull makes it rejoin"
        store = open_store(layout("ssp"))
        assert held_back(store, "a"), "that is remembered, too"

    def test_a_round_outlives_a_crash_between_any_two_pushes(self, open_store: OpenStore):
        def run(crash_after: int) -> tuple[dict[str, Tensor], tuple[int, ...]]:
            separate = f"crash-{crash_after}"
            store = opened(open_store, layout("sync", optimizer="adam"), separate=separate)
            generator = torch.Generator().manual_seed(1)
            for step in range(6):
                gradients = {"x": torch.randn(10, generator=generator), "y": torch.randn(5, generator=generator)}
                versions = store.pull([]).versions
                push = Push(client=NAMES[step % 3], sequence=1 + step // 3, gradients=gradients, versions=versions)
                store.push(push)
                if step == crash_after:
                    store = open_store(layout("sync", optimizer="adam"), separate=separate)
                    assert store.push(push).duplicate
            pulled = store.pull()
            return pulled.values, pulled.versions

        values, versions = run(crash_after=-1)
        assert versions == (2, 2, 2)
        for step in range(6):
            after, same_versions = run(crash_after=step)
            assert_equal(after, values)
            assert same_versions == versions

    def test_the_end_of_a_round_by_leaving_is_on_disk(self, open_store: OpenStore):
        store = opened(open_store, layout("sync"))
        push(store, "a", 1)
        push(store, "b", 1)
        store.leave("c")
        store = open_store(layout("sync"))
        assert store.pull().versions == (1, 1, 1)
        assert value(store) == -1.0

    def test_a_dropped_push_stays_dropped(self, open_store: OpenStore):
        rules = layout(stale="drop", max_staleness=0)
        store = opened(open_store, rules)
        push(store, "a", 1, seen=0)
        assert push(store, "b", 1, seen=0).dropped
        store = open_store(rules)
        again = push(store, "b", 1, seen=0)
        assert (again.duplicate, again.dropped) == (True, True)
        assert [(s.pushes, s.dropped) for s in store.status()] == [(1, 1)] * 3
