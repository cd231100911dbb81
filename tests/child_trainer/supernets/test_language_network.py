"""Supernets of recurrent cells: a path computes what its own language model does (spec §6.3, §12.4, T11.2)."""

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, node
from child_trainer.language_options import LanguageOptions
from child_trainer.networks import cost
from child_trainer.networks.build import Graph, build_cell
from child_trainer.networks.fused_cell import FusedCell
from child_trainer.networks.language_model import LanguageModel, build_language_model
from child_trainer.supernets.cost import parameters, word_flops
from child_trainer.supernets.gated_language_model import TextProblem
from child_trainer.supernets.language_network import LanguageSupernet
from child_trainer.supernets.scoring import score
from child_trainer.supernets.text_batches import TextBatches, TextSource
from child_trainer.supernets.text_scoring import score_text
from child_trainer.tasks.language import LanguageTask
from controller.decisions import Tokens, uniform
from controller.spaces.darts_rnn import DartsRnnSpace
from controller.spaces.enas_rnn import EnasRnnSpace
from controller.spaces.highway import HighwaySpace

WORDS, H, T = 30, 6, 5
OPTIONS = LanguageOptions(
    cell_layers=1, hidden_size=H, unroll=T, embedding_dropout=0.0, variational_dropout=0.0, tied_embeddings=True
)
SPACES: Mapping[str, HighwaySpace] = {"darts-rnn": DartsRnnSpace(layers=3), "enas-rnn": EnasRnnSpace(layers=3)}


@pytest.fixture(scope="module", params=SPACES)
def space(request: pytest.FixtureRequest) -> HighwaySpace:
    return SPACES[request.param]


@pytest.fixture(scope="module")
def network(space: HighwaySpace) -> LanguageSupernet:
    return LanguageSupernet(space.supernet(), TextProblem(WORDS, OPTIONS))


def text(count: int, seed: int = 0) -> Tensor:
    return torch.randint(WORDS, (count,), generator=torch.Generator().manual_seed(seed))


def gates_of(space: HighwaySpace, tokens: Tokens) -> dict[str, Tensor]:
    return {name: torch.tensor(values) for name, values in space.gates(tokens).items()}


def child_of(cell: Architecture, weights: Mapping[str, Tensor], options: LanguageOptions = OPTIONS) -> LanguageModel:
    """The language model of a cell as the ordinary builder makes it, with weights of the supernet by name."""
    graph: Graph = build_cell(cell, H, H).to(next(iter(weights.values())).dtype)
    with torch.no_grad():
        for n, operation in zip(graph.nodes, graph.operations, strict=True):
            for name, parameter in operation.named_parameters():
                parameter.copy_(weights[f"{n.name}/{name}"])
        model = LanguageModel([FusedCell(graph)], WORDS, H, options).to(next(iter(weights.values())).dtype)
        model.embedding.copy_(weights["embedding/weight"])
        model.bias.copy_(weights["prediction/bias"])
        if model.prediction is not None:
            model.prediction.copy_(weights["prediction/weight"])
    return model


@pytest.mark.parametrize("seed", range(3))
def test_a_path_computes_what_the_language_model_of_its_cell_does(
    space: HighwaySpace, network: LanguageSupernet, seed: int
) -> None:
    """So do its gradients, those of the maps that the model fuses among them."""
    tokens = uniform(space.decisions(0), random.Random(seed))
    weights = {name: tensor.double().requires_grad_() for name, tensor in network.initial(seed).items()}
    child = child_of(space.decode(tokens), weights)
    words, targets = text(4 * T, seed).view(4, T), text(4 * T, seed + 9).view(4, T)
    gates = gates_of(space, tokens)
    logits, (h, _) = network.read(weights, words, gates)
    expected, [(last, _)] = child(words.t(), child.initial_state(4))
    torch.testing.assert_close(logits, expected.permute(1, 2, 0))
    torch.testing.assert_close(h, last)
    F.cross_entropy(logits, targets).backward()
    F.cross_entropy(expected.flatten(0, 1), targets.t().flatten()).backward()
    with_gradients = {name for name, tensor in weights.items() if tensor.grad is not None}
    assert with_gradients == set(network.names(gates))
    assert parameters(network, gates) == cost.parameters(child)
    torch.testing.assert_close(weights["embedding/weight"].grad, child.embedding.grad)
    torch.testing.assert_close(weights["prediction/bias"].grad, child.bias.grad)
    fused = child.layers[0]
    assert isinstance(fused, FusedCell)
    for projection in (fused.of_x, fused.of_h):
        assert projection.weight.grad is not None
        for name, gradient in zip(projection.sizes, projection.weight.grad.split(H), strict=True):
            torch.testing.assert_close(weights[f"{name}/weight"].grad, gradient)
    for n, operation in zip(fused.nodes, fused.operations, strict=True):
        for name, parameter in operation.named_parameters():
            torch.testing.assert_close(weights[f"{n.name}/{name}"].grad, parameter.grad)


def test_dropout_is_that_of_the_language_model() -> None:
    """ENAS's cell has no batch normalisation, so that training and evaluation differ by dropout alone."""
    options = replace(OPTIONS, embedding_dropout=0.3, variational_dropout=0.4)
    space = EnasRnnSpace(layers=3)
    network = LanguageSupernet(space.supernet(), TextProblem(WORDS, options))
    tokens = uniform(space.decisions(0), random.Random(1))
    weights, words = network.initial(0), text(4 * T).view(4, T)
    child, gates = child_of(space.decode(tokens), weights, options), gates_of(space, tokens)
    torch.manual_seed(3)
    logits = network(weights, words, gates)
    torch.manual_seed(3)
    torch.testing.assert_close(logits, child(words.t(), child.initial_state(4))[0].permute(1, 2, 0))
    assert not torch.equal(network(weights, words, gates), logits)
    assert torch.equal(network.eval()(weights, words, gates), network(weights, words, gates))


@pytest.mark.parametrize("gates_of_seed", [0, 1])
def test_gates_with_gradients_change_no_output_and_have_the_gradient_of_their_definition(
    space: HighwaySpace, network: LanguageSupernet, gates_of_seed: int
) -> None:
    generator = torch.Generator().manual_seed(gates_of_seed)
    weights = {name: tensor.double() for name, tensor in network.initial(0).items()}
    words, targets = text(4 * 2 * T).view(4, 2 * T), text(4 * T, 1).view(4, T)
    gates = {
        name: torch.rand(size, generator=generator, dtype=torch.float64).softmax(0).requires_grad_()
        for name, size in network.gate_sizes.items()
    }

    def loss(gates: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(network(weights, words[:, -T:], gates), targets)

    constant = {name: gate.detach() for name, gate in gates.items()}
    assert torch.equal(loss(gates), loss(constant))
    found = torch.autograd.grad(loss(gates), list(gates.values()))
    assert all(bool((g != 0).any()) for g in found)
    name, size = list(network.gate_sizes.items())[-1]
    nudge = torch.zeros(size, dtype=torch.float64)
    nudge[1] = 1e-6
    change = loss(constant | {name: constant[name] + nudge}) - loss(constant | {name: constant[name] - nudge})
    assert found[-1][1].item() == pytest.approx(change.item() / 2e-6, rel=1e-4, abs=1e-9)


def test_words_before_a_stretch_leave_a_state_without_gradients(network: LanguageSupernet, space: HighwaySpace) -> None:
    gates = gates_of(space, uniform(space.decisions(0), random.Random(0)))
    weights = {name: tensor.requires_grad_() for name, tensor in network.initial(0).items()}
    words = text(3 * 2 * T).view(3, 2 * T)
    logits = network(weights, words, gates)
    assert logits.shape == (3, WORDS, T)
    with torch.no_grad():
        state = network.read(weights, words[:, :T], gates)[1]
    after, _ = network.read(weights, words[:, T:], gates, state=state)
    assert torch.equal(logits, after)
    logits.sum().backward()
    found = {name: tensor.grad for name, tensor in weights.items()}
    for tensor in weights.values():
        tensor.grad = None
    after.sum().backward()
    assert all(
        gradient is None if weights[name].grad is None else torch.equal(gradient, weights[name].grad)
        for name, gradient in found.items()
    )
    assert not torch.equal(logits, network(weights, words[:, T:], gates))


def test_a_whole_text_is_scored_as_a_language_model_is(space: HighwaySpace, network: LanguageSupernet) -> None:
    """With the state carried from stretch to stretch, up to what is left over at the end."""
    tokens = uniform(space.decisions(0), random.Random(4))
    weights, words = network.initial(2), text(10 * 3 * T + 17)
    gates = gates_of(space, tokens)
    model = child_of(space.decode(tokens), weights)
    task = LanguageTask(name="text", options=OPTIONS, vocabulary=("word",) * WORDS, training=words, validation=words)
    if isinstance(space, DartsRnnSpace):
        statistics = network.refit(weights, gates, [words[:60].view(6, 10)])
        fused = model.layers[0]
        assert isinstance(fused, FusedCell)
        for n, operation in zip(fused.nodes, fused.operations, strict=True):
            for name, buffer in operation.named_buffers():
                buffer.copy_(statistics[f"{n.name}/{name}"])
    found = score_text(network, weights, gates, words, unroll=T, refit_on=[words[:60].view(6, 10)])
    assert torch.tensor(found.loss).exp().item() == pytest.approx(task.perplexity(model, words), rel=1e-5)
    assert 0 < found.accuracy < 0.5
    assert network.training


def test_a_steps_words_are_drawn_by_its_generator_alone_with_their_context() -> None:
    words = torch.arange(100)
    source = TextSource(training=words, validation=words[:7], unroll=T)

    def batches(seed: int) -> TextBatches:
        return TextBatches(source, 6, torch.Generator().manual_seed(seed))

    one, other = batches(0).training(), batches(0).training()
    assert torch.equal(one.words, other.words)
    assert not torch.equal(one.words, batches(1).training().words)
    assert one.words.shape == (6, 2 * T) and one.targets.shape == (6, T)
    assert torch.equal(one.targets, one.words[:, -T:] + 1)
    starts = torch.cat([batches(seed).training().words[:, 0] for seed in range(200)])
    assert starts.min() == 0 and starts.max() == 100 - 2 * T - 1
    short = batches(0).validation()
    assert short.words.tolist() == [[*range(6)]] * 6
    assert short.targets.tolist() == [[*range(2, 7)]] * 6


def test_a_score_on_random_batches_counts_words(network: LanguageSupernet, space: HighwaySpace) -> None:
    gates = gates_of(space, uniform(space.decisions(0), random.Random(0)))
    weights, words = network.initial(0), text(60)
    batches = TextBatches(TextSource(words, words, T), 4, torch.Generator().manual_seed(0))
    sample = batches.validation()
    found = score(network, weights, gates, [sample, sample])
    with torch.no_grad():
        loss = F.cross_entropy(network.eval()(weights, sample.words, gates), sample.targets).item()
    network.train()
    assert found.loss == pytest.approx(loss)


def test_the_costs_of_a_path_are_those_of_its_language_model(network: LanguageSupernet, space: HighwaySpace) -> None:
    tokens = uniform(space.decisions(0), random.Random(0))
    gates, model = gates_of(space, tokens), build_language_model(space.decode(tokens), WORDS, OPTIONS)
    zeros = torch.zeros((1, H), device="meta")
    words = torch.zeros((1, 1), dtype=torch.int64, device="meta")
    assert word_flops(network, gates) == cost.flops(model, words, [(zeros, zeros)])


def test_the_table_of_words_and_the_first_layer_are_common_to_all_paths(network: LanguageSupernet) -> None:
    common = network.common_names()
    assert {name.partition("/")[0].partition(".")[0] for name in common} == {"layer0", "embedding", "prediction"}
    assert network.unpenalised == {"embedding/weight", "prediction/bias"}


def of_shape(outputs: tuple[str, ...], *, width: int = 0) -> Architecture:
    nodes = (node("a", "linear", "x", units=width), node("b", "tanh", "a"), node("m", "mix", ("a", "b"), gate="g"))
    return Architecture("recurrent", nodes, outputs)


@pytest.mark.parametrize(
    ("supernet", "options", "message"),
    [
        (of_shape(("m",)), replace(OPTIONS, cell_layers=2), "`cell_layers` must be 1 where cells share weights"),
        (of_shape(("m",)), replace(OPTIONS, hidden_size=None), "`hidden_size` must be given where cells share weights"),
        (of_shape(("m", "a")), OPTIONS, "has one output, the next h, got a next c besides"),
        (of_shape(("m",), width=3), OPTIONS, r"the next h has the shape \(3,\); a state must be \(6,\)"),
        (
            Architecture("feedforward", (node("a", "relu", "image"),), ("a",)),
            OPTIONS,
            "a supernet of language models is recurrent, got a feedforward one",
        ),
        (
            Architecture("recurrent", (node("embedding", "linear", "x"),), ("embedding",)),
            OPTIONS,
            "a node 'embedding' and the language model have parameters of one name",
        ),
    ],
)
def test_what_is_no_supernet_of_language_models_is_refused(
    supernet: Architecture, options: LanguageOptions, message: str
) -> None:
    with pytest.raises((ValueError, InvalidArchitecture), match=message):
        LanguageSupernet(supernet, TextProblem(WORDS, options))
