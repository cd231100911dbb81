"""The search spaces by name. A new one takes one file and one entry here. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from controller.spaces.cells import AmoebaNetSpace, NasNetSpace, PnasSpace
from controller.spaces.chain import ChainSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.darts import DartsSpace
from controller.spaces.darts_rnn import DartsRnnSpace
from controller.spaces.densenet import DenseNetSpace
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.enas_micro import EnasMicroSpace
from controller.spaces.enas_rnn import EnasRnnSpace
from controller.spaces.genomes import GenomeSpace
from controller.spaces.hierarchical import HierarchicalSpace
from controller.spaces.listed import ListedSpace
from controller.spaces.mbconv import MbconvSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.one_shot import OneShotSpace
from controller.spaces.plain import PlainSpace
from controller.spaces.recurrent import RecurrentSpace
from controller.spaces.settings import SettingsSpace
from controller.spaces.smash import SmashSpace
from controller.spaces.subnetworks import SubnetworkSpace
from controller.spaces.tree_cells import TreeCellSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceEntry:
    """A search space.

    Attributes:
        summary: what its architectures are, in one line.
        paper: the source.
        options: the frozen dataclass that is the space; its fields are the options.
    """

    summary: str
    paper: str
    options: type


SPACES: Mapping[str, SpaceEntry] = MappingProxyType(
    {
        "convolutional": SpaceEntry(
            summary="Stacks of convolutions with skip connections, pools on request.",
            paper="Zoph & Le 2017, section 3.3",
            options=ConvolutionalSpace,
        ),
        "recurrent": SpaceEntry(
            summary="Recurrent cells: a tree of operations on the input and the last state.",
            paper="Zoph & Le 2017, section 3.4",
            options=RecurrentSpace,
        ),
        "nasbench201": SpaceEntry(
            summary="NAS-Bench-201's cells: one of five operations on each of six edges.",
            paper="Dong & Yang 2020, arXiv 2001.00326",
            options=NasBench201Space,
        ),
        "nasnet": SpaceEntry(
            summary="NASNet's normal and reduction cell: 13 operations, values added or concatenated.",
            paper="Zoph et al. 2018, arXiv 1707.07012",
            options=NasNetSpace,
        ),
        "amoebanet": SpaceEntry(
            summary="AmoebaNet's normal and reduction cell: 8 operations, values added.",
            paper="Real et al. 2019, arXiv 1802.01548",
            options=AmoebaNetSpace,
        ),
        "pnas": SpaceEntry(
            summary="PNAS's single cell of one to five blocks: 8 operations, values added.",
            paper="Liu et al. 2018, arXiv 1712.00559",
            options=PnasSpace,
        ),
        "hierarchical": SpaceEntry(
            summary="Cells made of motifs, which are made of smaller motifs and at last of six primitives.",
            paper="Liu et al. 2018, arXiv 1711.00436",
            options=HierarchicalSpace,
        ),
        "chain": SpaceEntry(
            summary="Chains of convolutions, pools and fully connected layers, without batch normalisation.",
            paper="Baker et al. 2017, arXiv 1611.02167",
            options=ChainSpace,
        ),
        "plain": SpaceEntry(
            summary="Plain chains that grow wider and deeper from a small start, with batch normalisation.",
            paper="Cai et al. 2018, arXiv 1707.04873",
            options=PlainSpace,
        ),
        "densenet": SpaceEntry(
            summary="Densely connected networks that grow: larger growth rates, and more layers of each block.",
            paper="Cai et al. 2018, arXiv 1707.04873",
            options=DenseNetSpace,
        ),
        "tree-cells": SpaceEntry(
            summary="Cells that grow as trees in the place of the convolutions of a small DenseNet.",
            paper="Cai et al. 2018, arXiv 1806.02639",
            options=TreeCellSpace,
        ),
        "enas-macro": SpaceEntry(
            summary="ENAS's layers: one of six operations each, and any of the earlier layers added to it.",
            paper="Pham et al. 2018, arXiv 1802.03268, section 2.3",
            options=EnasMacroSpace,
        ),
        "enas-micro": SpaceEntry(
            summary="ENAS's normal and reduction cell: five operations, values added, weights to be shared.",
            paper="Pham et al. 2018, arXiv 1802.03268, section 2.4",
            options=EnasMicroSpace,
        ),
        "enas-rnn": SpaceEntry(
            summary="ENAS's recurrent cells: highway layers, each with an earlier layer and an activation.",
            paper="Pham et al. 2018, arXiv 1802.03268, section 2.1",
            options=EnasRnnSpace,
        ),
        "one-shot": SpaceEntry(
            summary="One-Shot's cell of choice blocks, each with one or two of its inputs and operations.",
            paper="Bender et al. 2018, Understanding and simplifying one-shot architecture search",
            options=OneShotSpace,
        ),
        "smash": SpaceEntry(
            summary="SMASH's layers that read and write banks of features, with convolutions of many kinds.",
            paper="Brock et al. 2018, arXiv 1708.05344",
            options=SmashSpace,
        ),
        "darts": SpaceEntry(
            summary="DARTS's normal and reduction cell: seven operations on two different states of each block.",
            paper="Liu et al. 2019, arXiv 1806.09055",
            options=DartsSpace,
        ),
        "darts-rnn": SpaceEntry(
            summary="DARTS's recurrent cells: highway layers, each with an earlier layer and an activation.",
            paper="Liu et al. 2019, arXiv 1806.09055, section 3.1",
            options=DartsRnnSpace,
        ),
        "mbconv": SpaceEntry(
            summary="ProxylessNAS's mobile inverted bottlenecks: kernel and expansion of each, or none.",
            paper="Cai et al. 2019, arXiv 1812.00332",
            options=MbconvSpace,
        ),
        "subnetworks": SpaceEntry(
            summary="Several convolutional networks with chosen activations, and the selection of one of them.",
            paper="the article on A-GEM, which is not Averaged Gradient Episodic Memory",
            options=SubnetworkSpace,
        ),
        "genomes": SpaceEntry(
            summary="Networks that grow: neurons and weighted links, which are all part of the sample.",
            paper="Stanley & Miikkulainen 2002, section 3.1",
            options=GenomeSpace,
        ),
        "listed": SpaceEntry(
            summary="Given architectures of any shape: what `nascluster evaluate` trains.",
            paper="",
            options=ListedSpace,
        ),
        "settings": SpaceEntry(
            summary="Given networks, and ways to train each: learning rate, weight decay and others.",
            paper="Zoph & Le 2017, section 4.1",
            options=SettingsSpace,
        ),
    }
)
"""All built-in search spaces by name."""
