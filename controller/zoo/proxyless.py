"""The three networks that ProxylessNAS found for ImageNet (Cai et al. 2019; spec §14). Standard library only.

Their first stages are wider than those of the search. Blocks that are missing at a stage's end are skipped.
"""

from collections.abc import Mapping
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture
from controller.spaces.mbconv import MbconvSpace
from controller.zoo.entry import MOBILE, ZooEntry

SPACES: Mapping[str, MbconvSpace] = MappingProxyType(
    {
        "mobile": MbconvSpace(widths=(32, 40, 80, 96, 192, 320)),
        "gpu": MbconvSpace(widths=(32, 56, 112, 128, 256, 432), stem_filters=40, first_filters=24, last_filters=1728),
        "cpu": MbconvSpace(widths=(32, 48, 88, 104, 216, 360), stem_filters=40, first_filters=24, last_filters=1432),
    }
)
"""The space of each network, by the device whose latency it was searched for."""

BLOCKS: Mapping[str, str] = MappingProxyType(
    {
        "mobile": "k5e3 k3e3 | k7e3 k3e3 k5e3 k5e3 | k7e6 k5e3 k5e3 k5e3 | k5e6 k5e3 k5e3 k5e3"
        " | k7e6 k7e6 k7e3 k7e3 | k7e6",
        "gpu": "k5e3 | k7e3 k3e3 | k7e6 k5e3 | k5e6 k3e3 k5e3 | k7e6 k7e6 k7e6 k5e6 | k7e6",
        "cpu": "k3e6 k3e3 k3e3 k3e3 | k3e6 k3e3 k3e3 k5e3 | k3e6 k3e3 | k5e6 k3e3 k3e3 k3e3 | k5e6 k5e3 k5e3 k3e3"
        " | k5e6",
    }
)
"""The blocks of each, in the notation of `MbconvSpace.tokens_of`."""


def entries() -> Mapping[str, ZooEntry]:
    """Return the entries of the zoo."""
    return {
        "proxyless-mobile": _entry("mobile", "a phone's processor", "4.1 M", 4_080_512),
        "proxyless-gpu": _entry("gpu", "a GPU", "7.1 M", 7_119_848),
        "proxyless-cpu": _entry("cpu", "a processor", "4.4 M", 4_361_648),
    }


def _entry(device: str, words: str, published: str, parameters: int) -> ZooEntry:
    return ZooEntry(
        summary=f"inverted bottlenecks for ImageNet, found by gradient for the latency on {words}",
        paper="Cai et al. 2019, arXiv 1812.00332",
        published=published,
        parameters=parameters,
        counted_for=MOBILE,
        build=lambda: network(device),
        motifs=lambda: SPACES[device].motifs(SPACES[device].tokens_of(BLOCKS[device])),
        genotypes=lambda: SPACES[device].genotypes(SPACES[device].tokens_of(BLOCKS[device])),
    )


def network(device: str) -> Architecture:
    """Return the network that was searched for a device."""
    space = SPACES[device]
    return space.decode(space.tokens_of(BLOCKS[device]))
