"""The zoo: published networks and cells by name. A new one is one entry here. Standard library only."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells import darts, enas, nasnet
from child_trainer.architectures.cells.cell import Genotype, motif
from child_trainer.architectures.reference_cells import nas_cell
from controller.spaces.chain import PUBLISHED as CHAIN
from controller.spaces.chain import ChainSpace
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.genotypes import to_darts, to_nasnet
from controller.spaces.hierarchical import PUBLISHED, HierarchicalSpace
from controller.zoo import proxyless, recurrent_cells
from controller.zoo import published_cells as cells
from controller.zoo.entry import CIFAR10, LARGE, MOBILE, Size, Words, ZooEntry
from controller.zoo.zoph2017 import zoph2017_15

ZOPH = "Zoph & Le 2017, arXiv 1611.01578"
NASNET = "Zoph et al. 2018, arXiv 1707.07012"
AMOEBANET = "Real et al. 2019, arXiv 1802.01548"
PNAS = "Liu et al. 2018, arXiv 1712.00559"
DARTS = "Liu et al. 2019, arXiv 1806.09055"
ENAS = "Pham et al. 2018, arXiv 1802.03268"

PER_STAGE = "normal cells in each of three stages"
IN_PLACE = "cells in each of three stages"
IN_ALL = "cells in all"

Build = Callable[[Size], Architecture]


def _nasnet(genotype: Genotype, macro: nasnet.Macro = "cifar", *, reduce_in_place: bool = False) -> Build:
    return lambda size: nasnet.network(
        genotype,
        cells_per_stage=size.cells,
        filters=size.filters,
        macro=macro,
        reduce_in_place=reduce_in_place,
        drop_path=size.drop_path,
        auxiliary=size.auxiliary,
    )


def _darts(genotype: Genotype, macro: darts.Macro = "cifar") -> Build:
    return lambda size: darts.network(
        genotype,
        cells=size.cells,
        filters=size.filters,
        macro=macro,
        drop_path=size.drop_path,
        auxiliary=size.auxiliary,
    )


def _enas(size: Size) -> Architecture:
    return enas.network(
        cells.enas_micro(),
        cells=size.cells,
        filters=size.filters,
        drop_path=size.drop_path,
        auxiliary=size.auxiliary,
    )


def _motifs(genotype: Genotype) -> Callable[[], Mapping[str, Architecture]]:
    if genotype.normal == genotype.reduction:
        return lambda: {"cell": motif(genotype.normal)}
    return lambda: {"normal cell": motif(genotype.normal), "reduction cell": motif(genotype.reduction)}


def _as_nasnet(genotype: Genotype) -> Callable[[], Mapping[str, str]]:
    return lambda: {"NASNet": to_nasnet(genotype)}


def _as_darts(genotype: Genotype) -> Callable[[], Mapping[str, str]]:
    return lambda: {"DARTS": to_darts(genotype)}


def _hierarchical(size: Size) -> Architecture:
    if size.drop_path or size.auxiliary:
        raise ValueError("this network has no `drop_path` or `auxiliary` to choose")
    space = HierarchicalSpace(cells_per_stage=size.cells, channels=size.filters)
    return space.decode(space.tokens_of(PUBLISHED))


def _entries() -> Mapping[str, ZooEntry]:
    a, amoeba_a, amoeba_d = cells.nasnet_a(), cells.amoebanet_a(), cells.amoebanet_d()
    pnas, first, second, micro = cells.pnasnet_5(), cells.darts_v1(), cells.darts_v2(), cells.enas_micro()
    hnas, chains = HierarchicalSpace(), ChainSpace()
    macro = EnasMacroSpace(layers=24, filters=96, network="final")
    arc = macro.tokens_of(cells.ENAS_MACRO)
    return {
        "zoph2017-15": ZooEntry(
            summary="15 convolutions with skip connections, found by REINFORCE",
            paper=ZOPH,
            published="4.2 M",
            parameters=4_201_630,
            counted_for=CIFAR10,
            build=zoph2017_15,
        ),
        "zoph2017-15-dense": ZooEntry(
            summary="the same 15 convolutions, each of which reads all before it",
            paper=ZOPH,
            published="",
            parameters=6_630_910,
            counted_for=CIFAR10,
            build=lambda: zoph2017_15("dense"),
            note="The paper's ablation, section 4.1: 5.56 % error on CIFAR-10, where the network that was found has"
            " 5.50 %.",
        ),
        "zoph2017-15-chain": ZooEntry(
            summary="the same 15 convolutions, each of which reads only the one before it",
            paper=ZOPH,
            published="",
            parameters=809_134,
            counted_for=CIFAR10,
            build=lambda: zoph2017_15("chain"),
            note="The paper's ablation, section 4.1: 7.97 % error on CIFAR-10, where the network that was found has"
            " 5.50 %.",
        ),
        "nascell": ZooEntry(
            summary="recurrent cell of base 8, found by REINFORCE, in a language model of two layers",
            paper=ZOPH,
            published="32 M",
            parameters=31_997_200,
            counted_for=Words(hidden_size=735),
            build=nas_cell,
        ),
        "metaqnn-top": ZooEntry(
            summary="the best chain of layers for CIFAR-10, found by Q-learning",
            paper="Baker et al. 2017, arXiv 1611.02167",
            published="11.26 M",
            parameters=11_309_834,
            counted_for=CIFAR10,
            build=lambda: chains.decode(chains.tokens_of(CHAIN)),
            genotypes=lambda: chains.genotypes(chains.tokens_of(CHAIN)),
            note="The paper's rules give this size, not the one that it prints.",
        ),
        "nasnet-a": ZooEntry(
            summary="NASNet-A for CIFAR-10, 6 @ 768, found by PPO",
            paper=NASNET,
            published="3.3 M",
            parameters=3_346_538,
            counted_for=CIFAR10,
            build=_nasnet(a),
            size=Size(6, 32),
            cells_are=PER_STAGE,
            motifs=_motifs(a),
            genotypes=_as_nasnet(a),
        ),
        "nasnet-a-mobile": ZooEntry(
            summary="NASNet-A for ImageNet, 4 @ 1056",
            paper=NASNET,
            published="5.3 M",
            parameters=5_289_978,
            counted_for=MOBILE,
            build=_nasnet(a, "imagenet-mobile"),
            size=Size(4, 44),
            cells_are=PER_STAGE,
            motifs=_motifs(a),
            genotypes=_as_nasnet(a),
        ),
        "nasnet-a-large": ZooEntry(
            summary="NASNet-A for ImageNet, 6 @ 4032",
            paper=NASNET,
            published="88.9 M",
            parameters=88_753_150,
            counted_for=LARGE,
            build=_nasnet(a, "imagenet-large"),
            size=Size(6, 168),
            cells_are=PER_STAGE,
            motifs=_motifs(a),
            genotypes=_as_nasnet(a),
        ),
        "amoebanet-a": ZooEntry(
            summary="AmoebaNet-A for CIFAR-10, found by regularised evolution",
            paper=AMOEBANET,
            published="2.6 M",
            parameters=2_567_754,
            counted_for=CIFAR10,
            build=_nasnet(amoeba_a),
            size=Size(6, 32),
            cells_are=PER_STAGE,
            motifs=_motifs(amoeba_a),
            genotypes=_as_nasnet(amoeba_a),
        ),
        "amoebanet-d": ZooEntry(
            summary="AmoebaNet-D's cells in the same network for CIFAR-10",
            paper=AMOEBANET,
            published="",
            parameters=1_882_890,
            counted_for=CIFAR10,
            build=_nasnet(amoeba_d),
            size=Size(6, 32),
            cells_are=PER_STAGE,
            motifs=_motifs(amoeba_d),
            genotypes=_as_nasnet(amoeba_d),
            note="Published for ImageNet alone, without its parameters.",
        ),
        "pnasnet-5": ZooEntry(
            summary="PNASNet-5 for CIFAR-10, 9 cells, found by progressive search",
            paper=PNAS,
            published="3.2 M",
            parameters=3_189_082,
            counted_for=CIFAR10,
            build=_nasnet(pnas, reduce_in_place=True),
            size=Size(3, 48),
            cells_are=IN_PLACE,
            motifs=_motifs(pnas),
            genotypes=_as_nasnet(pnas),
        ),
        "pnasnet-5-mobile": ZooEntry(
            summary="PNASNet-5 for ImageNet, 9 cells",
            paper=PNAS,
            published="5.1 M",
            parameters=5_064_487,
            counted_for=MOBILE,
            build=_nasnet(pnas, "imagenet-mobile", reduce_in_place=True),
            size=Size(3, 54),
            cells_are=IN_PLACE,
            motifs=_motifs(pnas),
            genotypes=_as_nasnet(pnas),
        ),
        "pnasnet-5-large": ZooEntry(
            summary="PNASNet-5 for ImageNet, 12 cells",
            paper=PNAS,
            published="86.1 M",
            parameters=86_057_668,
            counted_for=LARGE,
            build=_nasnet(pnas, "imagenet-large", reduce_in_place=True),
            size=Size(4, 216),
            cells_are=IN_PLACE,
            motifs=_motifs(pnas),
            genotypes=_as_nasnet(pnas),
        ),
        "enas-macro": ZooEntry(
            summary="24 layers of ENAS's macro space for CIFAR-10, found with shared weights",
            paper=ENAS,
            published="38.0 M",
            parameters=30_947_434,
            counted_for=CIFAR10,
            build=lambda: macro.decode(arc),
            motifs=lambda: macro.motifs(arc),
            genotypes=lambda: macro.genotypes(arc),
            note="The layers are those of the published code, which has ordinary convolutions where the arc says"
            " separable, and so 42,559,402 parameters; the paper prints no layers.",
        ),
        "enas-micro": ZooEntry(
            summary="cells of ENAS's micro search for CIFAR-10, found with shared weights",
            paper=ENAS,
            published="4.6 M",
            parameters=3_894_382,
            counted_for=CIFAR10,
            build=_enas,
            size=Size(15, 36),
            cells_are="normal cells, with two reduction cells in addition",
            motifs=_motifs(micro),
            genotypes=_as_darts(micro),
            note="The published code makes a network of this size, not of the size that the paper prints; its"
            " classifier lacks the 10 biases.",
        ),
        "darts-v1": ZooEntry(
            summary="first-order DARTS's cells for CIFAR-10, found by gradient",
            paper=DARTS,
            published="3.3 M",
            parameters=3_169_414,
            counted_for=CIFAR10,
            build=_darts(first),
            size=Size(20, 36),
            cells_are=IN_ALL,
            motifs=_motifs(first),
            genotypes=_as_darts(first),
        ),
        "darts-v2": ZooEntry(
            summary="second-order DARTS's cells for CIFAR-10, found by gradient",
            paper=DARTS,
            published="3.3 M",
            parameters=3_349_342,
            counted_for=CIFAR10,
            build=_darts(second),
            size=Size(20, 36),
            cells_are=IN_ALL,
            motifs=_motifs(second),
            genotypes=_as_darts(second),
        ),
        "darts-v2-imagenet": ZooEntry(
            summary="second-order DARTS's cells for ImageNet",
            paper=DARTS,
            published="4.7 M",
            parameters=4_718_752,
            counted_for=MOBILE,
            build=_darts(second, "imagenet"),
            size=Size(14, 48),
            cells_are=IN_ALL,
            motifs=_motifs(second),
            genotypes=_as_darts(second),
        ),
        "hnas": ZooEntry(
            summary="hierarchical cell for CIFAR-10, found by evolution of motifs",
            paper="Liu et al. 2018, arXiv 1711.00436",
            published="15.7 M",
            parameters=15_727_306,
            counted_for=CIFAR10,
            build=_hierarchical,
            size=Size(2, 64),
            cells_are="cells in each of three stages",
            motifs=lambda: hnas.motifs(hnas.tokens_of(PUBLISHED)),
            genotypes=lambda: hnas.genotypes(hnas.tokens_of(PUBLISHED)),
        ),
    }


ZOO: Mapping[str, ZooEntry] = MappingProxyType({**_entries(), **recurrent_cells.entries(), **proxyless.entries()})
"""Every published network by name."""
