"""The convolutional network of Zoph & Le 2017 (arXiv 1611.01578, figure 7; spec §1.7). Standard library only."""

from child_trainer.architectures.architecture import Architecture
from controller.decisions import Tokens
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.layers import Skips

LAYERS = """
3 3 36:
3 3 48: 1
3 3 36: 1 2
5 5 36: 1 2 3
3 7 48: 3 4
7 7 48: 2 3 4 5
7 7 48: 2 3 4 5 6
7 3 36: 1 6 7
7 1 36: 1 5 6 8
7 7 36: 1 3 4 5 6 7 8 9
5 7 36: 1 2 5 6 7 8 9 10
7 7 48: 1 2 3 4 6 11
7 5 48: 1 3 6 7 8 9 10 11 12
7 5 48: 3 7 12 13
7 5 48: 6 7 11 12 13 14
"""
"""For each layer the filters' height, width and number, and the layers that it reads; the first reads the image."""


SPACE = ConvolutionalSpace(initial_depth=15, max_depth=15)
"""The paper's space at the depth of the network."""


def tokens() -> Tokens:
    """Return the published network as a sample of `SPACE`."""
    sample: list[int] = []
    for layer, line in enumerate(LAYERS.split("\n")[1:-1], start=1):
        sizes, _, sources = line.partition(":")
        height, width, filters = map(int, sizes.split())
        read = set(map(int, sources.split()))
        sample += [
            SPACE.filter_heights.index(height),
            SPACE.filter_widths.index(width),
            SPACE.num_filters.index(filters),
            *(int(source in read) for source in range(1, layer)),
        ]
    return tuple(sample)


def zoph2017_15(skips: Skips | None = None) -> Architecture:
    """Return the published network of 15 layers, without strides and pooling.

    Args:
        skips: with all skip connections or with none, as in the paper's section 4.1, instead of the 65 that it has.
    """
    return SPACE.decode(tokens() if skips is None else SPACE.with_skips(tokens(), skips))
