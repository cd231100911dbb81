"""A recurrent cell as SVG: a tree from the next state at the top down to the input and the last state."""

from collections import Counter
from dataclasses import dataclass, field

from child_trainer.architectures.architecture import INPUTS, Architecture
from child_trainer.architectures.drawing import node_label
from cluster.formatting import counted
from cluster.report.html.markup import Markup, pixels, tag

CHARACTER, LINE, PAD = 6.4, 15.0, 8.0
"""Width of a character, height of a line, and padding of a box."""
COLUMN_GAP, ROW_GAP, MARGIN = 10.0, 26.0, 6.0
"""Gaps between adjacent boxes and between a box and those that it reads; margin of the drawing."""
MIN_SCALE = 0.55
"""Lower bound for the scale of a drawing in a narrow window; below it, the drawing scrolls."""


@dataclass(slots=True)
class _Tree:
    """A box: its lines of text, the boxes that it reads, and the nodes that it stands for.

    `shared` names the boxes that it reads and that another reader's tree draws; `states` names the states of which it
    is the next value, written above its lines.
    """

    lines: list[str]
    names: list[str]
    reads: list["_Tree"]
    shared: list[str]
    states: list[str] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        return max(map(len, [*self.states, *self.lines])) * CHARACTER + 2 * PAD

    @property
    def height(self) -> float:
        return (len(self.states) + len(self.lines)) * LINE + PAD


def cell_svg(cell: Architecture) -> Markup:
    """Draw a cell; a node with two readers is drawn once and reached by a dashed line."""
    grower = _Grower(cell)
    trees = [tree for output in cell.outputs if (tree := grower.grow(output)) is not None]
    boxes = [box for tree in trees for box in _boxes(tree)]
    box_of = {name: box for box in boxes for name in box.names}
    states = dict(zip(("next h", "next c"), cell.outputs, strict=False))
    for state, name in states.items():
        box_of[name].states.append(state)
    left = MARGIN
    for tree in trees:
        left = _place(tree, left, MARGIN) + 3 * COLUMN_GAP
    width = left - 3 * COLUMN_GAP + MARGIN
    lines = [_wire(box, below, "wire") for box in boxes for below in box.reads]
    lines += [_wire(box, box_of[name], "wire again") for box in boxes for name in box.shared]
    description = "A recurrent cell: " + "; ".join(
        f"{state} is {' of '.join(box_of[n].lines)}" for state, n in states.items()
    )
    return tag(
        "svg",
        tag("title", f"A recurrent cell of {counted(len(boxes), 'step')}"),
        *lines,
        *(_draw(box) for box in boxes),
        viewBox=f"0 0 {pixels(width)} {pixels(max(b.y + b.height for b in boxes) + MARGIN)}",
        width=width,
        style=f"min-width: {pixels(MIN_SCALE * width)}px",
        class_="network cell",
        role="img",
        aria_label=description,
    )


class _Grower:
    def __init__(self, cell: Architecture) -> None:
        self.nodes = {n.name: n for n in cell.nodes}
        self.inputs = INPUTS[cell.kind]
        readers = Counter(source for n in cell.nodes for source in n.inputs)
        readers.update(cell.outputs)
        self.outputs = cell.outputs
        self.stops = {name for name, count in readers.items() if count > 1} | set(cell.outputs)
        self.drawn: set[str] = set()

    def grow(self, name: str) -> _Tree | None:
        """Return the tree below a node, or `None` if it is drawn already."""
        if name in self.drawn:
            return None
        lines: list[str] = []
        names: list[str] = []
        while name not in self.inputs:
            node = self.nodes[name]
            self.drawn.add(name)
            lines.append(node_label(node))
            names.append(name)
            following = node.inputs[0] if len(node.inputs) == 1 else None
            if following is None or following in self.stops - set(self.inputs):
                return self._with_reads(lines, names, node.inputs)
            name = following
        return _Tree([*lines, name], names or [name], [], [])

    def _with_reads(self, lines: list[str], names: list[str], inputs: tuple[str, ...]) -> _Tree:
        below = [(source, self.grow(source)) for source in inputs]
        shared = [source for source, tree in below if tree is None]
        trees = [tree for _, tree in below if tree is not None]
        plain = [tree for tree in trees if self._is_leaf(tree)]
        if plain and len(plain) == len(below):  # leaves are listed in the box of their reader
            lines.append(", ".join(" ".join(_brief(line) for line in tree.lines) for tree in plain))
            return _Tree(lines, names + [name for tree in plain for name in tree.names], [], [])
        return _Tree(lines, names, trees, shared)

    def _is_leaf(self, tree: _Tree) -> bool:
        """Return whether a tree is a leaf: it reads no box, and is no next state."""
        is_state = any(name in self.outputs for name in tree.names)
        return not tree.reads and not tree.shared and not is_state and len(tree.lines) <= 2


def _brief(line: str) -> str:
    return line.replace("linear, bias no", "linear")


def _boxes(tree: _Tree) -> list[_Tree]:
    return [tree, *(box for below in tree.reads for box in _boxes(below))]


def _place(tree: _Tree, left: float, top: float) -> float:
    """Place the tree right of `left` and below `top`; return its right edge."""
    right = left
    for below in tree.reads:
        right = _place(below, right, top + tree.height + ROW_GAP) + COLUMN_GAP
    if not tree.reads:
        tree.x, tree.y = left, top
        return left + tree.width
    first, last = tree.reads[0], tree.reads[-1]
    middle = (first.x + last.x + last.width) / 2
    tree.x, tree.y = max(left, middle - tree.width / 2), top
    return max(right - COLUMN_GAP, tree.x + tree.width)


def _wire(reader: _Tree, read: _Tree, kind: str) -> Markup:
    x0, y0, x1, y1 = read.x + read.width / 2, read.y, reader.x + reader.width / 2, reader.y + reader.height
    middle = (y0 + y1) / 2
    bend = f"C{pixels(x0)} {pixels(middle)} {pixels(x1)} {pixels(middle)}"
    return tag("path", d=f"M{pixels(x0)} {pixels(y0)}{bend} {pixels(x1)} {pixels(y1)}", class_=kind)


def _draw(box: _Tree) -> Markup:
    middle = box.x + box.width / 2
    lines = [(state, "state") for state in box.states] + [(line, "layer-label") for line in box.lines]
    return tag(
        "g",
        tag("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=5.0, class_="layer step"),
        *(
            tag("text", line, x=middle, y=box.y + PAD / 2 + (i + 0.75) * LINE, class_=f"{kind} middle")
            for i, (line, kind) in enumerate(lines)
        ),
    )
