"""The rules of `controller.space.HasSupernet`. An implementation subclasses and supplies `space`."""

import random
from collections.abc import Mapping

from child_trainer.architectures.architecture import Node
from child_trainer.architectures.gates import gate_sizes
from child_trainer.supernets.restriction import restrict
from controller.decisions import Tokens, uniform
from controller.space import HasSupernet, SearchSpace
from tests.contracts.search_space import SearchSpaceContract

WEIGHTED = ("conv", "depthwise_conv", "linear", "batch_norm")
SAMPLES = 8
STRONG = 10.0


def samples(space: SearchSpace) -> list[Tokens]:
    rng = random.Random(0)
    return [uniform(space.decisions(0), rng) for _ in range(SAMPLES)]


def with_supernet(space: SearchSpace) -> HasSupernet:
    assert isinstance(space, HasSupernet)
    return space


def weighted(nodes: tuple[Node, ...]) -> Mapping[str, tuple[str, object]]:
    """The nodes that have weights, by name."""
    return {n.name: (n.op, n.attributes) for n in nodes if n.op in WEIGHTED}


class SupernetContract(SearchSpaceContract):
    NAMED = True
    """Whether `decode` names the nodes with weights as the supernet does."""

    def test_an_architecture_is_a_restriction_of_the_supernet(self, space: SearchSpace) -> None:
        supernet = with_supernet(space).supernet()
        assert any(n.op == "mix" for n in supernet.nodes)
        for tokens in samples(space):
            restriction = restrict(supernet, with_supernet(space).gates(tokens))
            assert space.decode(tokens).id == restriction.id

    def test_weights_have_the_names_that_they_have_in_the_supernet(self, space: SearchSpace) -> None:
        supernet = with_supernet(space).supernet()
        for tokens in samples(space):
            restriction = weighted(restrict(supernet, with_supernet(space).gates(tokens)).nodes)
            assert restriction.items() <= weighted(supernet.nodes).items()
            assert not self.NAMED or weighted(space.decode(tokens).live_nodes()) == restriction

    def test_every_option_but_none_is_in_some_sample(self, space: SearchSpace) -> None:
        supernet = with_supernet(space).supernet()
        sizes, rng = gate_sizes(supernet), random.Random(1)
        seen: set[tuple[str, int]] = set()
        for _ in range(2_000):
            gates = with_supernet(space).gates(uniform(space.decisions(0), rng))
            assert {name: len(values) for name, values in gates.items()} == sizes
            seen |= {(name, place) for name, values in gates.items() for place, value in enumerate(values) if value}
        operations = {n.name: n.op for n in supernet.nodes}
        assert seen >= {
            (n.attribute("gate"), place)
            for n in supernet.nodes
            if n.op == "mix"
            for place, source in enumerate(n.inputs)
            if operations.get(source) != "zero"
        }

    def test_exclusive_gates_have_one_input_at_most(self, space: SearchSpace) -> None:
        most = max(sum(gate) for tokens in samples(space) for gate in with_supernet(space).gates(tokens).values())
        assert most <= 1 or not with_supernet(space).exclusive

    def test_strengths_derive_the_sample_that_they_favour(self, space: SearchSpace) -> None:
        for tokens in samples(space):
            gates = with_supernet(space).gates(tokens)
            strengths = {name: [STRONG * (2 * value - 1) for value in values] for name, values in gates.items()}
            derived = with_supernet(space).derive(strengths)
            assert space.decode(derived).id == space.decode(tokens).id

    def test_the_supernet_depends_on_the_space_alone(self, space: SearchSpace) -> None:
        assert with_supernet(space).supernet() == with_supernet(space).supernet()
