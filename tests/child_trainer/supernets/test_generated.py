import pytest
import torch
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, node
from child_trainer.networks.weights import WrongWeights
from child_trainer.supernets.generated import GeneratedSupernet
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.hypernetwork import HyperNetwork, Slot, kernel, slots_of
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.scoring import score
from tests.child_trainer.supernets.problem import Problem, one_hot

PROBLEM = Problem()
SMALL = HyperOptions(growth=3, depths=(2, 1))
POINT = {"height": 1, "width": 1, "order": "conv-unbiased"}
SUPERNET = Architecture(
    "feedforward",
    (
        node("stem", "conv", "image", height=3, width=3, filters=4, order="conv-bn"),
        node("first", "conv", "stem", **POINT, filters=6),
        node("second", "conv", "stem", **POINT, filters=6),
        node("read", "mix", ("first", "second"), gate="read"),
        node("norm", "batch_norm", "read"),
        node("a", "conv", "norm", height=3, width=3, filters=6),
        node("b", "conv", "norm", height=3, width=3, filters=6, groups=2),
        node("op", "mix", ("a", "b", "norm"), gate="op"),
        node("write", "conv", "op", **POINT, filters=4),
        node("again", "conv", "write", **(POINT | {"order": "relu-conv-bn"}), filters=4),
        node("written", "mix", ("again", "stem"), gate="write"),
        node("last", "conv", "written", **(POINT | {"order": "conv"}), filters=5),
    ),
    ("last",),
)
GENERATED = ("first", "second", "write", "again", "last")


@pytest.fixture(scope="module")
def network() -> GeneratedSupernet:
    return GeneratedSupernet(SUPERNET, PROBLEM, options=SMALL)


@pytest.fixture
def gates(network):
    return one_hot(network.gate_sizes, 0) | {"write": torch.tensor([1.0, 0.0])}


def test_generated_kernels_have_the_shapes_of_the_convolutions_and_unit_filters(network, gates):  # spec §10, T10.1
    shapes = SupernetNetwork(SUPERNET, PROBLEM).shapes
    kernels = network.generate(network.initial(0), gates)
    unused = "second" if gates["read"][0] else "first"
    assert list(kernels) == [f"{name}/conv.weight" for name in GENERATED if name != unused]
    for name, weight in kernels.items():
        assert weight.shape == shapes[name]
        torch.testing.assert_close(weight.flatten(1).norm(dim=1), torch.ones(len(weight)))


def test_no_free_weight_of_a_1x1_convolution_is_left(network):  # T10.2
    assert not {f"{name}/conv.weight" for name in GENERATED} & network.shapes.keys()
    # All else is an ordinary weight: biases, normalisation, other convolutions, the classifier.
    assert {"a/conv.weight", "b/conv.weight", "last/conv.bias", "again/norm.weight", "head/weight"} <= set(
        network.shapes
    )
    assert network.initial(0).keys() == network.shapes.keys()


def test_the_loss_reaches_the_hypernetwork_through_the_kernels_only(network, gates):  # T10.2
    weights = {name: w.requires_grad_() for name, w in network.initial(0).items()}
    own = {name: w for name, w in weights.items() if name.startswith("hypernetwork/")}
    images, labels = PROBLEM.images(6), PROBLEM.labels(6)
    network.eval()  # without noise
    loss = F.cross_entropy(network(weights, images, gates), labels)
    found = torch.autograd.grad(loss, list(own.values()), allow_unused=True)

    kernels = {name: k.detach().requires_grad_() for name, k in network.generate(weights, gates).items()}
    loss = F.cross_entropy(SupernetNetwork(SUPERNET, PROBLEM)(weights | kernels, images, gates), labels)
    of_kernels = torch.autograd.grad(loss, list(kernels.values()))
    through = torch.autograd.grad(
        list(network.generate(weights, gates).values()), list(own.values()), of_kernels, allow_unused=True
    )
    for one, other in zip(found, through, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other)
    assert any(gradient is not None and gradient.any() for gradient in found)
    network.train()


def test_values_beyond_a_convolutions_own_are_not_read():  # T10.4
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(30, 2, 3, generator=generator)
    slot, shape = Slot(1, 2, 5), torch.Size((3, 4, 1, 1))
    read = kernel(values, slot, shape)
    others = torch.randn(30, 2, 3, generator=generator)
    others[5:17, 1, 2] = values[5:17, 1, 2]
    assert torch.equal(kernel(others, slot, shape), read)


def test_each_convolution_has_the_place_of_its_option():
    slots, most = slots_of(SUPERNET, {"first": 24, "second": 24, "write": 24, "again": 16, "last": 20})
    assert slots == {
        "first": Slot(0, 0, 0),
        "second": Slot(0, 1, 0),
        "write": Slot(2, 0, 0),
        "again": Slot(2, 0, 24),  # of the same option
        "last": Slot(2, 0, 40),  # behind every choice
    }
    assert most == 60


def test_another_path_has_other_kernels(network, gates):
    network.eval()
    weights = network.initial(0)
    other = gates | {"op": gates["op"].roll(1)}
    one, two = network.generate(weights, gates), network.generate(weights, other)
    assert not torch.equal(one["write/conv.weight"], two["write/conv.weight"])
    assert torch.equal(one["write/conv.weight"], network.generate(weights, gates)["write/conv.weight"])
    network.train()


def test_a_path_is_a_plane_of_its_gates_with_noise_in_training():
    hyper = HyperNetwork({"a": 2, "b": 3}, 5, SMALL)
    gates = {"a": (1.0, 0.0), "b": torch.tensor([0.0, 0.0, 1.0])}
    first, second = (hyper.plane(gates, torch.device("cpu")) for _ in range(2))
    assert first[0, 0].tolist() == [[1, 0, -1], [0, 0, 1]]
    assert not torch.equal(first[0, 1], second[0, 1])
    assert not hyper.eval().plane(gates, torch.device("cpu"))[0, 1].any()


def test_names_scores_and_statistics_are_as_for_every_supernet(network, gates):
    weights = network.initial(0)
    names = network.names(gates)
    assert set(names) <= set(network.shapes)
    pulled = {name: weights[name] for name in names}
    batches = [(PROBLEM.images(6, seed), PROBLEM.labels(6, seed)) for seed in range(2)]
    found = score(network, pulled, gates, batches, [PROBLEM.images(6, 5)])
    assert 0 <= found.accuracy <= 1
    del pulled["hypernetwork/last.bias"]
    with pytest.raises(WrongWeights, match=r"'hypernetwork/last\.bias', for which no weights are given"):
        score(network, pulled, gates, batches)


def test_the_hypernetwork_is_common_to_all_paths_and_what_it_generates_is_nobodys(network):
    common = network.common_names()
    assert {name for name in common if name.startswith("hypernetwork/")} == network.unpenalised
    assert {"stem/conv.weight", "head/weight", "last/conv.bias"} < set(common) < network.shapes.keys()
    assert not {"norm/weight", "again/bn.weight", *(f"{name}/conv.weight" for name in GENERATED)} & set(common)


def test_what_cannot_be_generated_is_refused():
    plain = Architecture(
        "feedforward",
        (
            node("stem", "conv", "image", height=3, width=3, filters=4),
            node("end", "mix", ("stem", "stem"), gate="g"),
        ),
        ("end",),
    )
    with pytest.raises(InvalidArchitecture, match="of 1x1 convolutions, and the supernet has none"):
        GeneratedSupernet(plain, PROBLEM)
    with pytest.raises(ValueError, match="`growth` must be at least 1, got 0"):
        HyperOptions(growth=0)
    with pytest.raises(ValueError, match=r"`depths` must be one or more numbers, each at least 1, got \(\)"):
        HyperOptions(depths=())
