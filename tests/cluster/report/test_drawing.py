"""Architectures as SVG: the paper's own network and cell are the fixtures."""

import re

import pytest

from child_trainer.architectures.architecture import Architecture, Node, node
from cluster.formatting import counted
from cluster.report.drawing import FIRST_LAYERS, LAST_LAYERS, MAX_LAYERS, architecture_svg
from cluster.report.html.markup import tag
from tests.cluster.report.well_formed import Read, read_page
from tests.golden import GOLDEN_LAYERS, architecture, chained, densely_connected

LEAVES = (
    ("add", "sigmoid"), ("add", "relu"), ("add", "sigmoid"), ("multiply", "relu"),
    ("add", "tanh"), ("add", "sigmoid"), ("add", "tanh"), ("add", "sigmoid"),
)  # fmt: skip
"""The paper's cell of base 8: how each leaf joins what it makes of x and h, and its activation."""

INNER = {
    8: ("multiply", "tanh", 0, 1), 9: ("add", "tanh", 2, 3), 10: ("multiply", "tanh", 4, 5),
    11: ("add", "sigmoid", 6, 7), 12: ("multiply", "identity", 8, 9), 13: ("add", "tanh", 10, 11),
    14: ("multiply", "tanh", 12, 13),
}  # fmt: skip
"""Its other nodes and what they read; c is injected at 8 by (add, tanh), and the next c is 12 before its activation."""


def golden_cell() -> Architecture:
    nodes: list[Node] = []
    for i, (join, act) in enumerate(LEAVES):
        nodes += [node(f"w{i}", "linear", "x", bias=False), node(f"u{i}", "linear", "h", bias=False)]
        nodes += [node(f"pre{i}", join, (f"w{i}", f"u{i}")), node(f"a{i}", act, f"pre{i}")]
    for i, (join, act, left, right) in INNER.items():
        sources = ["injected" if source == 8 else f"a{source}" for source in (left, right)]
        nodes += [node(f"pre{i}", join, sources), node(f"a{i}", act, f"pre{i}")]
        if i == 8:
            nodes += [node("mixed", "add", ("a8", "c")), node("injected", "tanh", "mixed")]
    return Architecture("recurrent", tuple(nodes), ("a14", "pre12"))


def drawn(network: Architecture) -> Read:
    return read_page(f"<!DOCTYPE html>\n{tag('body', architecture_svg(network))}")


@pytest.mark.parametrize("layers", [GOLDEN_LAYERS, densely_connected(), chained()], ids=["golden", "dense", "chain"])
def test_layers_and_connections_of_the_papers_network_are_drawn_once(layers) -> None:
    found = drawn(architecture(layers))
    for number, (height, width, filters, _) in enumerate(layers, start=1):
        assert f"{number} conv {height}x{width}, {filters} filters" in found.words
    assert len(found.classed("layer")) == 15 + 2
    read = {source for *_, sources in layers for source in sources}
    loose = [number for number in range(1, 16) if number not in read]
    connections = [(s, n) for n, (*_, sources) in enumerate(layers, start=1) for s in sources or (0,)]
    connections += [(source, 16) for source in loose]
    skips = [(source, number) for source, number in connections if number - source > 1]
    assert len(found.classed("skip")) == len(skips)
    assert len(found.classed("wire")) == len(connections) - len(skips)
    for source, number in skips:
        assert f"{number if number < 16 else 'classifier'} reads {source or 'image'}" in found.words
    label = found.named("svg")[0]["aria-label"] or ""
    assert "2 conv 3x3, 48 filters reads 1" in label


def test_a_drawing_lies_within_its_box() -> None:
    svg = architecture_svg(architecture(densely_connected()))
    found = drawn(architecture(densely_connected()))
    width, height = map(float, (found.named("svg")[0]["viewbox"] or "").split()[2:])
    for rect in found.named("rect"):
        assert float(rect["x"] or 0) + float(rect["width"] or 0) <= width
        assert float(rect["y"] or 0) + float(rect["height"] or 0) <= height
    # The curve of an arc reaches three quarters of the way to where its corners are.
    corners = [float(x) for x in re.findall(r"C([\d.]+) ", svg)]
    right = float(found.named("rect")[0]["x"] or 0) + float(found.named("rect")[0]["width"] or 0)
    assert max(right + 0.75 * (corner - right) for corner in corners) <= width


def test_the_papers_cell_is_one_tree_with_both_next_states() -> None:
    found = drawn(golden_cell())
    boxes = found.classed("step")
    # 15 nodes, of which 12 is two (its multiply is the next c), the injection, and c.
    assert len(boxes) == 15 + 1 + 1 + 1
    assert len(found.classed("wire")) == len(boxes) - 1  # a tree
    assert not found.classed("again")
    assert found.words.count("linear x, linear h") == 8
    assert len(found.classed("state")) == 2
    label = found.named("svg")[0]["aria-label"] or ""
    assert label == "A recurrent cell: next h is tanh of multiply; next c is multiply"
    places = [(b["x"], b["y"]) for b in boxes]
    assert len(set(places)) == len(places)


def overlap(a: dict[str, str | None], b: dict[str, str | None]) -> bool:
    def ends(box: dict[str, str | None], side: str, length: str) -> tuple[float, float]:
        return float(box[side] or 0), float(box[side] or 0) + float(box[length] or 0)

    return all(
        ends(a, *axis)[0] < ends(b, *axis)[1] and ends(b, *axis)[0] < ends(a, *axis)[1]
        for axis in (("x", "width"), ("y", "height"))
    )


def test_no_two_boxes_of_a_cell_lie_on_each_other() -> None:
    boxes = drawn(golden_cell()).classed("step")
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_node_read_twice_is_drawn_once() -> None:
    nodes = (
        node("w", "linear", "x", bias=False),
        node("act", "tanh", "w"),
        node("gate", "sigmoid", "act"),
        node("out", "multiply", ("act", "gate")),
        node("dead", "relu", "w"),
    )
    found = drawn(Architecture("recurrent", nodes, ("out", "c")))
    assert len(found.classed("again")) == 1
    assert found.words.count("tanh") == 1
    assert "relu" not in found.words
    assert (found.named("svg")[0]["aria-label"] or "").endswith("next c is c")


def test_a_next_state_is_in_its_own_box_not_in_its_readers() -> None:
    nodes = (
        node("w", "linear", "x", bias=False),
        node("u", "linear", "h", bias=False),
        node("out", "add", ("w", "u")),
    )
    found = drawn(Architecture("recurrent", nodes, ("out", "u")))
    assert len(found.classed("step")) == 3  # else the linear layers are named in the box of the sum
    boxes = {box["x"]: float(box["x"] or 0) + float(box["width"] or 0) / 2 for box in found.classed("step")}
    assert all(float(state["x"] or 0) in boxes.values() for state in found.classed("state"))
    assert "next c linear, bias no h" in found.words


@pytest.mark.parametrize(("layers", "shown"), [(MAX_LAYERS, MAX_LAYERS), (MAX_LAYERS + 1, 20), (200, 20)])
def test_the_middle_of_a_very_deep_network_is_one_box(layers: int, shown: int) -> None:
    """Layers of which each reads the two before it."""
    names = ["image", *(f"n{number}" for number in range(1, layers + 1))]
    nodes = [node("n1", "relu", "image")]
    nodes += [node(names[i], "add", (names[i - 2], names[i - 1])) for i in range(2, layers + 1)]
    found = drawn(Architecture("feedforward", tuple(nodes), (names[-1],)))
    hidden = layers - shown
    assert len(found.classed("layer")) == shown + 2 + (hidden > 0)
    assert (f"{counted(hidden, 'layer')} more" in found.words) == (hidden > 0)
    numbers = [*range(1, FIRST_LAYERS + 1), *range(layers - LAST_LAYERS + 1, layers + 1)]
    for number in numbers if hidden else range(1, layers + 1):
        assert re.search(rf"\b{number} (add|relu)", found.words), number
    # Each box reads the two before it, but for the image, layer 1, the classifier and what comes after the middle.
    boxes = len(found.classed("layer"))
    assert len(found.classed("wire")) == boxes - 1
    assert len(found.classed("skip")) == boxes - 3 - (hidden > 0)
    assert found.words.startswith(f"A network of {layers} layers with {layers - 1} skip connections")


def test_pooling_layers_have_their_own_style() -> None:
    nodes = (
        node("a", "conv", "image", height=3, width=3, filters=8),
        node("b", "max_pool", "a", height=2, width=2, stride_height=2, stride_width=2),
    )
    found = drawn(Architecture("feedforward", nodes, ("b",)))
    assert [a["class"] for a in found.classed("layer")] == ["layer end", "layer conv", "layer max-pool", "layer end"]


def test_strides_are_shown_and_boxes_fit_their_labels() -> None:
    plain, strided = drawn(architecture()), drawn(architecture(strides=(2,) * 15))
    assert strided.words.count("filters, stride 2") == 15
    widths = [float(found.named("rect")[0]["width"] or 0) for found in (plain, strided)]
    assert widths[1] > widths[0]
