"""The zoo's recurrent cells of highway layers, in language models of Penn Treebank. Standard library only."""

from collections.abc import Mapping, Sequence
from typing import Any

from child_trainer.architectures import highway_cells
from controller.spaces import highway
from controller.zoo import published_cells as cells
from controller.zoo.entry import Words, ZooEntry

ENAS = "Pham et al. 2018, arXiv 1802.03268"
DARTS = "Liu et al. 2019, arXiv 1806.09055"


def entries() -> Mapping[str, ZooEntry]:
    """Return the entries by name."""
    paper, code = cells.enas_rnn_paper(), cells.enas_rnn()
    return {
        "enas-rnn": ZooEntry(
            summary="recurrent cell of ENAS's published code for language models, found with shared weights",
            paper=ENAS,
            published="",
            parameters=20_810_000,
            counted_for=Words(hidden_size=800, layers=1, tied=True),
            note="The code's language model has no biases; here each word has one. The paper's cell is another.",
            **_highway(code),
        ),
        "enas-rnn-paper": ZooEntry(
            summary="recurrent cell of ENAS's paper as DARTS's code has it; its output is the layers that none reads",
            paper=ENAS,
            published="24 M",
            parameters=23_983_594,
            counted_for=Words(hidden_size=787, layers=1, tied=True),
            note="The paper does not print the width; this one is the largest with at most the printed parameters.",
            **_highway(paper, cells.ENAS_RNN_PAPER_OUTPUT),
        ),
        "darts-rnn-v1": ZooEntry(
            summary="first-order DARTS's recurrent cell for Penn Treebank, found by gradient",
            paper=DARTS,
            published="23 M",
            parameters=22_960_000,
            counted_for=Words(hidden_size=850, layers=1, tied=True),
            **_highway(cells.darts_rnn_v1()),
        ),
        "darts-rnn-v2": ZooEntry(
            summary="second-order DARTS's recurrent cell for Penn Treebank, found by gradient",
            paper=DARTS,
            published="23 M",
            parameters=22_960_000,
            counted_for=Words(hidden_size=850, layers=1, tied=True),
            **_highway(cells.darts_rnn_v2()),
        ),
    }


def _highway(layers: Sequence[highway_cells.Layer], output: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the fields of an entry that follow from the layers of a recurrent cell."""
    return {
        "build": lambda: highway_cells.cell(layers, output),
        "motifs": lambda: {"cell": highway_cells.motif(layers, output)},
        "genotypes": lambda: {"DARTS": highway.to_darts(layers, output), "ENAS": highway.to_enas(layers)},
    }
