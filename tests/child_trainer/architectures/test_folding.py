"""Networks folded into rows of equal parts."""

from child_trainer.architectures.folding import folded
from child_trainer.architectures.nasbench201 import network
from controller.spaces.cells import NasNetSpace, PnasSpace
from controller.zoo.catalogue import ZOO


def texts(*args, **kwargs) -> list[str]:
    return [row.text() for row in folded(*args, **kwargs)]


def test_a_network_of_cells_is_folded_into_its_stages() -> None:
    entry = ZOO["nasnet-a"]
    assert texts(entry.architecture(entry.size), (32, 32)) == [
        "stem, 96 filters at 32x32",
        "6 x normal cell, 32 filters at 32x32",
        "reduction cell, 64 filters at 16x16",
        "6 x normal cell, 64 filters at 16x16",
        "reduction cell, 128 filters at 8x8",
        "6 x normal cell, 128 filters at 8x8",
    ]


def test_without_an_image_there_are_no_sizes() -> None:
    space = PnasSpace(cells_per_stage=1, filters=8, auxiliary=True)
    assert texts(space.decode([0] * 20)) == [
        "stem, 24 filters",
        "normal cell, 8 filters",
        "reduction cell, 16 filters",
        "auxiliary head, 128 filters",
        "reduction cell, 32 filters",
    ]


def test_halves_and_bottlenecks_are_not_the_filters_of_a_cell() -> None:
    """A cell without other convolutions, whose older input is reduced by two of half the filters each."""
    pools = PnasSpace(operations=("max_3x3",), blocks=1, cells_per_stage=1, filters=8)
    assert texts(pools.decode((0, 1, 0, 0))) == [
        "stem, 24 filters",
        "normal cell, 8 filters",
        "reduction cell, 16 filters",
        "reduction cell, 32 filters",
    ]
    narrow = PnasSpace(operations=("bottleneck_1x7_7x1",), blocks=1, cells_per_stage=1, filters=8)
    assert texts(narrow.decode((0, 0, 0, 0)))[1] == "normal cell, 8 filters"


def test_networks_of_the_benchmark_are_folded_too() -> None:
    assert texts(network(("nor_conv_3x3",) * 6), (32, 32))[1:3] == [
        "5 x cell, 16 filters at 32x32",
        "reduction, 32 filters at 16x16",
    ]


def test_what_has_no_parts_is_not_folded() -> None:
    assert folded(ZOO["zoph2017-15"].architecture(None)) == []
    assert folded(ZOO["nascell"].architecture(None)) == []
    assert folded(NasNetSpace().motifs([0] * 50)["normal cell"]) == []
