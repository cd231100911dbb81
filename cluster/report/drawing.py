"""Architectures as SVG: a network as a column of layers with arcs for skips, a cell as a tree or as blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.drawing import Row, ends_of, layer_rows
from cluster.formatting import counted
from cluster.report.block_drawing import blocks_svg
from cluster.report.cell_drawing import cell_svg
from cluster.report.html.markup import Markup, pixels, tag
from cluster.report.html.style import SVG_STYLE

BOX_HEIGHT, GAP = 24.0, 14.0
STEP = BOX_HEIGHT + GAP
ARC_STEP = 11.0
"""Distance that an arc extends per skipped layer, up to `MAX_ARC`."""
MAX_ARC = 150.0
MARGIN = 6.0
INDENT, CHARACTER = 37.0, 6.6
"""Indent of a label in its box, after the number, and the width of a character."""
TITLE_HEIGHT, FILE_WIDTH, FILE_GAP = 30.0, 1200.0, 24.0
"""Height of the name above a drawing in a file, width of a row of drawings, and gap between two of them."""
MAX_LABEL = 44
"""Upper bound for the characters of a label."""

MAX_LAYERS = 24
"""Upper bound for the layers of a network that is drawn whole."""
FIRST_LAYERS, LAST_LAYERS = 14, 6
"""First and last layers that are drawn of a deeper network."""


@dataclass(frozen=True, slots=True)
class _Box:
    """One box of the column.

    Attributes:
        number: number of the layer; empty for the image and for a box of several layers.
        label: text of the box.
        reads: numbers of the layers that it reads, 0 for the image.
        sources: indices in the column of the boxes that it reads.
    """

    number: str
    label: str
    reads: tuple[int, ...]
    sources: tuple[int, ...]


def architecture_svg(architecture: Architecture) -> Markup:
    """Draw the part of the network on which its outputs depend; the style sheet colours it by class."""
    live = architecture.pruned()
    match live.kind:
        case "recurrent":
            return cell_svg(live)
        case "cell":
            return blocks_svg(live)
        case "feedforward":
            return _network_svg(layer_rows(live), ends_of(live)[0])


def svg_file(drawings: Mapping[str, Architecture]) -> Markup:
    """Return an SVG file with the drawing of each architecture below its name, side by side where they fit."""
    parts: list[Markup] = []
    left, top, bottom, right = 0.0, 0.0, 0.0, 0.0
    for name, architecture in drawings.items():
        svg = architecture_svg(architecture)
        width, height = (float(number) for number in svg.partition('viewBox="0 0 ')[2].partition('"')[0].split())
        if left and left + width > FILE_WIDTH:
            left, top = 0.0, bottom
        parts.append(tag("text", name, x=left + 2 * MARGIN, y=top + TITLE_HEIGHT - 8, class_="title"))
        placed = f'<svg x="{pixels(left)}" y="{pixels(top + TITLE_HEIGHT)}" height="{pixels(height)}"'
        parts.append(Markup(svg.replace("<svg", placed, 1)))
        left += width + FILE_GAP
        right, bottom = max(right, left - FILE_GAP), max(bottom, top + TITLE_HEIGHT + height + MARGIN)
    return tag(
        "svg",
        tag("style", Markup(SVG_STYLE)),
        tag("rect", width="100%", height="100%", class_="page"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {pixels(right)} {pixels(bottom)}",
        width=right,
        height=bottom,
    )


def _network_svg(rows: list[Row], first: str) -> Markup:
    boxes = _boxes(rows, first)
    skips = [(source, index) for index, box in enumerate(boxes) for source in box.sources if source < index - 1]
    layers, joins = len(rows) - 1, sum(source < index - 1 for index, row in enumerate(rows, 1) for source in row.reads)
    what = f"A network of {counted(layers, 'layer')} with {counted(joins, 'skip connection')}"
    farthest = max((index - source for source, index in skips), default=0)
    box_width = INDENT + CHARACTER * max(16, *(len(_shortened(box.label)) for box in boxes))
    width = 2 * MARGIN + box_width + (_reach(farthest) * 0.75 + 4 if skips else 0)
    height = 2 * MARGIN + len(boxes) * STEP - GAP
    arcs = [
        _arc(boxes, source, index, box_width) for source, index in sorted(skips, key=lambda skip: skip[0] - skip[1])
    ]
    straight = [_straight(index, box_width) for index, box in enumerate(boxes) if index - 1 in box.sources]
    parts = (
        f"{box.number} {box.label} reads {_names(box.reads, first)}".strip() if box.reads else box.label
        for box in boxes[1:]
    )
    description = f"{what}: {'; '.join(parts)}"
    return tag(
        "svg",
        tag("title", what),
        *straight,
        *arcs,
        *(_box(index, box, box_width) for index, box in enumerate(boxes)),
        viewBox=f"0 0 {pixels(width)} {pixels(height)}",
        width=width,
        class_="network",
        role="img",
        aria_label=description,
    )


def _boxes(rows: list[Row], first: str) -> list[_Box]:
    """Return a box for the image, named `first`, and for each row; the middle of a very deep network is one box."""
    layers = len(rows) - 1
    hidden = range(0) if layers <= MAX_LAYERS else range(FIRST_LAYERS + 1, layers - LAST_LAYERS + 1)

    def place(number: int) -> int:
        return number if number < hidden.start or not hidden else max(hidden.start, number - len(hidden) + 1)

    boxes = [_Box("", first, (), ())]
    for index, row in enumerate(rows, start=1):
        if index not in hidden:
            boxes.append(_Box(row.number, row.label, row.reads, tuple(sorted({place(source) for source in row.reads}))))
        elif index == hidden.start:
            read = {place(source) for within in hidden for source in rows[within - 1].reads} - {index}
            boxes.append(_Box("", f"{counted(len(hidden), 'layer')} more", (), tuple(sorted(read))))
    return boxes


def _names(reads: tuple[int, ...], first: str) -> str:
    return ", ".join(first if source == 0 else str(source) for source in reads)


def _top(index: int) -> float:
    return MARGIN + index * STEP


def _box(index: int, box: _Box, width: float) -> Markup:
    kind = "end" if not box.number else box.label.split(",")[0].split()[0].replace("_", "-")
    middle = _top(index) + BOX_HEIGHT / 2 + 4
    body = tag("rect", x=MARGIN, y=_top(index), width=width, height=BOX_HEIGHT, rx=5.0, class_=f"layer {kind}")
    number = tag("text", box.number, x=MARGIN + 8, y=middle, class_="layer-number") if box.number else ""
    return tag("g", body, number, tag("text", _shortened(box.label), x=MARGIN + INDENT, y=middle, class_="layer-label"))


def _shortened(label: str) -> str:
    return label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"


def _straight(index: int, width: float) -> Markup:
    """Draw the wire from the previous layer to this one."""
    middle = MARGIN + width / 2
    return tag("path", d=f"M{pixels(middle)} {pixels(_top(index) - GAP)}V{pixels(_top(index))}", class_="wire")


def _named(box: _Box) -> str:
    return box.number or box.label


def _reach(layers: int) -> float:
    return min(MAX_ARC, 16 + ARC_STEP * layers)


def _arc(boxes: list[_Box], source: int, index: int, width: float) -> Markup:
    """Draw an arc from the lower half of one layer's right side to the upper half of another's."""
    right, out = MARGIN + width, _reach(index - source)
    start, end = _top(source) + BOX_HEIGHT * 0.7, _top(index) + BOX_HEIGHT * 0.3
    bend = f"C{pixels(right + out)} {pixels(start)} {pixels(right + out)} {pixels(end)}"
    path = f"M{pixels(right)} {pixels(start)}{bend} {pixels(right)} {pixels(end)}"
    return tag("path", tag("title", f"{_named(boxes[index])} reads {_named(boxes[source])}"), d=path, class_="skip")
