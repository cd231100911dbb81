"""An architecture as text for a terminal. Standard library only.

A feed-forward network is a table with one line per layer and a triangle of connections; a recurrent cell is a tree; a
cell of blocks has a line for each block.
"""

from collections import Counter
from dataclasses import dataclass

from child_trainer.architectures.architecture import INPUTS, Architecture, Node
from child_trainer.architectures.operation_types import OPERATIONS

WIDTH = 100
"""Maximum columns of a drawing. A network whose triangle does not fit is drawn without it."""

FIRST_ROWS, LAST_ROWS = 32, 8
"""Lines that are kept at the start and at the end of a network that is too deep to be drawn whole."""

ON, OFF = "●", "·"


def draw(architecture: Architecture, *, whole: bool = True) -> str:
    """Draw the part of the network on which its outputs depend, in lines of at most 100 columns.

    An auxiliary head, which serves training alone, is left out.
    Unless `whole`, the middle of a network too deep for a triangle is left out; a line tells how many layers.
    """
    live = architecture.pruned()
    match live.kind:
        case "feedforward":
            return _draw_table(layer_rows(live), whole, ends_of(live)[0])
        case "recurrent":
            return _draw_cell(live)
        case "cell":
            return _draw_blocks(live)


# --- Feed-forward networks: a table and a triangle ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        number: the layer's number, from 1; empty for the last row.
        label: what the layer does.
        reads: numbers of the layers that it reads; 0 is the image.
    """

    number: str
    label: str
    reads: tuple[int, ...]


def ends_of(architecture: Architecture) -> tuple[str, str]:
    """Return what a network is drawn between: an image and a classifier, unless its weights are data (spec §15)."""
    has_weights = any(n.op == "scale" for n in architecture.nodes)
    return ("input", "output") if has_weights else ("image", "classifier")


def layer_rows(architecture: Architecture) -> list[Row]:
    """Return one row per layer, and the classifier's or the output's last; an auxiliary head's layers are left out.

    A `concat` has no row where each of its readers reads nothing else: its sources are then shown as theirs.
    """
    architecture = architecture.without_auxiliary()
    by_name = {n.name: n for n in architecture.nodes}
    # Inside an `add` a concat must stay visible: add(concat(a, b), c) differs from add(a, b, c).
    among_others = {source for n in architecture.nodes if len(n.inputs) > 1 for source in n.inputs}
    folded = {n.name for n in architecture.nodes if n.op == "concat" and n.name not in among_others}
    numbers = {"image": 0}
    for n in architecture.ordered:
        if n.name not in folded:
            numbers[n.name] = len(numbers)

    def reads(source: str) -> tuple[int, ...]:
        if source not in folded:
            return (numbers[source],)
        return tuple(sorted(number for s in by_name[source].inputs for number in reads(s)))

    def all_reads(n: Node) -> tuple[int, ...]:
        numbers_read = [number for source in n.inputs for number in reads(source)]
        return tuple(sorted(numbers_read) if OPERATIONS[n.op].commutative else numbers_read)

    layers = [n for n in architecture.ordered if n.name not in folded]
    rows = [Row(str(numbers[n.name]), node_label(n), all_reads(n)) for n in layers]
    return [*rows, Row("", ends_of(architecture)[1], reads(architecture.outputs[0]))]


def node_label(n: Node) -> str:
    """Return a node's operation, window and filters, and every other attribute that differs from its default."""
    if n.op == "part":
        return str(n.attribute("label"))
    values = {name: n.attribute(name) for name in OPERATIONS[n.op].attributes}
    text = [n.op]
    if "height" in values and "width" in values and n.op != "shift":
        text = [f"{n.op} {values.pop('height')}x{values.pop('width')}"]
    if "filters" in values:
        text.append(f"{values.pop('filters')} filters")
    if "stride_height" in values:
        down, right = values.pop("stride_height"), values.pop("stride_width")
        if (down, right) != (1, 1):
            text.append(f"stride {down}" if down == right else f"stride {down}x{right}")
    defaults = {name: attribute.default for name, attribute in OPERATIONS[n.op].attributes.items()}
    text += [f"{name} {_plain(value)}" for name, value in values.items() if value != defaults[name]]
    return ", ".join(text)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    # A weight that is data has more digits than people read.
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _draw_table(rows: list[Row], whole: bool, first: str) -> str:
    columns = len(rows)
    label_width = max(len(row.label) for row in rows)
    number_width = len(str(columns))
    margin = number_width + 2 + label_width + 2
    gap = " " if margin + 2 * columns <= WIDTH * 3 // 4 else ""
    has_triangle = margin + columns * len(gap + ON) <= WIDTH
    lines = [" " * margin + line for line in _ruler(columns, gap)] if has_triangle else []
    for index, row in enumerate(rows):
        cells = gap.join(ON if column in row.reads else OFF for column in range(index + 1)) if has_triangle else ""
        triangle = cells.ljust(columns * len(gap + ON) + 1) if has_triangle else ""
        left = f"{row.number:>{number_width}}  {row.label:{label_width}}  {triangle}"
        lines.append(left + _shortened(_ranges(row.reads, first), WIDTH - len(left)))
    hidden = len(lines) - FIRST_ROWS - LAST_ROWS
    if not (whole or has_triangle) and hidden > 1:
        lines[FIRST_ROWS:-LAST_ROWS] = [f"{'...':>{number_width}}  {hidden} more layers"]
    return "\n".join(line.rstrip() for line in lines)


def _ruler(columns: int, gap: str) -> list[str]:
    """Return the lines above the triangle: the layers' numbers, read downwards; column 0 is the image."""
    tens = gap.join(str(column // 10) if column % 10 == 0 and column else " " for column in range(columns))
    units = gap.join(str(column % 10) for column in range(columns))
    return [tens, units] if tens.strip() else [units]


def _ranges(numbers: tuple[int, ...], zero: str) -> str:
    """Return numbers as ranges, with a name for 0: `image, 2, 4-6` for (0, 2, 4, 5, 6)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][0] and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(zero if not last else f"{first}-{last}" if first < last else f"{first}" for first, last in runs)


def _shortened(text: str, width: int) -> str:
    """Return the text, cut after a whole item if it is too long: the triangle shows the rest."""
    if len(text) <= width:
        return text
    return text[: max(width - 5, 0)].rpartition(",")[0] + ", ..."


# --- Recurrent cells: a tree for each next state -----------------------------------------------------------------


def _draw_cell(architecture: Architecture) -> str:
    readers = Counter(source for n in architecture.nodes for source in n.inputs)
    readers.update(architecture.outputs)
    tree = _Tree(architecture, {n.name for n in architecture.nodes if readers[n.name] > 1})
    for state, output in zip(("h", "c"), architecture.outputs, strict=False):
        tree.add(output, f"next {state} = ", "")
    return "\n".join(tree.lines)


class _Tree:
    """Lines of a tree; a node with several readers is drawn once and then referred to by its name in brackets."""

    def __init__(self, architecture: Architecture, shared: set[str]) -> None:
        self.nodes = {n.name: n for n in architecture.nodes}
        self.inputs = INPUTS[architecture.kind]
        self.shared = shared
        self.drawn: set[str] = set()
        self.lines: list[str] = []

    def add(self, name: str, lead: str, indent: str) -> None:
        """Append a line with `lead` and the node's chain of one-input operations, and below it what the chain reads."""
        text, sources = self._chain(name)
        self.lines.append(lead + text)
        for position, source in enumerate(sources):
            last = position == len(sources) - 1
            self.add(source, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))

    def _chain(self, name: str) -> tuple[str, tuple[str, ...]]:
        words: list[str] = []
        while True:
            if name in self.inputs:
                return " of ".join([*words, name]), ()
            if name in self.drawn:
                return " of ".join([*words, f"[{name}]"]), ()
            n = self.nodes[name]
            mark = ""
            if name in self.shared:
                self.drawn.add(name)
                mark = f" [{name}]"
            operation, _, settings = node_label(n).partition(", ")
            words.append(operation + (f" ({settings})" if settings else "") + mark)
            if len(n.inputs) != 1:
                return " of ".join(words), n.inputs
            name = n.inputs[0]


# --- Cells of blocks: a line for each block ----------------------------------------------------------------------


def shown_names(cell: Architecture) -> dict[str, str]:
    """Return what the inputs that a cell reads are called in a drawing: a single one is simply the input."""
    read = {source for n in cell.nodes for source in n.inputs} & set(INPUTS[cell.kind])
    return {name: name if len(read) > 1 else "input" for name in INPUTS[cell.kind] if name in read}


def is_block(n: Node, cell: Architecture) -> bool:
    """Return whether a node of a cell is drawn on its own; the others are operations on what a block reads."""
    return n.op in ("add", "concat") or len(n.inputs) > 1 or n.name in cell.outputs


def _draw_blocks(architecture: Architecture) -> str:
    """Return a line for each block, such as `block 1 = sep 5x5 (newer) + older`."""
    nodes, inputs = {n.name: n for n in architecture.nodes}, shown_names(architecture)
    blocks = [n for n in architecture.ordered if is_block(n, architecture)]
    named = {n.name for n in blocks}

    def text(name: str) -> str:
        if name not in nodes or name in named:
            return inputs.get(name, name)
        return f"{node_label(nodes[name])} ({text(nodes[name].inputs[0])})"

    width = max(len(n.name) for n in blocks)
    lines = []
    for n in blocks:
        sides = [text(source) for source in n.inputs]
        sums = n.op == "add" or (n.op in ("concat", "identity") and len(sides) == 1)
        value = " + ".join(sides) if sums else f"{node_label(n)} ({', '.join(sides)})"
        lines.append(f"{n.name:{width}} = {value}")
    return "\n".join(lines)
