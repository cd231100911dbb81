"""The published golden network of spec §1.7 as a table and as an architecture, and the published cell as its tokens."""

from child_trainer.architectures.architecture import Architecture, Node, node

Layer = tuple[int, int, int, tuple[int, ...]]
"""Filter height, filter width, filters, and the 1-based layers that are read (none: the image)."""

GOLDEN_LAYERS: tuple[Layer, ...] = (
    (3, 3, 36, ()),
    (3, 3, 48, (1,)),
    (3, 3, 36, (1, 2)),
    (5, 5, 36, (1, 2, 3)),
    (3, 7, 48, (3, 4)),
    (7, 7, 48, (2, 3, 4, 5)),
    (7, 7, 48, (2, 3, 4, 5, 6)),
    (7, 3, 36, (1, 6, 7)),
    (7, 1, 36, (1, 5, 6, 8)),
    (7, 7, 36, (1, 3, 4, 5, 6, 7, 8, 9)),
    (5, 7, 36, (1, 2, 5, 6, 7, 8, 9, 10)),
    (7, 7, 48, (1, 2, 3, 4, 6, 11)),
    (7, 5, 48, (1, 3, 6, 7, 8, 9, 10, 11, 12)),
    (7, 5, 48, (3, 7, 12, 13)),
    (7, 5, 48, (6, 7, 11, 12, 13, 14)),
)


def densely_connected(layers: tuple[Layer, ...] = GOLDEN_LAYERS) -> tuple[Layer, ...]:
    """The same filters with every possible skip connection (the published ablation at 5.56 %)."""
    return tuple((h, w, f, tuple(range(1, i + 1))) for i, (h, w, f, _) in enumerate(layers))


def chained(layers: tuple[Layer, ...] = GOLDEN_LAYERS) -> tuple[Layer, ...]:
    """The same filters with each layer reading only the one before it (the published ablation at 7.97 %)."""
    return tuple((h, w, f, (i,) if i else ()) for i, (h, w, f, _) in enumerate(layers))


def architecture(layers: tuple[Layer, ...] = GOLDEN_LAYERS, strides: tuple[int, ...] | None = None) -> Architecture:
    """The network of a table by rules R1 to R3 of spec §1.3; `strides`, one a layer, default to 1."""
    nodes: list[Node] = []

    def gather(name: str, sources: tuple[int, ...]) -> str:
        if len(sources) == 1:
            return f"layer{sources[0]}"
        nodes.append(node(name, "concat", [f"layer{s}" for s in sources], pad=True))
        return name

    for i, (height, width, filters, sources) in enumerate(layers, start=1):
        source = gather(f"join{i}", sources) if sources else "image"
        stride = strides[i - 1] if strides else 1
        window = {"height": height, "width": width, "stride_height": stride, "stride_width": stride}
        nodes.append(node(f"layer{i}", "conv", source, filters=filters, **window))
    read = {s for *_, sources in layers for s in sources}
    loose = tuple(i for i in range(1, len(layers) + 1) if i not in read)
    output = gather("features", loose)
    return Architecture("feedforward", tuple(nodes), (output,))


GOLDEN_CELL = (
    *(1, 2), *(1, 3), *(1, 2), *(0, 3), *(1, 1), *(1, 2), *(1, 1), *(1, 2),
    *(0, 1), *(1, 1), *(0, 1), *(1, 2),
    *(0, 0), *(1, 1),
    *(0, 1),
    *(1, 1),
    *(12, 8),
)  # fmt: skip
"""The published cell of spec §2.2 as tokens of the recurrent space of base 8: combination and activation of each node,
level by level, and of the injection; the node that gives the next c, and the one where the last c comes in."""
