import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.architectures import nasbench201
from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.cells import darts_supernet
from child_trainer.networks import cost
from child_trainer.networks.build import Classifier, build
from child_trainer.networks.weights import WrongWeights, load, named
from child_trainer.regime import Regime
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.restriction import restrict
from tests.child_trainer.supernets.problem import Problem, one_hot, several

PROBLEM = Problem()
WINDOW = {"height": 3, "width": 3, "filters": 4}
SMALL = Architecture(
    "feedforward",
    (
        node("stem", "conv", "image", **WINDOW),
        node("wide", "conv", "stem", **WINDOW, order="bn-relu-conv"),
        node("narrow", "conv", "stem", **(WINDOW | {"height": 1})),
        node("op", "mix", ("wide", "narrow", "stem"), gate="op"),
        node("sin", "sin", "op"),
        node("deep", "depthwise_conv", "sin", height=3, width=3),
        node("skip", "mix", ("stem", "op", "deep"), gate="skip"),
        node("sum", "add", ("op", "skip")),
        node("side", "mix", ("sum", "stem"), gate="side"),
        node("joined", "concat", ("side", "sum")),
        node("end", "conv", "joined", **WINDOW),
    ),
    ("end",),
)
SUPERNETS = {
    "small": SMALL,
    "NAS-Bench-201": nasbench201.supernet(cells_per_stage=1, stem_channels=4),
    "DARTS": darts_supernet.supernet(cells=2, filters=2, nodes=2),
}


@pytest.fixture(scope="module", params=SUPERNETS)
def supernet(request: pytest.FixtureRequest) -> Architecture:
    return SUPERNETS[request.param]


@pytest.fixture(scope="module")
def network(supernet: Architecture) -> SupernetNetwork:
    return SupernetNetwork(supernet, PROBLEM)


def child_of(supernet: Architecture, gates: dict[str, Tensor], weights: dict[str, Tensor]) -> Classifier:
    """The restriction as the ordinary builder makes it, with the supernet's weights by name."""
    child = build(restrict(supernet, {name: gate.tolist() for name, gate in gates.items()}), PROBLEM)
    load(child, {name: weights[name] for name in named(child)})
    return child


# --- A restriction equals the gated supernet ---------------------------------------------------------------------


@pytest.mark.parametrize("gates_of", [one_hot, several])
@pytest.mark.parametrize("seed", range(3))
def test_a_restriction_equals_the_gated_supernet_to_the_bit(supernet, network, gates_of, seed):
    gates, weights = gates_of(network.gate_sizes, seed), network.initial(seed)
    child = child_of(supernet, gates, weights)
    images, labels = PROBLEM.images(6, seed), PROBLEM.labels(6, seed)
    own = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    logits = network(own, images, gates)
    assert torch.equal(logits, child(images))

    F.cross_entropy(child(images), labels).backward()
    F.cross_entropy(logits, labels).backward()
    for name, parameter in named(child).items():
        assert (parameter.grad is None) == (own[name].grad is None)
        if parameter.grad is not None:
            assert torch.equal(own[name].grad, parameter.grad), name
    assert all(own[name].grad is None for name in own.keys() - named(child).keys())


@pytest.mark.parametrize("seed", range(3))
def test_gates_with_gradients_change_no_output(supernet, network, seed):
    gates, weights = one_hot(network.gate_sizes, seed), network.initial(seed)
    images = PROBLEM.images(6, seed)
    weighed = {name: gate.clone().requires_grad_() for name, gate in gates.items()}
    assert torch.equal(network(weights, images, weighed), network(weights, images, gates))


@pytest.mark.parametrize("seed", range(3))
def test_the_names_of_a_path_are_those_that_its_child_has(supernet, network, seed):
    gates = one_hot(network.gate_sizes, seed)
    child = child_of(supernet, gates, network.initial(0))
    assert network.names(gates) == list(named(child))
    # And nothing else is read.
    weights = {name: tensor for name, tensor in network.initial(0).items() if name in named(child)}
    assert network(weights, PROBLEM.images(2), gates).isfinite().all()


def test_every_path_reads_the_common_weights_and_no_other_is_read_by_all(supernet, network):
    paths = [set(network.names(one_hot(network.gate_sizes, seed))) for seed in range(100)]
    assert set.intersection(*paths) == set(network.common_names())
    assert network.common_names() == [name for name in network.shapes if name in network.common_names()]


def test_every_gate_has_the_gradient_that_its_definition_gives(supernet, network):
    weights, images = network.initial(0), PROBLEM.images(6)
    weights = {name: tensor.double() for name, tensor in weights.items()}
    gates = {
        name: torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
        for name, size in network.gate_sizes.items()
    }

    def loss(gates: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(network(weights, images.double(), gates), PROBLEM.labels(6))

    gradients = torch.autograd.grad(loss(gates), list(gates.values()))
    name, place = list(gates)[-1], 0
    nudge = torch.zeros(network.gate_sizes[name], dtype=torch.float64)
    nudge[place] = 1e-6
    with torch.no_grad():
        change = loss(gates | {name: gates[name] + nudge}) - loss(gates | {name: gates[name] - nudge})
    assert gradients[-1][place].item() == pytest.approx(change.item() / 2e-6, rel=1e-4, abs=1e-9)


def test_a_gate_of_zero_with_a_gradient_has_that_of_all_paths_computed():
    """ProxylessNAS: dL/dg_j = <dL/do, o_j(x)> (spec §14), though no gradient passes through what is not chosen."""
    network = SupernetNetwork(SMALL, PROBLEM)
    weights = {name: tensor.double() for name, tensor in network.initial(0).items()}
    images, labels = PROBLEM.images(6).double(), PROBLEM.labels(6)
    chosen = one_hot(network.gate_sizes, 0)

    def gradients(gates: dict[str, Tensor]) -> list[Tensor]:
        gates = {name: gate.double().requires_grad_() for name, gate in gates.items()}
        own = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
        found = torch.autograd.grad(
            F.cross_entropy(network(own, images, gates), labels), [*gates.values(), *own.values()], allow_unused=True
        )
        return [torch.zeros((), dtype=torch.float64) if g is None else g for g in found]

    # Gates that are not quite 0 have gradients through everything.
    nearly = gradients({name: gate + (gate == 0) * 1e-9 for name, gate in chosen.items()})
    for exact, near in zip(gradients(chosen), nearly, strict=True):
        torch.testing.assert_close(exact.expand_as(near), near, rtol=1e-6, atol=1e-7)


def test_a_constant_gate_may_be_any_number():
    network = SupernetNetwork(SMALL, PROBLEM)
    weights, images = network.initial(0), PROBLEM.images(4)
    gates = {"op": torch.tensor([0.5, 0.0, 0.25]), "skip": torch.tensor([0.0, 2.0, 0.0]), "side": torch.ones(2)}
    weighed = {name: gate.clone().requires_grad_() for name, gate in gates.items()}
    torch.testing.assert_close(network(weights, images, gates), network(weights, images, weighed))
    assert "narrow/conv.weight" not in network.names(gates)


# --- Batch normalisation -----------------------------------------------------------------------------------------


def test_normalisation_uses_the_batch_in_training_and_in_evaluation(network):
    gates, weights, images = one_hot(network.gate_sizes, 0), network.initial(0), PROBLEM.images(6)
    training = network.train()(weights, images, gates)
    assert torch.equal(network.eval()(weights, images, gates), training)
    network.train()


def test_refit_statistics_are_those_of_pytorchs_cumulative_mean(supernet, network):
    gates, weights = one_hot(network.gate_sizes, 1), network.initial(1)
    batches = [PROBLEM.images(6, seed) for seed in range(3)]
    child = child_of(supernet, gates, weights)
    for module in child.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for images in batches:
            child(images)
    statistics = network.refit(weights, gates, batches)
    expected = child.eval()(PROBLEM.images(5, 9))
    assert torch.equal(network(weights, PROBLEM.images(5, 9), gates, statistics), expected)
    # An image's logits no longer depend on the others of its batch.
    one = network(weights, PROBLEM.images(5, 9)[:1], gates, statistics)
    torch.testing.assert_close(one, expected[:1])
    # And the next step uses its own batch again.
    assert torch.equal(network(weights, batches[0], gates), child.train()(batches[0]))


def test_statistics_belong_to_their_gates():
    network = SupernetNetwork(SMALL, PROBLEM)
    weights = network.initial(0)
    first, second = ({**one_hot(network.gate_sizes, 0), "op": torch.eye(3)[i]} for i in (0, 1))
    statistics = network.refit(weights, first, [PROBLEM.images(4)])
    with pytest.raises(WrongWeights, match=r"'narrow/norm.running_mean', which is not given; refit with these gates"):
        network(weights, PROBLEM.images(4), second, statistics)
    with pytest.raises(ValueError, match="at least one batch"):
        network.refit(weights, first, [])


# --- Weights -----------------------------------------------------------------------------------------------------


def test_the_first_weights_depend_on_the_seed_alone(network):
    first, again, other = network.initial(3), network.initial(3), network.initial(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert {name: tensor.shape for name, tensor in first.items()} == network.shapes


def test_the_first_weights_have_the_regimes_form():
    first = SupernetNetwork(SMALL, PROBLEM, Regime(initial="xavier")).initial(0)
    assert not first["head/bias"].any()
    assert first["wide/norm.weight"].eq(1).all()


def test_the_darts_supernet_has_the_published_count():  # spec §12.4, G8
    network = SupernetNetwork(darts_supernet.supernet(cells=8, filters=16), Problem((3, 32, 32)))
    assert sum(shape.numel() for shape in network.shapes.values()) == 1_930_618
    assert list(network.gate_sizes.values()) == [8] * 28


def test_a_restricted_benchmark_supernet_is_the_benchmarks_network():
    supernet = SUPERNETS["NAS-Bench-201"]
    rng = random.Random(0)
    for _ in range(20):
        cell = tuple(rng.choices(nasbench201.CELL_OPERATIONS, k=6))
        gates = {
            gate: [float(option == operation) for option in nasbench201.CELL_OPERATIONS]
            for gate, operation in zip(nasbench201.GATES, cell, strict=True)
        }
        assert restrict(supernet, gates).id == nasbench201.network(cell, cells_per_stage=1, stem_channels=4).id


def test_a_restriction_costs_what_its_names_say(supernet, network):
    gates = one_hot(network.gate_sizes, 2)
    child = child_of(supernet, gates, network.initial(0))
    assert cost.parameters(child) == sum(network.shapes[name].numel() for name in network.names(gates))


# --- What is refused ---------------------------------------------------------------------------------------------


def test_gates_and_weights_that_do_not_fit_are_refused():
    network = SupernetNetwork(SMALL, PROBLEM)
    gates, weights, images = one_hot(network.gate_sizes, 0), network.initial(0), PROBLEM.images(2)
    with pytest.raises(ValueError, match="the gate 'op' of the supernet takes 3 numbers, got 2"):
        network(weights, images, gates | {"op": torch.ones(2)})
    with pytest.raises(ValueError, match="takes 2 numbers, got none"):
        network.names({name: gate for name, gate in gates.items() if name != "side"})
    with pytest.raises(WrongWeights, match="'head/bias', for which no weights are given"):
        network({name: tensor for name, tensor in weights.items() if name != "head/bias"}, images, gates)
    with pytest.raises(WrongWeights, match=r"'head/bias' has the shape \(10,\), got \(3,\)"):
        network(weights | {"head/bias": torch.zeros(3)}, images, gates)


def with_nodes(*nodes: Node) -> Architecture:
    return Architecture("feedforward", nodes, (nodes[-1].name,))


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (Architecture("recurrent", (node("end", "tanh", "h"),), ("end",)), "a supernet of images is feedforward"),
        (
            with_nodes(node("a", "conv", "image", **WINDOW), node("end", "mix", ("a", "image"), gate="g")),
            "node 'end' .* must have the same shape",
        ),
        (
            with_nodes(node("a", "global_avg_pool", "image"), node("head", "linear", "a", units=3)),
            "a node 'head' and the classifier have parameters of one name",
        ),
    ],
)
def test_graphs_that_are_no_supernet_are_refused(graph, sentence):
    with pytest.raises(InvalidArchitecture, match=sentence):
        SupernetNetwork(graph, PROBLEM)
