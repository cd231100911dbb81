"""What a level chooses from (Liu et al. 2018, section 3; spec §5.1, §5.2, tests T5.1 and T5.3)."""

import itertools

import numpy as np
import pytest

from controller.decisions import neighbours
from controller.searchers.progressive.candidates import Candidates
from controller.spaces.cells import NasNetSpace, PnasSpace
from controller.spaces.nasbench201 import NasBench201Space
from tests.controller.searchers.progressive.driven import SPACE

PAPER = PnasSpace()


def test_there_are_136_cells_of_one_block() -> None:
    """T5.1: 256 cells, of which those with the sides of the block exchanged are equal."""
    assert len(Candidates(PAPER, beam=256).first()) == 136 == 16 * 17 / 2
    every = {PAPER.canonical((*states, *ops)) for states in itertools.product(range(2), repeat=2) for ops in _pairs(8)}
    assert len(every) == 136
    assert {PAPER.canonical(part) for part in PAPER.parts(1)} == every


def _pairs(count: int) -> list[tuple[int, int]]:
    return list(itertools.product(range(count), repeat=2))


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_the_blocks_that_can_be_added(number: int) -> None:
    """Of the (8 * (b + 1))^2 blocks, those with their sides exchanged are equal."""
    sides = 8 * (number + 1)
    parts = PAPER.parts(number)
    assert len(set(parts)) == len(parts) == sides * (sides + 1) / 2
    start = (0, 1, 2, 3) * (number - 1)
    assert len({PAPER.canonical((*start, *part)) for part in parts}) == len(parts)


def test_parts_exchange_no_sides_and_decode_to_different_networks() -> None:
    """T5.3: to exchange the sides of a block changes neither the canonical form nor the network."""
    start = SPACE.parts(1)[5]
    for part in SPACE.parts(2)[::5]:
        one, other = (*start, *part), (*start, part[1], part[0], part[3], part[2])
        assert SPACE.canonical(one) == SPACE.canonical(other)
        assert SPACE.decode(one).id == SPACE.decode(other).id
    assert len({SPACE.decode((*start, *part)).id for part in SPACE.parts(2)}) == len(SPACE.parts(2))


def test_a_space_with_several_combinations_has_a_block_of_each() -> None:
    space = PnasSpace(operations=("identity", "sep_3x3"), combinations=("add", "concat"))
    assert len(space.parts(1)) == 2 * 4 * 5 / 2
    assert all(space.decode(part).kind == "feedforward" for part in space.parts(1))


def test_cells_with_a_reduction_cell_have_no_parts() -> None:
    assert NasNetSpace().parts(1) == ()
    assert PAPER.parts(0) == PAPER.parts(6) == ()


def test_a_level_expands_each_of_the_best_by_each_part() -> None:
    candidates = Candidates(SPACE, beam=3)
    best = SPACE.parts(1)[::7]
    expansions = candidates.expansions(2, best, set())
    rows = [tuple(row) for row in expansions.tokens_BT.tolist()]
    assert rows == sorted((*start, *part) for start in best for part in SPACE.parts(2))
    assert all(best[parent] == row[:4] for row, parent in zip(rows, expansions.parents_B, strict=True))


def test_a_round_changes_one_token_of_each_of_the_best() -> None:
    space = NasBench201Space()
    candidates = Candidates(space, beam=2)
    best = [(0, 1, 2, 3, 4, 0), (0, 1, 2, 3, 4, 1)]
    tried = {best[0], best[1], (1, 1, 2, 3, 4, 0)}
    expansions = candidates.expansions(2, best, tried)
    rows = {tuple(row) for row in expansions.tokens_BT.tolist()}
    assert len(rows) == len(expansions) == 2 * 24 - 2 - 3 - 1
    assert rows == {each for tokens in best for each in neighbours(space.decisions(0), tokens)} - tried
    assert candidates.num_levels is None
    assert candidates.change(best[0], (0, 1, 2, 3, 2, 0)) == "edge 5: avg_pool_3x3 to nor_conv_1x1"


def test_candidates_are_ranked_by_score_and_equal_ones_by_their_tokens() -> None:
    expansions = Candidates(SPACE, beam=3).expansions(2, SPACE.parts(1)[:1], set())
    scores = np.zeros(len(expansions), dtype=np.float32)
    scores[[3, 7]] = 1, 2
    ranked = list(expansions.ranked(scores))
    rows = [tuple(row) for row in expansions.tokens_BT.tolist()]
    assert [tokens for tokens, _, _ in ranked] == [
        rows[7],
        rows[3],
        *(r for i, r in enumerate(rows) if i not in (3, 7)),
    ]
    assert [score for _, _, score in ranked[:3]] == [2, 1, 0]
