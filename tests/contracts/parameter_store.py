"""The contract that every `ParameterStore` must pass, however the caller reaches the shards."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ps.errors import NonFinite, NotInitialized, ShapeMismatch, StoreUnavailable, TooLarge, UnknownParameter
from ps.store import Group, Layout, ParameterStore, Push

OpenStore = Callable[..., ParameterStore]
"""`open_store(layout, **options)` opens a store, always on the same directory if the store has one."""

LAYOUT = Layout(
    run="contract",
    shards=3,
    groups=(
        Group(name="policy", shapes={"w": (4, 5), "b": ()}, optimizer="adam", options={"lr": 0.1}),
        Group(name="counts", shapes={"n": (7,)}, optimizer="sgd", options={"lr": 1.0}),
        Group(name="baseline", shapes={"reward": ()}, optimizer="average", options={"decay": 0.95}),
    ),
)
ZEROS = (0, 0, 0)


def sgd_layout(*, elements: int = 10, shards: int = 3, accumulate: int = 1) -> Layout:
    group = Group(name="g", shapes={"x": (elements,)}, optimizer="sgd", options={"lr": 1.0}, accumulate=accumulate)
    return Layout(run="contract", groups=(group,), shards=shards)


def deferred_layout() -> Layout:
    group = Group(name="g", shapes={"x": (10,)}, optimizer="sgd", options={"lr": 1.0}, deferred_to="rounds")
    return Layout(run="contract", groups=(group,), shards=3)


def values(layout: Layout, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in layout.shapes.items()}


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


BAD_GRADIENTS: list[tuple[dict[str, Tensor], type[Exception], str]] = [
    ({"n": torch.ones(7), "stranger": torch.ones(2)}, UnknownParameter, "stranger"),
    ({"n": torch.ones(7), "w": torch.ones(5, 4)}, ShapeMismatch, r"\(4, 5\), got \(5, 4\)"),
    ({"n": torch.ones(7), "w": torch.ones(4, 5).double()}, ShapeMismatch, "float64"),
    ({"n": torch.ones(7), "w": torch.ones(4, 5).bfloat16()}, ShapeMismatch, "bfloat16"),
    ({"n": torch.ones(7), "w": torch.ones(4, 5).to_sparse()}, ShapeMismatch, "dense"),
    ({"n": torch.ones(7), "b": torch.tensor(float("nan"))}, NonFinite, "'b'.*got nan"),
    ({"n": torch.ones(7), "w": torch.full((4, 5), float("inf"))}, NonFinite, "'w'.*got inf at element 0 of 20"),
    ({"n": torch.ones(7), "b": torch.tensor(1e30)}, NonFinite, "within 1e"),
    ({"n": torch.ones(7), "w": torch.ones(1000)}, TooLarge, "4028 bytes, above the limit of 600"),
]


class ParameterStoreContract:
    """Subclass and supply the fixture `open_store`."""

    def test_pull_returns_what_initialize_set(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        start = values(LAYOUT)
        store.initialize(start)
        pulled = store.pull()
        assert_equal(pulled.values, start)
        assert list(pulled.values) == list(LAYOUT.shapes)
        assert pulled.versions == ZEROS
        assert pulled.incarnations == (1, 1, 1)

    def test_pulled_tensors_are_the_callers_own(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        start = values(LAYOUT)
        store.initialize(start)
        for tensor in store.pull().values.values():
            tensor.fill_(99)
        assert_equal(store.pull().values, start)

    def test_pull_by_name(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        start = values(LAYOUT)
        store.initialize(start)
        assert_equal(store.pull(["n", "b", "n"]).values, {"b": start["b"], "n": start["n"]})
        assert store.pull([]).values == {}
        with pytest.raises(UnknownParameter, match="stranger"):
            store.pull(["n", "stranger"])

    def test_initialize_twice_changes_nothing(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        start = values(LAYOUT)
        store.initialize(start)
        store.push(Push(client="a", sequence=1, gradients={"n": torch.ones(7)}, versions=ZEROS))
        store.initialize(values(LAYOUT, seed=1))
        assert_equal(store.pull().values, start | {"n": start["n"] - 1})

    def test_nothing_works_before_initialize(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        with pytest.raises(NotInitialized, match="'contract' has no values"):
            store.pull()
        with pytest.raises(NotInitialized, match="initialize it first"):
            store.push(Push(client="a", sequence=1, gradients={}, versions=ZEROS))
        assert [status.initialized for status in store.status()] == [False] * 3

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"w": None}, UnknownParameter),
            ({"stranger": torch.ones(1)}, UnknownParameter),
            ({"w": torch.ones(3)}, ShapeMismatch),
            ({"b": torch.tensor(float("nan"))}, NonFinite),
            ({"w": torch.ones(1000)}, TooLarge),
        ],
        ids=lambda part: part.__name__ if isinstance(part, type) else next(iter(part)),
    )
    def test_bad_initial_values_are_refused(self, open_store: OpenStore, change: dict, error: type[Exception]):
        store = open_store(LAYOUT, max_bytes=200)
        with pytest.raises(error):
            store.initialize({name: t for name, t in (values(LAYOUT) | change).items() if t is not None})
        assert not any(status.initialized for status in store.status())

    @pytest.mark.parametrize(("gradients", "error", "message"), BAD_GRADIENTS)
    def test_a_bad_push_changes_nothing(
        self, open_store: OpenStore, gradients: dict[str, Tensor], error: type[Exception], message: str
    ):
        store = open_store(LAYOUT, max_bytes=200)
        store.initialize(values(LAYOUT))
        store.push(Push(client="a", sequence=1, gradients={"w": torch.ones(4, 5)}, versions=ZEROS))
        before = store.pull()
        with pytest.raises(error, match=message):
            store.push(Push(client="a", sequence=2, gradients=gradients, versions=before.versions))
        after = store.pull()
        assert_equal(after.values, before.values)
        assert after.versions == before.versions
        # The sequence number is not used up either.
        ack = store.push(Push(client="a", sequence=2, gradients={"n": torch.ones(7)}, versions=before.versions))
        assert not ack.duplicate

    def test_versions_must_be_one_for_each_shard(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        store.initialize(values(LAYOUT))
        for versions in ((0, 0), (0, 0, -1)):
            with pytest.raises(ValueError, match="`versions` must be 3 integers"):
                store.push(Push(client="a", sequence=1, gradients={}, versions=versions))

    def test_a_push_is_applied_once_however_often_it_is_sent(self, open_store: OpenStore):
        store = open_store(sgd_layout())
        store.initialize({"x": torch.zeros(10)})
        first = Push(client="a", sequence=1, gradients={"x": torch.ones(10)}, versions=ZEROS)
        second = Push(client="a", sequence=5, gradients={"x": torch.ones(10)}, versions=ZEROS)
        acks = [store.push(push) for push in (first, first, second, first, second)]
        assert [ack.duplicate for ack in acks] == [False, True, False, True, True]
        assert [ack.versions[0] for ack in acks] == [1, 1, 2, 2, 2]
        assert_equal(store.pull().values, {"x": torch.full((10,), -2.0)})
        assert [(s.pushes, s.duplicates, s.clients) for s in store.status()] == [(2, 3, 1)] * 3

    def test_clients_number_their_pushes_separately(self, open_store: OpenStore):
        store = open_store(sgd_layout())
        store.initialize({"x": torch.zeros(10)})
        for client in ("a", "b"):
            store.push(Push(client=client, sequence=1, gradients={"x": torch.ones(10)}, versions=ZEROS))
        assert_equal(store.pull().values, {"x": torch.full((10,), -2.0)})

    def test_staleness_is_the_versions_between_pull_and_push(self, open_store: OpenStore):
        store = open_store(sgd_layout())
        store.initialize({"x": torch.zeros(10)})
        seen = store.pull().versions
        gradients = {"x": torch.ones(10)}
        acks = [store.push(Push(client=c, sequence=1, gradients=gradients, versions=seen)) for c in "abc"]
        assert [ack.staleness for ack in acks] == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
        again = store.push(Push(client="b", sequence=1, gradients=gradients, versions=seen))
        assert again.staleness == (1, 1, 1), "a repetition is acked as it was the first time"
        ahead = store.push(Push(client="d", sequence=1, gradients=gradients, versions=(9, 9, 9)))
        assert ahead.staleness == (0, 0, 0), "a shard that was set back is not negatively stale"

    def test_tensors_that_are_not_named_stay_as_torch_leaves_them(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        start = values(LAYOUT)
        store.initialize(start)
        reference = {name: start[name].clone().requires_grad_() for name in ("w", "b")}
        adam = torch.optim.Adam(list(reference.values()), lr=0.1)
        for sequence, names in enumerate((["w"], ["b", "w"], ["b"], ["b", "w"]), start=1):
            gradients = {name: values(LAYOUT, seed=sequence)[name] for name in names}
            for name, parameter in reference.items():
                parameter.grad = gradients.get(name)
            adam.step()
            store.push(Push(client="a", sequence=sequence, gradients=gradients, versions=ZEROS))
        assert_equal(store.pull().values, start | {name: p.detach() for name, p in reference.items()})

    def test_a_rate_holds_for_its_group_and_its_push_only(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        start = {name: torch.zeros(shape) for name, shape in LAYOUT.shapes.items()}
        store.initialize(start)
        ones = {name: torch.ones(shape) for name, shape in LAYOUT.shapes.items()}
        for sequence, rates in enumerate(({"counts": 0.25}, {}, {"counts": 0.0, "policy": 0.0}), start=1):
            push = Push(client="a", sequence=sequence, gradients=ones, versions=ZEROS, rates=rates)
            assert not store.push(push).duplicate
            assert store.push(push).duplicate
        pulled = store.pull().values
        assert_equal({"n": pulled["n"]}, {"n": torch.full((7,), -1.25)})
        reference = torch.zeros(20, requires_grad=True)
        adam = torch.optim.Adam([reference], lr=0.1)
        for rate in (0.1, 0.1, 0.0):
            adam.param_groups[0]["lr"] = rate
            reference.grad = torch.ones(20)
            adam.step()
        assert torch.equal(pulled["w"].reshape(-1), reference.detach())

    @pytest.mark.parametrize("group", ["stranger", "baseline"])
    def test_a_rate_of_a_group_without_one_changes_nothing(self, open_store: OpenStore, group: str):
        store = open_store(LAYOUT)
        store.initialize(values(LAYOUT))
        push = Push(client="a", sequence=1, gradients={"n": torch.ones(7)}, versions=ZEROS, rates={group: 0.1})
        with pytest.raises(UnknownParameter, match=rf"groups with a learning rate \(policy, counts\), got {group}"):
            store.push(push)
        assert_equal(store.pull().values, values(LAYOUT))

    def test_accumulated_pushes_are_one_push_of_their_mean(self, open_store: OpenStore):
        store = open_store(sgd_layout(accumulate=10))
        store.initialize({"x": torch.zeros(10)})
        gradients = [torch.arange(10.0) * number for number in range(1, 11)]
        for sequence, gradient in enumerate(gradients, start=1):
            assert_equal(store.pull().values, {"x": torch.zeros(10)})
            ack = store.push(Push(client="a", sequence=sequence, gradients={"x": gradient}, versions=ZEROS))
            assert ack.versions == ((1, 1, 1) if sequence == 10 else ZEROS)
        assert_equal(store.pull().values, {"x": -torch.stack(gradients).mean(0)})

    def test_a_step_on_several_pushes_takes_the_largest_of_their_rates(self, open_store: OpenStore):
        store = open_store(sgd_layout(accumulate=3))
        store.initialize({"x": torch.zeros(10)})
        for sequence, rates in enumerate(({"g": 0.25}, {"g": 0.5}, {}, {}, {}, {}), start=1):
            push = Push(client="a", sequence=sequence, gradients={"x": torch.ones(10)}, versions=ZEROS, rates=rates)
            store.push(push)
        assert_equal(store.pull().values, {"x": torch.full((10,), -1.5)})

    def test_deferred_pushes_become_steps_in_one_order_when_the_round_ends(self, open_store: OpenStore):
        store = open_store(deferred_layout())
        store.initialize({"x": torch.zeros(10)})
        for client, gradient in (("c.10", 1.0), ("c.2", 1e8), ("c.1", -1e8)):
            push = Push(client=client, sequence=1, gradients={"x": torch.full((10,), gradient)}, versions=ZEROS)
            assert store.push(push).versions == ZEROS
            assert_equal(store.pull().values, {"x": torch.zeros(10)})
        ends = Push(client="rounds", sequence=1, gradients={}, versions=ZEROS)
        assert store.push(ends).versions == (3, 3, 3)
        assert store.push(ends).duplicate
        assert_equal(store.pull().values, {"x": torch.full((10,), -1.0)})  # in the order of arrival it would be 0

    def test_average_is_an_exponential_moving_average(self, open_store: OpenStore):
        """The baseline after n equal rewards R, from 0, is R (1 - decay^n), however stale the pushes."""
        store = open_store(LAYOUT)
        store.initialize(values(LAYOUT) | {"reward": torch.tensor(0.0)})
        reward = torch.tensor(0.8)
        for n in range(1, 31):
            store.push(Push(client=f"c{n}", sequence=1, gradients={"reward": reward}, versions=ZEROS))
            expected = torch.tensor(0.8 * (1 - 0.95**n))
            torch.testing.assert_close(store.pull(["reward"]).values["reward"], expected)

    def test_the_sum_of_unique_pushes_is_exact_with_many_clients(self, open_store: OpenStore):
        """Integer gradients add up exactly in any order, so a lost or repeated push shows."""
        store = open_store(sgd_layout(elements=40))
        store.initialize({"x": torch.zeros(40)})
        clients, pushes = 6, 8
        scripts = {
            f"client-{c}": [
                torch.randint(-9, 9, (40,), generator=torch.Generator().manual_seed(c)) for _ in range(pushes)
            ]
            for c in range(clients)
        }
        failures: list[BaseException] = []

        def run(client: str) -> None:
            try:
                for sequence, gradient in enumerate(scripts[client], start=1):
                    push = Push(client=client, sequence=sequence, gradients={"x": gradient.float()}, versions=ZEROS)
                    for _ in range(1 + sequence % 3):  # delivered once, twice or three times
                        store.push(push)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(client,)) for client in scripts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        total = torch.stack([gradient for script in scripts.values() for gradient in script]).sum(0)
        assert_equal(store.pull().values, {"x": -total.float()})
        assert [(s.version, s.pushes) for s in store.status()] == [(clients * pushes,) * 2] * 3

    def test_a_closed_store_refuses_calls(self, open_store: OpenStore):
        store = open_store(LAYOUT)
        store.initialize(values(LAYOUT))
        store.close()
        store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            store.pull()
        with pytest.raises(StoreUnavailable, match="closed"):
            store.push(Push(client="a", sequence=1, gradients={}, versions=ZEROS))


class DurableStoreContract(ParameterStoreContract):
    """For stores on disk: a second call of `open_store` must crash the store opened before, and resume it."""

    def test_a_restart_loses_nothing_that_was_acked(self, open_store: OpenStore):
        """The resumed store continues exactly like one that was never interrupted."""
        groups = (
            Group(name="adam", shapes={"a": (5, 3)}, optimizer="adam", options={"lr": 0.1}),
            Group(name="sgd", shapes={"s": (8,)}, optimizer="sgd", options={"lr": 0.1, "momentum": 0.9}),
            Group(name="sums", shapes={"m": (9,)}, optimizer="sgd", options={"lr": 0.1}, accumulate=3),
            Group(name="mean", shapes={"r": ()}, optimizer="average", options={"decay": 0.9}),
            Group(name="late", shapes={"d": (4,)}, optimizer="adam", options={"lr": 0.1}, deferred_to="a"),
            Group(name="later", shapes={"e": (4,)}, optimizer="adam", options={"lr": 0.1}, deferred_to="b"),
        )
        layout = Layout(run="restart", groups=groups, shards=3)

        def pushes(numbers: range) -> list[Push]:
            """Return pushes of which the 4th opens a sum with a rate, which the restart must not lose."""
            return [
                Push(
                    client="a",
                    sequence=n,
                    gradients=values(layout, seed=n),
                    versions=ZEROS,
                    rates={"sums": 0.3, "adam": 0.2, "later": 0.4} if n == 4 else {},
                )
                for n in numbers
            ]

        uninterrupted = open_store(layout, separate="uninterrupted")
        uninterrupted.initialize(values(layout))
        ends = Push(client="b", sequence=1, gradients={}, versions=ZEROS)
        for push in (*pushes(range(1, 9)), ends):
            uninterrupted.push(push)
        expected = uninterrupted.pull()

        store = open_store(layout)
        store.initialize(values(layout))
        for push in pushes(range(1, 5)):
            store.push(push)
        store = open_store(layout)
        assert store.push(pushes(range(4, 5))[0]).duplicate
        for push in (*pushes(range(5, 9)), ends):
            assert not store.push(push).duplicate
        resumed = store.pull()
        assert_equal(resumed.values, expected.values)
        assert resumed.versions == expected.versions
        assert resumed.incarnations == (2, 2, 2)

    def test_each_start_is_a_new_incarnation(self, open_store: OpenStore):
        assert [open_store(LAYOUT).status()[0].incarnation for _ in range(3)] == [1, 2, 3]
