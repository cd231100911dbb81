"""Cells as text in DARTS's, NASNet's and ENAS's notations, and back."""

import random
import re

import pytest

from child_trainer.architectures.cells.cell import Block, Cell, Genotype
from controller.decisions import uniform
from controller.space import genotypes_of
from controller.spaces.cells import AmoebaNetSpace, NasNetSpace, PnasSpace
from controller.spaces.enas_arcs import from_enas
from controller.spaces.genotypes import (
    DARTS_NAMES,
    InvalidGenotype,
    from_darts,
    from_nasnet,
    to_darts,
    to_nasnet,
)
from controller.zoo import published_cells

ONE = Cell.of([Block((0, 1), ("sep_3x3", "identity"))])
DARTS_TEXT = """\
Genotype(
    normal=[('sep_conv_3x3', 1), ('skip_connect', 0)],
    normal_concat=[2],
    reduce=[('sep_conv_3x3', 1), ('skip_connect', 0)],
    reduce_concat=[2],
)"""
NASNET_TEXT = """\
operations = ['separable_3x3_2', 'none']
hiddenstate_indices = [0, 1]
used_hiddenstates = [1, 1, 0]"""


def test_the_two_inputs_have_each_others_number_in_darts() -> None:
    """DARTS's 0 is the older input (spec §3.1)."""
    assert to_darts(Genotype(ONE, ONE)) == DARTS_TEXT
    assert from_darts(DARTS_TEXT) == Genotype(ONE, ONE)


def test_a_single_cell_is_written_once_for_nasnet() -> None:
    assert to_nasnet(Genotype(ONE, ONE)) == NASNET_TEXT
    assert from_nasnet(NASNET_TEXT) == Genotype(ONE, ONE)


@pytest.mark.parametrize("name", ["nasnet_a", "amoebanet_a", "amoebanet_d", "pnasnet_5", "darts_v2", "enas_micro"])
def test_published_cells_survive_nasnets_notation(name: str) -> None:
    genotype = getattr(published_cells, name)()
    assert from_nasnet(to_nasnet(genotype)) == genotype


@pytest.mark.parametrize("name", ["nasnet_a", "pnasnet_5", "darts_v1", "darts_v2", "enas_micro"])
def test_published_cells_survive_dartss_notation(name: str) -> None:
    genotype = getattr(published_cells, name)()
    assert from_darts(to_darts(genotype)) == genotype


def test_the_published_cells_are_as_specified() -> None:
    """Spec §3.4 and §12.4, one block of each."""
    nasnet, darts = published_cells.nasnet_a(), published_cells.darts_v2()
    assert nasnet.reduction.blocks[3] == Block((3, 2), ("identity", "avg_3x3"))
    assert nasnet.normal.concat == (1, 2, 3, 4, 5, 6)
    assert darts.normal.blocks[3] == Block((1, 2), ("identity", "dil_sep_3x3"))


def test_texts_are_read_as_dartss_file_has_them() -> None:
    named = "DARTS_V2 = " + DARTS_TEXT.replace("normal_concat=[2]", "normal_concat=range(2, 3)")
    assert from_darts(named) == Genotype(ONE, ONE)
    indented = "\n".join(f"  {line}" for line in DARTS_TEXT.splitlines())
    assert from_darts(indented) == Genotype(ONE, ONE)


@pytest.mark.parametrize("space", [NasNetSpace(), AmoebaNetSpace(), PnasSpace()])
def test_samples_survive_every_notation_that_has_them(space: NasNetSpace) -> None:
    """Spec T3.2."""
    rng = random.Random(0)
    readers = {"DARTS": from_darts, "NASNet": from_nasnet}
    written = 0
    for _ in range(100):
        tokens = uniform(space.decisions(0), rng)
        for notation, text in genotypes_of(space, tokens).items():
            assert space.tokens_of(readers[notation](text)) == tokens
            assert all(len(line) <= 100 for line in text.splitlines())
            written += 1
    assert written >= (0 if space.combinations == ("add", "concat") else 100)


def test_enas_arcs_are_read() -> None:
    """Spec §6.2: its 0 is the older input, and a block is (input, operation, input, operation)."""
    genotype = from_enas("0 2 1 0", "1 4 1 3")
    assert genotype.normal == Cell.of([Block((1, 0), ("avg_3x3", "sep_3x3"))])
    assert genotype.reduction == Cell.of([Block((0, 0), ("identity", "max_3x3"))])


@pytest.mark.parametrize(
    ("arc", "reason"),
    [
        ("0 2 1", "the normal arc has four numbers for each block, got '0 2 1'"),
        ("0 2 1 x", "the normal arc has four numbers"),
        ("0 2 1 5", "an operation of the normal arc is at most 4, got 5"),
    ],
)
def test_what_is_no_arc_is_refused(arc: str, reason: str) -> None:
    with pytest.raises(InvalidGenotype, match=reason):
        from_enas(arc, "0 0 0 0")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Genotype(", "Genotype", "it cannot be parsed"),
        ("Genotype(", "Cell(", "one Genotype(...), got Cell("),
        ("normal=", "normals=", "a Genotype has the fields normal, normal_concat, reduce, reduce_concat, got normals"),
        ("normal=[('sep_conv_3x3', 1), ", "normal=[", "`normal` has two edges for each block, got 1 edges"),
        ("'sep_conv_3x3', 1", "'sep_conv_3x3'", "edge 1 of `normal` is ('operation', state), got 'sep_conv_3x3'"),
        ("'sep_conv_3x3'", "'sep_conv_9x9'", "edge 1 of `normal` has the unknown operation 'sep_conv_9x9'; there are"),
        ("'skip_connect', 0", "'skip_connect', 2", "`normal` is no cell: block 1 may read the states 0 to 1, got 2"),
        ("'skip_connect', 0", "'skip_connect', -1", "edge 2 of `normal` is ('operation', state)"),
        ("normal_concat=[2]", "normal_concat=[3]", "`normal` is no cell: a cell of 1 blocks concatenates some of"),
        ("normal_concat=[2]", "normal_concat=2", "`normal_concat` must be a list, got 2"),
        ("normal_concat=[2]", "normal_concat=two", "`normal_concat` must be a list of literals, got two"),
        ("normal=[", "[", "takes its fields by name"),
    ],
)
def test_what_is_no_genotype_of_darts_is_refused(old: str, new: str, reason: str) -> None:
    with pytest.raises(InvalidGenotype, match=re.escape(reason)):
        from_darts(DARTS_TEXT.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("operations", "ops", "`cell` has the lists operations, hiddenstate_indices, used_hiddenstates, got ops"),
        ("'none'", "'nothing'", "operation 2 of `cell` is unknown, 'nothing'; there are none, separable_3x3_2"),
        ("'none'", "['none']", "operation 2 of `cell` is unknown"),
        ("[0, 1]", "[0]", "two operations and two hiddenstate_indices for each block, got 2 and 1"),
        ("[1, 1, 0]", "[1, 1]", "`used_hiddenstates` of `cell` has 3 numbers, each 0 or 1, got [1, 1]"),
        ("[1, 1, 0]", "[1, 1, 1]", "`cell` is no cell: a cell of 1 blocks concatenates some of"),
        ("[0, 1]", "[0, 3]", "`cell` is no cell: block 1 may read the states 0 to 1, got 3"),
        ("operations = ", "", "cells of NASNet's code are operations = [...]"),
    ],
)
def test_what_are_no_lists_of_nasnet_is_refused(old: str, new: str, reason: str) -> None:
    with pytest.raises(InvalidGenotype, match=re.escape(reason)):
        from_nasnet(NASNET_TEXT.replace(old, new, 1))


def test_cells_that_a_notation_lacks_are_refused() -> None:
    foreign = Cell.of([Block((0, 1), ("max_7x7", "identity"))])
    joined = Cell.of([Block((0, 1), ("sep_3x3", "identity"), "concat")])
    with pytest.raises(InvalidGenotype, match="DARTS has no operation 'max_7x7', which block 1 of `normal` has"):
        to_darts(Genotype(foreign, ONE))
    with pytest.raises(InvalidGenotype, match="DARTS's cells add, but block 1 of `reduce` has 'concat'"):
        to_darts(Genotype(ONE, joined))
    with pytest.raises(InvalidGenotype, match="NASNet's code adds, but block 1 of `normal` has 'concat'"):
        to_nasnet(Genotype(joined, ONE))


def test_every_operation_of_darts_has_one_name() -> None:
    assert len(set(DARTS_NAMES.values())) == len(DARTS_NAMES)
