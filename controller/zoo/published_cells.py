"""The published cells and layers, in the notation of the code that published them. Standard library only."""

from child_trainer.architectures.cells.cell import Genotype
from child_trainer.architectures.highway_cells import Layer
from controller.spaces import highway
from controller.spaces.enas_arcs import from_enas
from controller.spaces.genotypes import from_darts, from_nasnet


def nasnet_a() -> Genotype:
    """Return NASNet-A's cells (Zoph et al. 2018; spec §3.4)."""
    return from_nasnet("""
normal = dict(
    operations=['separable_5x5_2', 'separable_3x3_2', 'separable_5x5_2', 'separable_3x3_2', 'avg_pool_3x3', 'none',
                'avg_pool_3x3', 'avg_pool_3x3', 'separable_3x3_2', 'none'],
    hiddenstate_indices=[0, 1, 1, 1, 0, 1, 1, 1, 0, 0],
    used_hiddenstates=[1, 0, 0, 0, 0, 0, 0],
)
reduction = dict(
    operations=['separable_5x5_2', 'separable_7x7_2', 'max_pool_3x3', 'separable_7x7_2', 'avg_pool_3x3',
                'separable_5x5_2', 'none', 'avg_pool_3x3', 'separable_3x3_2', 'max_pool_3x3'],
    hiddenstate_indices=[0, 1, 0, 1, 0, 1, 3, 2, 2, 0],
    used_hiddenstates=[1, 1, 1, 0, 0, 0, 0],
)
""")


def amoebanet_a() -> Genotype:
    """Return AmoebaNet-A's cells (Real et al. 2019; spec §4.4)."""
    return from_nasnet("""
normal = dict(
    operations=['avg_pool_3x3', 'max_pool_3x3', 'separable_3x3_2', 'none', 'none', 'avg_pool_3x3', 'separable_3x3_2',
                'separable_5x5_2', 'avg_pool_3x3', 'separable_3x3_2'],
    hiddenstate_indices=[0, 0, 1, 1, 0, 1, 0, 2, 5, 0],
    used_hiddenstates=[1, 0, 1, 0, 0, 1, 0],
)
reduction = dict(
    operations=['separable_3x3_2', 'avg_pool_3x3', 'max_pool_3x3', 'separable_7x7_2', 'max_pool_3x3', 'max_pool_3x3',
                'separable_3x3_2', '1x7_7x1', 'avg_pool_3x3', 'separable_7x7_2'],
    hiddenstate_indices=[1, 0, 0, 2, 1, 0, 4, 0, 1, 0],
    used_hiddenstates=[1, 1, 0, 0, 0, 0, 0],
)
""")


def amoebanet_d() -> Genotype:
    """Return AmoebaNet-D's cells, from the code for TPUs (spec §4.4)."""
    return from_nasnet("""
normal = dict(
    operations=['1x1', 'max_pool_3x3', 'none', '1x7_7x1', '1x1', '1x7_7x1', 'max_pool_3x3', 'none', 'avg_pool_3x3',
                '1x1'],
    hiddenstate_indices=[1, 1, 1, 0, 0, 0, 2, 2, 1, 5],
    used_hiddenstates=[0, 1, 1, 0, 0, 1, 0],
)
reduction = dict(
    operations=['max_pool_2x2', 'max_pool_3x3', 'none', '3x3', '1x7_7x1', 'max_pool_3x3', 'none', 'max_pool_2x2',
                'avg_pool_3x3', '1x1'],
    hiddenstate_indices=[0, 0, 2, 1, 2, 2, 3, 1, 2, 3],
    used_hiddenstates=[1, 1, 1, 1, 0, 0, 0],
)
""")


def pnasnet_5() -> Genotype:
    """Return PNASNet-5's cell (Liu et al. 2018; spec §5.4)."""
    return from_nasnet("""
operations = ['separable_5x5_2', 'max_pool_3x3', 'separable_7x7_2', 'max_pool_3x3', 'separable_5x5_2',
              'separable_3x3_2', 'separable_3x3_2', 'max_pool_3x3', 'separable_3x3_2', 'none']
hiddenstate_indices = [1, 1, 0, 0, 0, 0, 4, 0, 1, 0]
used_hiddenstates = [1, 1, 0, 0, 0, 0, 0]
""")


def darts_v1() -> Genotype:
    """Return the cells that first-order DARTS found (Liu et al. 2019; spec §12.4)."""
    return from_darts("""
Genotype(
    normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0),
            ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)],
    reduce_concat=[2, 3, 4, 5],
)
""")


def darts_v2() -> Genotype:
    """Return the cells that second-order DARTS found (Liu et al. 2019; spec §12.4)."""
    return from_darts("""
Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1),
            ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0),
            ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5],
)
""")


def enas_micro() -> Genotype:
    """Return the cells of ENAS's micro search (Pham et al. 2018; spec §6.2)."""
    return from_enas(
        normal="0 2 0 0  0 4 0 1  0 4 1 1  1 0 0 1  0 2 1 1",
        reduction="1 0 1 0  0 3 0 2  1 1 3 1  1 0 0 4  0 3 1 1",
    )


ENAS_MACRO = """
0
3 0
0 1 0
2 0 0 1
2 0 0 0 0
3 1 1 0 1 0
2 0 0 0 0 0 1
2 0 1 1 0 1 1 1
1 0 1 1 1 0 1 0 1
0 0 0 0 0 0 0 0 0 0
2 0 0 0 0 0 1 0 0 0 0
0 1 0 0 1 1 0 0 0 0 1 1
2 0 1 0 0 0 0 0 1 0 1 1 0
1 0 0 1 0 0 0 1 1 1 0 1 0 1
0 1 1 0 1 0 1 0 0 0 0 0 1 0 0
2 0 0 1 0 0 0 0 0 0 0 1 0 1 0 1
2 0 1 0 0 0 1 0 0 1 1 1 1 0 0 1 0
2 0 0 0 0 1 0 1 0 1 0 0 1 0 1 0 0 1
3 0 1 1 0 1 0 0 0 0 0 1 0 1 0 1 0 0 0
3 0 1 1 0 0 0 0 0 0 0 0 0 1 1 0 0 0 0 1
0 1 0 0 1 0 1 1 0 0 0 1 0 0 0 0 0 1 1 0 0
3 0 1 0 1 1 0 0 1 0 1 1 0 1 1 0 1 0 0 1 0 0
0 1 0 1 0 1 0 0 0 0 0 0 0 0 1 0 1 0 0 1 0 0 0
0 1 1 0 0 0 1 1 1 0 1 0 0 0 1 0 1 0 0 1 1 0 0 0
"""
"""The 24 layers of ENAS's final macro network, in the notation of its code (Pham et al. 2018; spec §6.1)."""


def darts_rnn_v1() -> list[Layer]:
    """Return the recurrent cell that DARTS's first order found (Liu et al. 2019; spec §12.4)."""
    return highway.from_darts("""
Genotype(recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), ('relu', 4), ('identity', 1), ('relu', 5),
                    ('relu', 1)], concat=range(1, 9))
""")


def darts_rnn_v2() -> list[Layer]:
    """Return the recurrent cell that DARTS's second order found (Liu et al. 2019; spec §12.4)."""
    return highway.from_darts("""
Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5),
                    ('tanh', 3), ('relu', 5)], concat=range(1, 9))
""")


def enas_rnn() -> list[Layer]:
    """Return the recurrent cell of ENAS's code for language models."""
    return highway.from_enas("0 2 1 0 2 1 2 2 4 0 5 0 3 2 6 2")


ENAS_RNN_PAPER_OUTPUT = (2, 5, 6, 9, 10, 11)
"""The layers whose mean is the output of `enas_rnn_paper`: those that no other carries on."""


def enas_rnn_paper() -> list[Layer]:
    """Return the recurrent cell of ENAS's paper, as DARTS's code has it (spec §6.3)."""
    return highway.from_darts("""
Genotype(recurrent=[('tanh', 0), ('tanh', 1), ('relu', 1), ('tanh', 3), ('tanh', 3), ('relu', 3), ('relu', 4),
                    ('relu', 7), ('relu', 8), ('relu', 8), ('relu', 8)], concat=[2, 5, 6, 9, 10, 11])
""")
