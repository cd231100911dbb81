"""The synthetic task: its score, which has a signal for the searches of every space, and its pretended training."""

import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.nasbench201 import network as nasbench201_network
from child_trainer.outcome import Budget, Cause
from child_trainer.tasks.synthetic import SyntheticTask, score
from child_trainer.training.train import train
from controller.decisions import Tokens, neighbours, uniform
from controller.searcher import Child, ChildRecord, Searcher, View
from controller.searchers.evolutionary.evolution import Evolution
from controller.searchers.evolutionary.local_search import LocalSearch
from controller.searchers.evolutionary.options import EvolutionOptions, LocalSearchOptions
from controller.searchers.random_search import RandomSearch
from controller.space import SearchSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.recurrent import RecurrentSpace
from tests.child_trainer.architectures.random_graphs import described_otherwise, random_graphs
from tests.golden import GOLDEN_CELL, architecture, chained, densely_connected

BEST = architecture(tuple((5, 3, 48, tuple(j for j in (i - 1, i) if j > 0)) for i in range(8)))


def test_the_best_network_scores_one_and_the_worst_zero():
    assert score(BEST) == 1.0
    opposite = tuple((1, 7, 24, tuple(j for j in range(1, i - 1))) for i in range(5))
    assert score(architecture(opposite)) == 0.0


@pytest.mark.parametrize(("layers", "expected"), [(densely_connected(), 27 / 105), (chained(), 92 / 105)])
def test_a_score_by_hand(layers, expected):
    # Of 105 pairs, 27 are of near neighbours (14 at distance 1, 13 at 2): all on, or just the 14 and no far ones.
    shares = [sum(layer[k] == best for layer in layers) / 15 for k, best in enumerate((5, 3, 48))]
    assert score(architecture(layers)) == pytest.approx((sum(shares) + expected) / 4)


def test_each_decision_moves_the_score():
    base = ((3, 5, 24, ()), (3, 5, 24, (1,)), (3, 5, 24, (2,)))
    better = [
        ((5, 5, 24, ()), *base[1:]),
        ((3, 3, 24, ()), *base[1:]),
        ((3, 5, 48, ()), *base[1:]),
        (*base[:2], (3, 5, 24, (1, 2))),
    ]
    gains = [score(architecture(layers)) - score(architecture(base)) for layers in better]
    assert gains == pytest.approx([1 / 12] * 4)


def test_dead_nodes_and_operations_without_filters_do_not_count():
    nodes = (*BEST.nodes, node("dead", "conv", "image", height=1, width=1, filters=24))
    assert score(Architecture("feedforward", nodes, BEST.outputs)) == 1.0
    assert score(Architecture("feedforward", (node("r", "relu", "image"),), ("r",))) == 0.0


# --- Any other graph ---------------------------------------------------------------------------------------------

SPACES: dict[str, SearchSpace] = {
    "convolutional": ConvolutionalSpace(),
    "recurrent": RecurrentSpace(),
    "nasbench201": NasBench201Space(),
}

SPREAD = {"convolutional": 0.07, "recurrent": 0.1, "nasbench201": 0.09}
"""Least standard deviation of the score over random samples."""


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[Tokens]:
    rng = random.Random(seed)
    return [uniform(space.decisions(0), rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Architecture("feedforward", (node("a", "tanh", "image"),), ("a",)), 0.585422572468992),
        (Architecture("feedforward", (node("a", "add", ("image", "image")),), ("a",)), 0.32271056762574696),
        (Architecture("recurrent", (node("a", "mean", ("x", "h")),), ("a", "a")), 0.9504593436395773),
        (nasbench201_network(("nor_conv_3x3",) * 6), 0.6536374063562392),
    ],
)
def test_the_score_of_any_other_graph_is_the_same_in_every_version(network: Architecture, expected: float) -> None:
    assert score(network) == pytest.approx(expected, abs=1e-12)


def test_one_other_operation_makes_a_stack_or_a_tree_another_graph() -> None:
    activated = (*BEST.nodes, node("end", "tanh", BEST.outputs))
    assert 0 < score(Architecture("feedforward", activated, ("end",))) < 1
    gated = tuple(replace(n, op="mean") if n.name == "j" else n for n in cell().nodes)
    assert 0 < score(replace(cell(), nodes=gated)) < 1


@settings(deadline=None)
@given(random_graphs(), st.randoms(use_true_random=False))
def test_isomorphic_graphs_have_equal_scores(graph: Architecture, rng: random.Random) -> None:
    end = node("end", "tanh", graph.outputs[0])  # so that it is no stack
    graph = replace(graph, nodes=(*graph.nodes, end), outputs=("end", *graph.outputs[1:]))
    assert score(described_otherwise(graph, rng)) == score(graph)
    assert 0 <= score(graph) <= 1


@pytest.mark.parametrize("name", SPACES)
def test_random_samples_of_every_space_have_different_scores(name: str) -> None:
    scores = [score(SPACES[name].decode(tokens)) for tokens in drawn(SPACES[name], 300)]
    assert statistics.stdev(scores) > SPREAD[name]
    assert len(set(scores)) > 50


@pytest.mark.parametrize("name", SPACES)
def test_the_best_neighbour_is_better_than_most_random_samples(name: str) -> None:
    space = SPACES[name]
    samples = drawn(space, 20)
    scores = [score(space.decode(tokens)) for tokens in samples]
    best = [max(score(space.decode(near)) for near in neighbours(space.decisions(0), own)) for own in samples]
    assert all(near > own for near, own in zip(best, scores, strict=True))
    assert statistics.mean(best) > statistics.mean(scores) + statistics.stdev(scores) / 3


def best_found(searcher: Searcher, seed: int, children: int = 200) -> float:
    """Search the cells of NAS-Bench-201 one child after another, and return the best metric."""
    history: list[ChildRecord] = []
    for number in range(children):
        view = View(
            parameters={},
            completed=number,
            history=lambda: history,
            pending=lambda: (),
            rng=random.Random(f"{seed}:{number}"),
        )
        (proposal,) = searcher.ask(1, view)
        outcome = train(proposal.architecture, SyntheticTask(), Budget(epochs=1), seed=number)
        child = Child(id=number + 1, proposal=proposal, outcome=outcome, reward=outcome.curve[-1])
        history.append(child.record)
    return max(child.reward or 0 for child in history)


@pytest.mark.parametrize(
    "make",
    [
        lambda space: Evolution(space, EvolutionOptions(population=20, tournament=5)),
        lambda space: LocalSearch(space, LocalSearchOptions()),
    ],
    ids=["evolution", "local-search"],
)
def test_on_cells_of_nasbench201_a_searcher_beats_random_search(make: Callable[[SearchSpace], Searcher]) -> None:
    space = SPACES["nasbench201"]
    gains = [best_found(make(space), seed) - best_found(RandomSearch(space), seed) for seed in range(5)]
    assert min(gains) > 0
    assert statistics.mean(gains) > 0.02


# --- The task ----------------------------------------------------------------------------------------------------


def test_the_metric_approaches_the_score_and_ignores_seed_and_budget():
    outcome = train(BEST, SyntheticTask(), Budget(epochs=4), seed=1)
    assert outcome.curve == (0.5, 0.75, 0.875, 0.9375)
    assert train(BEST, SyntheticTask(), Budget(epochs=2), seed=9).curve == outcome.curve[:2]
    assert (outcome.parameters, outcome.flops, outcome.failure) == (None, None, None)


def test_a_child_pretends_to_train_for_its_seconds():
    outcome = train(BEST, SyntheticTask(child_seconds=0.05), Budget(epochs=5), seed=1)
    assert 0.05 <= outcome.seconds < 0.5
    stopped = train(BEST, SyntheticTask(child_seconds=0.5), Budget(epochs=10), seed=1, on_epoch=lambda *_: True)
    assert stopped.seconds < 0.4
    late = train(BEST, SyntheticTask(child_seconds=0.05), Budget(epochs=5, max_seconds=0.02), seed=1)
    assert late.failure.cause is Cause.TIMEOUT


def test_the_seconds_of_children_vary_as_the_spread_says():
    task = SyntheticTask(child_seconds=3600.0, child_spread=0.5)
    logarithms = [math.log(task.seconds_of(seed) / 3600) for seed in range(4000)]
    assert abs(statistics.mean(logarithms)) < 0.03
    assert statistics.stdev(logarithms) == pytest.approx(0.5, abs=0.02)
    assert task.seconds_of(7) == task.seconds_of(7)
    assert SyntheticTask(child_seconds=2.0).seconds_of(7) == 2.0
    (slow, quick) = (max(range(20), key=task.seconds_of), min(range(20), key=task.seconds_of))
    short = SyntheticTask(child_seconds=0.05, child_spread=0.5)
    for seed in (slow, quick):
        assert train(BEST, short, Budget(epochs=2), seed=seed).seconds >= short.seconds_of(seed)


def cell(*, leaf=("add", "sigmoid"), inner=("multiply", "tanh"), inject="add", names="abdefgijkl") -> Architecture:
    """Two leaves, joined; c comes in at the first leaf."""
    w, u, p, q, x, y, joined, root, out, spare = names
    nodes = (
        node(w, "linear", "x", bias=False),
        node(u, "linear", "h", bias=False),
        node(p, leaf[0], (w, u)),
        node(q, leaf[0], (u, w)),
        node(x, leaf[1], p),
        node(y, leaf[1], q),
        node(joined, inject, (x, "c")),
        node(root, inner[0], (joined, y)),
        node(out, inner[1], root),
        node(spare, "multiply", ("c", "c")),  # nothing reads it
    )
    return Architecture("recurrent", nodes[::-1], (out, p))


def test_the_best_cell_scores_one_and_the_worst_zero():
    assert score(cell()) == 1.0
    assert score(cell(leaf=("multiply", "tanh"), inner=("add", "sigmoid"), inject="multiply")) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"leaf": ("multiply", "sigmoid")},
        {"leaf": ("add", "relu")},
        {"inner": ("add", "tanh")},
        {"inner": ("multiply", "relu")},
        {"inject": "maximum"},
    ],
)
def test_each_property_of_a_cell_moves_its_score_by_a_fifth(change):
    assert score(cell(**change)) == pytest.approx(0.8)


def test_the_names_of_a_cells_nodes_do_not_count():
    changed = {"leaf": ("add", "relu"), "inject": "multiply"}
    assert score(cell(**changed)) == score(cell(**changed, names="lkjigfedba"))


def test_the_score_of_the_published_cell_by_hand():
    """Spec §2.2: 7 of 8 leaves add, 4 have a sigmoid; 4 of 7 inner nodes multiply, 5 have a tanh; c is added."""
    expected = (7 / 8 + 4 / 8 + 4 / 7 + 5 / 7 + 1) / 5
    assert score(RecurrentSpace().decode(GOLDEN_CELL)) == pytest.approx(expected)


def test_an_identity_is_no_activation_and_a_cell_without_joins_scores_0():
    nodes = [n for n in cell().nodes if n.op != "tanh"]
    assert score(Architecture("recurrent", tuple(nodes), ("j",))) == pytest.approx(0.8)
    assert score(Architecture("recurrent", (node("a", "tanh", "x"),), ("a",))) == 0.0


def test_a_cell_is_trained_as_a_network_is():
    outcome = train(cell(), SyntheticTask(), Budget(epochs=2), seed=1)
    assert outcome.curve == (0.5, 0.75)


def test_a_child_takes_less_than_a_millisecond():
    network = architecture()
    fastest = min(train(network, SyntheticTask(), Budget(epochs=3), seed=i).seconds for i in range(20))
    assert fastest < 1e-3


def test_a_rehearsal_imports_no_torch():
    program = (
        "import sys\n"
        "from child_trainer.tasks.catalogue import check_task, load_task\n"
        "from child_trainer.training.train import train\n"
        "from child_trainer.architectures.drawing import draw\n"
        "from child_trainer.outcome import Budget\n"
        "from tests.golden import architecture\n"
        "check_task('synthetic')\n"
        "outcome = train(architecture(), load_task('synthetic'), Budget(epochs=1), seed=1)\n"
        "assert outcome.failure is None, outcome\n"
        "draw(architecture())\n"
        "print([m for m in ('torch', 'numpy', 'torchvision') if m in sys.modules])\n"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")
