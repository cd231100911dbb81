"""Cells of blocks as SVG: the boxes do not overlap, and every wire starts at what is read."""

import random
import re

import pytest

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.cell import motif
from child_trainer.architectures.drawing import draw, shown_names
from cluster.report.block_drawing import blocks_svg
from cluster.report.html.markup import tag
from controller.decisions import uniform
from controller.spaces.cells import NasNetSpace
from controller.zoo.catalogue import ZOO
from controller.zoo.published_cells import pnasnet_5
from tests.cluster.report.well_formed import read_page

PNASNET_5 = pnasnet_5().normal

Box = tuple[float, float, float, float]

BOX = re.compile(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" rx="6" class="([^"]*)"')


def frames(svg: str) -> list[Box]:
    return [(float(x), float(y), float(w), float(h)) for x, y, w, h, _ in BOX.findall(svg)]


def overlap(one: Box, other: Box) -> bool:
    across = one[0] < other[0] + other[2] and other[0] < one[0] + one[2]
    return across and one[1] < other[1] + other[3] and other[1] < one[1] + one[3]


def sampled(seed: int) -> Architecture:
    space = NasNetSpace()
    return space.motifs(uniform(space.decisions(0), random.Random(seed)))["normal cell"]


PUBLISHED = {
    f"{name}, {part}": cell
    for name, entry in ZOO.items()
    for part, cell in entry.motifs().items()
    if cell.kind == "cell"  # the others are drawn as networks
}
CELLS = PUBLISHED | {f"sample {seed}": sampled(seed) for seed in range(20)}


@pytest.mark.parametrize("name", CELLS)
def test_boxes_stay_apart_and_inside_the_picture(name: str) -> None:
    svg = blocks_svg(CELLS[name])
    boxes = frames(svg)
    width, height = map(float, svg.partition('viewBox="0 0 ')[2].partition('"')[0].split())
    assert len(boxes) == len(draw(CELLS[name]).splitlines()) + len(shown_names(CELLS[name]))
    for place, box in enumerate(boxes):
        assert box[0] >= 0 and box[1] >= 0
        assert box[0] + box[2] <= width and box[1] + box[3] <= height
        assert not any(overlap(box, other) for other in boxes[place + 1 :])
    read_page(f"<!DOCTYPE html>\n{tag('body', svg)}")


def test_each_operation_has_a_wire_and_the_output_one_from_each_state() -> None:
    genotype = ZOO["nasnet-a"].motifs()["reduction cell"]
    svg = blocks_svg(genotype)
    assert svg.count("<path") == 5 * 2 + 4
    assert svg.count('class="wire older"') == 3
    assert svg.count('class="wire newer"') == 4


def test_the_description_tells_the_blocks() -> None:
    svg = blocks_svg(motif(PNASNET_5))
    assert "block 1 = sep 5x5 (older) + max 3x3 (older)" in svg


def test_an_operation_is_named_in_its_box() -> None:
    svg = blocks_svg(motif(PNASNET_5))
    assert svg.count(">max 3x3</text>") == 3
    assert svg.count(">identity</text>") == 1
