"""The layer chains of MetaQNN (Baker et al. 2017, arXiv 1611.02167; spec §7.1, §7.3)."""

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from child_trainer.networks.build import build
from controller.decisions import InvalidTokens, check_tokens, enumerate_samples, mutate, neighbours, uniform
from controller.policies.lstm import Policy
from controller.space import SearchSpace
from controller.spaces.chain import ENDS, PUBLISHED, ChainSpace, ChainState
from tests.contracts.search_space import SearchSpaceContract

SPACE = ChainSpace()
SMALL = ChainSpace(
    image_size=8,
    filter_sizes=(1, 3, 5),
    num_filters=(4, 8),
    units=(16, 8),
    pool_sizes=(3, 2),
    pool_strides=(2, 2),
    max_layers=4,
)


class Digits:
    input_shape = (1, 8, 8)
    num_classes = 10


class Cifar:
    input_shape = (3, 32, 32)
    num_classes = 10


class TestPaperSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SPACE


class TestSmallSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SMALL


def reachable(space: ChainSpace) -> set[ChainState]:
    """Every state that a chain may be in before its end."""
    states, border = {space.start}, [space.start]
    while border:
        state = border.pop()
        for token in space.allowed(state):
            if space.layers[token] not in ENDS and (after := space.follow(state, token)) not in states:
                states.add(after)
                border.append(after)
    return states


def transitions(space: ChainSpace) -> Iterator[tuple[ChainState, ChainState]]:
    for state in reachable(space):
        for token in space.allowed(state):
            if space.layers[token] not in ENDS:
                yield state, space.follow(state, token)


@pytest.mark.parametrize("space", [SPACE, SMALL, ChainSpace(max_layers=18), ChainSpace(image_size=28, max_layers=6)])
def test_every_state_obeys_the_rules(space: ChainSpace) -> None:
    """Spec T7.1."""
    states = reachable(space)
    assert len(states) > 40
    for state in states:
        assert space.layers[space.allowed(state)[0]].type == "softmax"
        assert state.size >= 1
        assert state.fully_connected <= 2
        assert state.depth <= space.max_layers
        if state.depth == space.max_layers:
            assert all(space.layers[token] in ENDS for token in space.allowed(state))
    for before, after in transitions(space):
        layer, last = after.layer, before.layer
        assert layer is not None
        if layer.type in ("conv", "pool"):
            assert layer.size <= before.size
            assert last is None or last.type in ("conv", "pool")
        if layer.type == "conv":
            assert after.size == before.size
        if layer.type == "pool":
            assert last is not None
            assert last.type == "conv"
            assert after.size == -(-(before.size - layer.size + 1) // layer.stride)
        if layer.type == "fully_connected":
            assert before.bin in (4, 1)
            assert last is None or last.type != "fully_connected" or layer.units <= last.units


@pytest.mark.parametrize("space", [SPACE, SMALL])
def test_the_graph_of_the_states_has_no_cycle(space: ChainSpace) -> None:
    """Spec T7.1: each layer is one deeper, in the states of the Q table too."""
    for before, after in transitions(space):
        assert after.depth == before.depth + 1
        assert int(after.text.split()[0]) == int(before.text.split()[0]) + 1


def test_a_pool_may_lead_from_one_state_of_the_table_to_several() -> None:
    """Spec §7.1: the table knows the bin only, and the builder the size."""
    follow: dict[str, set[str]] = {}
    for before, after in transitions(ChainSpace(max_layers=8)):
        if after.layer is not None and after.layer.text == "P(2,2)":
            follow.setdefault(before.text, set()).add(after.text)
    assert max(map(len, follow.values())) > 1


def test_bins_are_those_of_the_code() -> None:
    assert [ChainState(None, 0, size).bin for size in (1, 3, 4, 7, 8, 32)] == [1, 1, 4, 4, 8, 8]


def test_the_published_network_has_its_published_size() -> None:
    """Spec §7.3: 11.26 M published, 11,309,834 by the stated rules."""
    network = build(SPACE.decode(SPACE.tokens_of(PUBLISHED)), Cifar())
    count = sum(p.numel() for p in network.parameters())
    assert count == 11_309_834
    assert count == pytest.approx(11.26e6, rel=0.01)


def test_dropout_grows_linearly_behind_each_second_and_each_fully_connected_layer() -> None:
    chain = "C(64,3,1) C(64,3,1) P(5,3) C(64,1,1) P(2,2) FC(512) FC(128) SM"
    architecture = SPACE.decode(SPACE.tokens_of(chain))
    rates = [(n.name, n.attribute("rate")) for n in architecture.ordered if n.op == "dropout"]
    assert rates == [("dropout2", 0.125), ("dropout4", 0.25), ("dropout6", 0.375), ("dropout7", 0.5)]
    without = ChainSpace(max_dropout=0.0)
    assert all(n.op != "dropout" for n in without.decode(without.tokens_of(chain)).nodes)


@pytest.mark.parametrize(
    ("chain", "operations"),
    [
        ("SM", ["flatten"]),
        ("GAP", ["global_avg_pool"]),
        ("C(8,3,1) GAP", ["conv", "global_avg_pool"]),
        ("C(8,3,1) P(2,2) FC(16) FC(8) SM", ["conv", "max_pool", "flatten", "linear", "relu", "linear", "relu"]),
    ],
)
def test_ends_and_fully_connected_layers_flatten_once(chain: str, operations: list[str]) -> None:
    space = ChainSpace(image_size=8, num_filters=(4, 8), units=(16, 8), max_layers=4, max_dropout=0.0)
    assert [n.op for n in space.decode(space.tokens_of(chain)).ordered] == operations


def test_random_chains_and_their_mutations_can_be_built() -> None:
    rng = random.Random(0)
    images = torch.zeros(2, 1, 8, 8)
    for _ in range(40):
        tokens = uniform(SMALL.decisions(0), rng)
        for each in (tokens, mutate(SMALL.decisions(0), tokens, rng)):
            assert build(SMALL.decode(each), Digits()).eval()(images).shape == (2, 10)


def test_neighbours_are_chains_too() -> None:
    tokens = SMALL.tokens_of("C(8,3,1) P(2,2) FC(8) SM")
    for each in neighbours(SMALL.decisions(0), tokens):
        check_tokens(SMALL.decisions(0), each)


def test_the_number_of_chains_of_one_layer_is_counted_by_hand() -> None:
    """8x8 pixels: an end, or one of six convolutions and then an end; the map is too large for a full connection."""
    space = ChainSpace(image_size=8, num_filters=(4, 8), max_layers=1)
    assert len(list(enumerate_samples(space.decisions(0)))) == 2 + 6 * 2


def test_a_recurrent_policy_samples_chains() -> None:
    policy = Policy(SMALL.choice_sizes(), hidden=5)
    policy.initialize(torch.Generator().manual_seed(0), bound=0.5)
    rollout = policy.sample(SMALL.decisions(0), 50, torch.Generator().manual_seed(1))
    for tokens in rollout.tokens.tolist():
        SMALL.decode(tokens)
    assert torch.equal(policy.log_prob(SMALL.decisions(0), rollout.tokens), rollout.log_prob)


def test_genotypes_can_be_read_again() -> None:
    rng = random.Random(0)
    for _ in range(20):
        tokens = uniform(SPACE.decisions(0), rng)
        assert SPACE.tokens_of(SPACE.genotypes(tokens)["MetaQNN"]) == tokens
    assert SPACE.genotypes(SPACE.tokens_of(PUBLISHED))["MetaQNN"] == PUBLISHED
    assert [len(set(pair)) for pair in pairwise(PUBLISHED.split())] == [2] * 8


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("C(65,3,1) SM", r"the layers of this space are SM GAP C\(64,1,1\) .*, got 'C\(65,3,1\)'"),
        ("P(2,2) SM", r"token 0 \(layer\) must be one of 0, 1, .*, got 16"),
        ("FC(128) SM", r"token 0 \(layer\) must be one of 0, 1, .*, got 19"),
        ("C(64,1,1) P(2,2) P(2,2) SM", r"token 2 \(layer\) must be one of .*, got 16"),
        ("SM C(64,1,1)", r"token 1 \(layer\) must be at least 0 and below 1, got 2"),
        ("C(64,1,1) " * 13 + "SM", "a chain of this space takes 13 tokens, got 14"),
    ],
)
def test_a_wrong_chain_is_refused(chain: str, message: str) -> None:
    with pytest.raises(InvalidTokens, match=message):
        SPACE.tokens_of(chain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filter_sizes": ()}, r"`filter_sizes` must be one or more different numbers, each at least 1, got \(\)"),
        ({"units": (8, 8)}, r"`units` must be one or more different numbers, each at least 1, got \(8, 8\)"),
        ({"pool_strides": (2,)}, r"`pool_strides` must have as many numbers as `pool_sizes`, 3, got \(2,\)"),
        ({"max_layers": 0}, "`max_layers` must be at least 1, got 0"),
        ({"max_dropout": 1.0}, "`max_dropout` must be at least 0 and below 1, got 1.0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChainSpace(**options)  # type: ignore[arg-type]
