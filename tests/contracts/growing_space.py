"""The rules of `controller.spaces.layer_chains.WidensAndDeepens`, for spaces whose networks read small images."""

import random
from collections.abc import Iterator

import pytest

from child_trainer.inheritance.changed_architectures import changed
from controller.spaces.layer_chains import Chain, Changes, WidensAndDeepens
from tests.child_trainer.inheritance.networks import child_of, outputs, trained
from tests.contracts.search_space import SearchSpaceContract


def random_steps(space: WidensAndDeepens, steps: int, seed: int) -> Iterator[tuple[Chain, Changes]]:
    """Yield so many chains, each after a random change of the one before, finished, and the changes without noise."""
    rng, chain = random.Random(seed), space.chain(())
    for _ in range(steps):
        wider = [place for place in range(len(chain)) if space.wider_width(chain[place])]
        places = [place for block in space.blocks(chain) for place in space.deeper_places(chain, block)]
        if wider and (not places or rng.random() < 0.5):
            chain, changes = space.widened(chain, rng.choice(wider), noise=0)
        else:
            chain, changes = space.deepened(chain, rng.choice(places), rng.choice(space.window_sizes), noise=0)
        chain, following = space.finished(chain, noise=0)
        yield chain, (*changes, *following)


class GrowingSpaceContract(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> WidensAndDeepens:
        raise NotImplementedError

    def test_changes_and_tokens_agree_on_the_network_and_its_names(self, space: WidensAndDeepens) -> None:
        before = space.decode(space.tokens_of(space.chain(())))
        for chain, changes in random_steps(space, 12, seed=0):
            after = space.decode(space.tokens_of(chain))
            assert changed(before, changes) == after
            assert {n.name for n in before.nodes} <= {n.name for n in after.nodes}
            assert space.chain(space.tokens_of(chain)) == chain
            before = after

    def test_a_finished_network_stays_as_it_is(self, space: WidensAndDeepens) -> None:
        assert space.finished(space.chain(())) == (space.chain(()), ())
        for chain, _ in random_steps(space, 6, seed=1):
            assert space.finished(chain) == (chain, ())

    def test_all_networks_have_as_many_blocks_and_known_layers(self, space: WidensAndDeepens) -> None:
        assert len(set(space.layer_texts)) == len(space.layer_texts)
        for chain, _ in random_steps(space, 6, seed=2):
            assert len(space.blocks(chain)) == len(space.blocks(space.chain(())))
            assert {space.text(layer) for layer in chain} <= set(space.layer_texts)
            assert max(map(len, space.blocks(chain))) <= space.max_block_layers

    @pytest.mark.parametrize("seed", [3, 4])
    def test_five_random_changes_keep_the_function_and_the_names(self, space: WidensAndDeepens, seed: int) -> None:
        """T9.1, G16."""
        start = space.decode(())
        network = trained(start)
        changes = tuple(change for _, some in random_steps(space, 5, seed) for change in some)
        after, child = child_of(start, network, *changes)
        assert after != start
        assert {(n.name, n.op) for n in start.nodes} <= {(n.name, n.op) for n in after.nodes}
        assert (outputs(child) - outputs(network)).abs().max() < 1e-5
