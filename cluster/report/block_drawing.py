"""A cell of blocks as SVG, as the papers draw it: inputs at the bottom, output at the top, a frame for each block."""

from collections.abc import Mapping
from dataclasses import dataclass

from child_trainer.architectures.architecture import Architecture, Node
from child_trainer.architectures.drawing import draw, is_block, node_label, shown_names
from cluster.report.html.markup import Markup, pixels, tag

CHARACTER, PAD = 6.4, 8.0
"""Width of a character and padding of a box."""
BOX_HEIGHT, LABEL_HEIGHT = 22.0, 18.0
"""Height of an operation's box and of the line above the operations of a block."""
INNER_GAP, COLUMN_GAP, ROW_GAP, MARGIN = 8.0, 22.0, 34.0, 6.0
"""Gaps between the boxes of a block, between blocks and between rows; margin of the drawing."""
SIGNS = {"add": "+", "concat": "concat", "identity": "output"}
"""What is written above the operations of a block, or in the box of the output."""


@dataclass(slots=True)
class _Side:
    """One operation of a block: its label, and the name of what it reads."""

    label: str
    source: str
    x: float = 0.0

    @property
    def width(self) -> float:
        return max(4, len(self.label)) * CHARACTER + 2 * PAD


@dataclass(slots=True)
class _Block:
    """A frame with the operations of a block, or an input or the output, which have none."""

    name: str
    label: str
    sides: list[_Side]
    level: int
    x: float = 0.0
    y: float = 0.0

    @property
    def inner_width(self) -> float:
        return sum(side.width for side in self.sides) + INNER_GAP * (len(self.sides) + 1)

    @property
    def width(self) -> float:
        return max(self.inner_width if self.sides else 0.0, len(self.label) * CHARACTER + 2 * PAD, 60.0)

    @property
    def height(self) -> float:
        return LABEL_HEIGHT + BOX_HEIGHT + INNER_GAP if self.sides else BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class Drawing:
    """The elements of a picture, and its size in pixels."""

    elements: tuple[Markup, ...]
    width: float
    height: float


def blocks_svg(cell: Architecture) -> Markup:
    """Draw a cell of kind `cell`; the style sheet colours it by class."""
    drawing = draw_blocks(cell)
    return tag(
        "svg",
        *drawing.elements,
        viewBox=f"0 0 {pixels(drawing.width)} {pixels(drawing.height)}",
        width=drawing.width,
        class_="network blocks",
        role="img",
        aria_label=_description(cell),
    )


def draw_blocks(cell: Architecture) -> Drawing:
    """Return the picture of a cell without the element around it."""
    nodes = {n.name: n for n in cell.nodes}
    blocks = _blocks(cell, nodes)
    output = blocks.pop(cell.outputs[0])
    rows: dict[int, list[_Block]] = {}
    for block in blocks.values():
        rows.setdefault(block.level, []).append(block)
    width = max(sum(b.width for b in row) + COLUMN_GAP * (len(row) - 1) for row in rows.values()) + 2 * MARGIN
    top = MARGIN + BOX_HEIGHT + ROW_GAP
    for level in sorted(rows, reverse=True):
        _place(rows[level], top, width, gap=COLUMN_GAP if level else width / 3)
        top += max(block.height for block in rows[level]) + ROW_GAP
    output.x, output.y = MARGIN, MARGIN
    wires = [
        _wire(blocks[side.source], side.x + side.width / 2, block) for block in blocks.values() for side in block.sides
    ]
    wires += _output_wires(blocks, output, width - 2 * MARGIN)
    boxes = [_draw(block, block.width) for block in blocks.values()]
    title = tag("title", f"A cell of {len(blocks) - len(rows[0])} blocks")
    top_box = _draw(_Block(output.name, output.label, [], 0, MARGIN, MARGIN), width - 2 * MARGIN)
    return Drawing((title, *wires, *boxes, top_box), width, top - ROW_GAP + MARGIN)


def _blocks(cell: Architecture, nodes: Mapping[str, Node]) -> dict[str, _Block]:
    """Return the inputs, the blocks and the output by name, each with its level above the inputs."""
    blocks = {name: _Block(name, shown, [], 0) for name, shown in shown_names(cell).items()}
    for n in cell.ordered:
        if not is_block(n, cell):
            continue
        sides = [_side(source, nodes, blocks) for source in n.inputs]
        level = 1 + max(blocks[side.source].level for side in sides)
        sign = SIGNS.get(n.op) or node_label(n)
        label = sign if n.name in cell.outputs else f"{n.name}: {sign}"
        blocks[n.name] = _Block(n.name, label, sides, level)
    return blocks


def _side(name: str, nodes: Mapping[str, Node], blocks: Mapping[str, _Block]) -> _Side:
    labels: list[str] = []
    while name not in blocks:
        labels.append(node_label(nodes[name]))
        name = nodes[name].inputs[0]
    return _Side(", ".join(labels) or "identity", name)


def _place(row: list[_Block], top: float, width: float, *, gap: float) -> None:
    """Place the blocks of a row side by side in the middle."""
    left = (width - sum(block.width for block in row) - gap * (len(row) - 1)) / 2
    for block in row:
        block.x, block.y = left, top
        inner = left + (block.width - block.inner_width) / 2 + INNER_GAP
        for side in block.sides:
            side.x = inner
            inner += side.width + INNER_GAP
        left += block.width + gap


def _wire(source: _Block, x: float, reader: _Block) -> Markup:
    """Draw the wire from a block's top to the lower edge of an operation."""
    return _curve(source, x, reader.y + LABEL_HEIGHT + BOX_HEIGHT)


def _output_wires(blocks: Mapping[str, _Block], output: _Block, width: float) -> list[Markup]:
    """Draw the wires to the output, each to a place of its own, in the order of what they come from."""
    sources = sorted((blocks[side.source] for side in output.sides), key=lambda block: block.x + block.width / 2)
    return [
        _curve(source, MARGIN + width * (place + 0.5) / len(sources), MARGIN + BOX_HEIGHT)
        for place, source in enumerate(sources)
    ]


def _curve(source: _Block, x: float, y: float) -> Markup:
    """Draw a wire; one from an input has a colour of its own, as it may pass behind blocks."""
    x0, y0 = source.x + source.width / 2, source.y
    middle = (y0 + y) / 2
    bend = f"C{pixels(x0)} {pixels(middle)} {pixels(x)} {pixels(middle)}"
    kind = "wire" if source.sides else f"wire {source.name}"
    return tag("path", d=f"M{pixels(x0)} {pixels(y0)}{bend} {pixels(x)} {pixels(y)}", class_=kind)


def _draw(block: _Block, width: float) -> Markup:
    middle, kind = block.x + width / 2, "layer frame" if block.sides else f"layer end {block.name}"
    frame = tag("rect", x=block.x, y=block.y, width=width, height=block.height, rx=6.0, class_=kind)
    label = tag("text", block.label, x=middle, y=block.y + 14.5, class_="layer-label middle")
    return tag("g", frame, label, *(_draw_side(side, block.y + LABEL_HEIGHT) for side in block.sides))


def _draw_side(side: _Side, top: float) -> Markup:
    kind = "layer other" if side.label.split()[0] in ("avg", "max", "identity") else "layer"
    return tag(
        "g",
        tag("rect", x=side.x, y=top, width=side.width, height=BOX_HEIGHT, rx=5.0, class_=kind),
        tag("text", side.label, x=side.x + side.width / 2, y=top + 15.0, class_="layer-label middle"),
    )


def _description(cell: Architecture) -> str:
    return "A cell: " + "; ".join(draw(cell).splitlines())
