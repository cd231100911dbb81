import random

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.cells.cell import Block, Cell, motif
from child_trainer.architectures.drawing import draw
from controller.spaces.genomes import GenomeSpace
from controller.spaces.hierarchical import PUBLISHED, HierarchicalSpace
from controller.zoo.published_cells import nasnet_a
from tests.golden import GOLDEN_LAYERS, architecture

GOLDEN_SIX = """\
                         0 1 2 3 4 5 6
1  conv 3x3, 36 filters  ●              image
2  conv 3x3, 48 filters  · ●            1
3  conv 3x3, 36 filters  · ● ●          1-2
4  conv 5x5, 36 filters  · ● ● ●        1-3
5  conv 3x7, 48 filters  · · · ● ●      3-4
6  conv 7x7, 48 filters  · · ● ● ● ●    2-5
   classifier            · · · · · · ●  6"""


def test_the_first_layers_of_the_golden_network():
    assert draw(architecture(GOLDEN_LAYERS[:6])) == GOLDEN_SIX


def test_each_connection_is_shown_as_a_dot_and_as_a_number():
    lines = draw(architecture()).splitlines()
    assert len(lines) == 2 + 15 + 1
    dots = [line.count("●") for line in lines[2:-1]]
    assert dots == [max(len(sources), 1) for *_, sources in GOLDEN_LAYERS]
    assert lines[2 + 12].endswith("1, 3, 6-12")


def random_layers(depth):
    choose = random.Random(0)
    sides, filters = (1, 3, 5, 7), (24, 36, 48, 64)
    return tuple(
        (
            choose.choice(sides),
            choose.choice(sides),
            choose.choice(filters),
            tuple(j for j in range(1, i + 1) if choose.random() < 0.5),
        )
        for i in range(depth)
    )


def test_a_triangle_that_does_not_fit_into_100_columns_is_left_out():
    for depth in (1, 6, 20, 40, 120):
        network = architecture(random_layers(depth), strides=(1, 2, *(1,) * depth)[:depth])
        lines = draw(network).splitlines()
        assert max(map(len, lines)) <= 100
        assert sum(line.lstrip()[0].isdigit() and "conv" in line for line in lines) == depth
        assert any("●" in line for line in lines) == (depth <= 40)


def test_where_room_is_scarce_the_middle_of_a_deep_network_is_left_out():
    for depth, left in ((40, 40), (120, 39)):
        network = architecture(random_layers(depth))
        all_lines, lines = draw(network).splitlines(), draw(network, whole=False).splitlines()
        assert sum(line in lines for line in all_lines if "conv" in line) == left
        assert lines[-1] == all_lines[-1]
    assert lines[32] == "...  81 more layers"


def test_other_operations_show_attributes_that_differ_from_the_default():
    nodes = (
        node("a", "conv", "image", height=3, width=3, filters=8, order="relu-conv-bn"),
        node("b", "max_pool", "a", height=2, width=2, stride_height=2, stride_width=1),
        node("s", "shift", "b"),
        node("j", "concat", ("b", "s")),
        node("k", "concat", ("s", "b")),
        node("u", "add", ("k", "k")),
        node("v", "subtract", ("u", "k")),
        node("p", "global_avg_pool", "j"),
        node("q", "flatten", "v"),
        node("f", "concat", ("p", "q")),
        node("g", "linear", "f", units=10, bias=False),
    )
    lines = draw(Architecture("feedforward", nodes, ("g",))).splitlines()[1:]
    plain = [" ".join(line.replace("●", "").replace("·", "").split()) for line in lines if "linear" in line or line]
    assert plain[0] == "1 conv 3x3, 8 filters, order relu-conv-bn image"
    assert plain[1] == "2 max_pool 2x2, stride 2x1 1"
    assert "4 concat 2-3" in plain[3]  # Read by an `add`, so it stays in sight.
    assert plain[5] == "6 subtract 5, 4"  # In its own order.
    assert plain[6] == "7 global_avg_pool 2-3"  # Its concat is folded into it.
    assert plain[8] == "9 linear, units 10, bias no 7-8"
    assert plain[9] == "classifier 9"


def test_a_cell_is_a_tree_and_a_shared_node_is_drawn_once():
    nodes = (
        node("w", "linear", "x", bias=False),
        node("u", "linear", "h", bias=False),
        node("pre", "multiply", ("w", "u")),
        node("act", "relu", "pre"),
        node("in", "add", ("act", "c")),
        node("out", "sigmoid", "in"),
        node("dead", "tanh", "in"),
    )
    assert draw(Architecture("recurrent", nodes, ("out", "pre"))).splitlines() == [
        "next h = sigmoid of add",
        "├─ relu of multiply [pre]",
        "│  ├─ linear (bias no) of x",
        "│  └─ linear (bias no) of h",
        "└─ c",
        "next c = [pre]",
    ]


CELL = """\
block 1 = sep 5x5 (newer) + sep 7x7 (older)
block 2 = max 3x3 (newer) + sep 7x7 (older)
block 3 = avg 3x3 (newer) + sep 5x5 (older)
block 4 = block 2 + avg 3x3 (block 1)
block 5 = sep 3x3 (block 1) + max 3x3 (newer)
output  = concat (block 2, block 3, block 4, block 5)"""


def test_a_cell_of_blocks_has_a_line_for_each():
    assert draw(motif(nasnet_a().reduction)) == CELL


def test_a_block_that_concatenates_says_so():
    cell = Cell.of([Block((0, 1), ("identity", "conv_1x1"), "concat")])
    assert draw(motif(cell)).splitlines()[0] == "block 1 = concat (newer, conv 1x1 (older))"


MOTIF = """\
node 2 = max pool 3x3 (input)
node 3 = concat (conv 1x1 (input), depthwise 3x3 (node 2))
node 4 = concat (separable 3x3 (input), conv 1x1 (node 2), max pool 3x3 (node 3))
output = conv 1x1 (node 4)"""


def test_a_motif_has_a_single_input():
    space = HierarchicalSpace()
    motifs = space.motifs(space.tokens_of(PUBLISHED))
    assert draw(motifs["motif 1"]) == MOTIF
    assert draw(motifs["cell"]).splitlines()[-1] == "output = node 5"


NEURON = """\
                            0 1 2 3 4
1  split, parts 1, index 0  ●          input
2  scale, by 0              · ●        1
3  add                      · · ●      2
4  logistic, slope 4.9      · · · ●    3
   output                   · · · · ●  4"""


def test_a_network_with_weights_as_data_has_no_image_and_no_classifier():
    space = GenomeSpace(inputs=1, bias=False)
    assert draw(space.decode(())) == NEURON
