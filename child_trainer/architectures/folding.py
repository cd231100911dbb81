"""A network of cells, folded into rows of equal cells: `3 x normal cell, 32 filters at 16x16`. Standard library only.

The names of the nodes tell the parts: the nodes `normal3.1a` and `normal3.output` are of the part `normal3`.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture, Node

Size = tuple[int, int]

PART = re.compile(r"((?:stage\d+\.)?[^.\d]+)\d*\.")
"""The part that a node's name begins with; a part of a numbered stage is named after the stage, too."""

WORDS: Mapping[str, str] = MappingProxyType(
    {"normal": "normal cell", "reduction": "reduction cell", "reduce": "reduction", "auxiliary": "auxiliary head"}
)
"""What the parts are called, where it is not by their names."""


@dataclass(frozen=True, slots=True)
class Row:
    """Equal parts of a network, one behind the other.

    Attributes:
        count: how many there are.
        name: what they are.
        filters: the filters of a part; `None` if it has no convolution.
        size: height and width of each part's output; `None` if they are not known, or it has neither.
    """

    count: int
    name: str
    filters: int | None
    size: Size | None

    def text(self) -> str:
        """Return the row in words."""
        what = f"{self.count} x {self.name}" if self.count > 1 else self.name
        filters = f", {self.filters} filter{'s' if self.filters > 1 else ''}" if self.filters else ""
        return what + filters + (f" at {self.size[0]}x{self.size[1]}" if self.size else "")


def folded(architecture: Architecture, image: Size | None = None) -> list[Row]:
    """Return the network as rows of equal parts; none if it is not made of parts.

    Args:
        architecture: of kind `feedforward`.
        image: height and width of an image, if known.
    """
    live = architecture.pruned()
    sizes = _sizes(live, image)
    parts: dict[str, list[Node]] = {}
    for n in live.ordered:
        parts.setdefault(_part(n.name), []).append(n)
    if live.kind != "feedforward" or len(parts) * 3 > len(live.nodes):
        return []
    rows: list[Row] = []
    for name, nodes in parts.items():
        word = name.rpartition(".")[2].rstrip("0123456789")
        row = Row(1, WORDS.get(word, word), _filters(nodes), sizes.get(nodes[-1].name))
        if rows and replace(rows[-1], count=1) == row:
            rows[-1] = replace(rows[-1], count=rows[-1].count + 1)
        else:
            rows.append(row)
    return [row for row in rows if row.filters or row.count > 1]


def _part(name: str) -> str:
    found = PART.match(name)
    return name if found is None else found.group(0).rstrip(".")


def _filters(nodes: list[Node]) -> int | None:
    """Return the filters of the convolution that a cell reads its newer input by, or else those that most have.

    Most convolutions of a cell may be narrower: the halves of a factorised reduction, or the middle of bottlenecks.
    """
    filters = {n.name: int(n.attribute("filters")) for n in nodes if n.op == "conv"}
    if width := next((count for name, count in filters.items() if name.endswith(".newer")), None):
        return width
    return Counter(filters.values()).most_common(1)[0][0] if filters else None


def _sizes(architecture: Architecture, image: Size | None) -> dict[str, Size]:
    """Return the height and the width of each value that has them; none if the image's are not known."""
    sizes: dict[str, Size] = {} if image is None else {"image": image}
    for n in architecture.ordered:
        read = sizes.get(n.inputs[0])
        if read is None or n.op in ("flatten", "global_avg_pool", "linear"):
            continue
        given = dict(n.attributes)
        if given.get("padding") == "valid":
            read = read[0] - int(given["height"]) + 1, read[1] - int(given["width"]) + 1
        strides = int(given.get("stride_height", 1)), int(given.get("stride_width", 1))
        sizes[n.name] = (-(-read[0] // strides[0]), -(-read[1] // strides[1]))
    return sizes
