"""Numbers with which a search would hang before its first child, or between two, are refused."""

from typing import Any

import pytest

from controller.searchers.bayesian.options import BayesianOptions
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.q_learning.options import QLearningOptions
from controller.spaces.cells import NasNetSpace, PnasSpace
from controller.spaces.chain import ChainSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.hierarchical import HierarchicalSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.recurrent import RecurrentSpace
from controller.zoo.entry import Size


@pytest.mark.parametrize(
    ("options", "numbers", "message"),
    [
        (NasNetSpace, {"blocks": 0}, "`blocks` must be at least 1, got 0"),
        (NasNetSpace, {"blocks": 100_000}, "`blocks` must be at most 50, got 100,000"),
        (PnasSpace, {"cells_per_stage": 100_000}, "`cells_per_stage` must be at most 100, got 100,000"),
        (HierarchicalSpace, {"cells_per_stage": 0}, "`cells_per_stage` must be at least 1, got 0"),
        (HierarchicalSpace, {"initial_mutations": 10**9}, "`initial_mutations` must be at most 100,000"),
        (NasBench201Space, {"cells_per_stage": 101}, "`cells_per_stage` must be at most 100, got 101"),
        (ChainSpace, {"max_layers": 201}, "`max_layers` must be at most 200, got 201"),
        (ConvolutionalSpace, {"max_depth": 20_000}, "`max_depth` must be at most 200, got 20,000"),
        (RecurrentSpace, {"base": 5_000}, "`base` must be at most 100, got 5,000"),
        (RecurrentSpace, {"base": 1}, "`base` must be at least 2, got 1"),
        (QLearningOptions, {"replays": 10**9}, "`replays` must be at most 10,000, got 1,000,000,000"),
        (ProgressiveOptions, {"ensemble": 1_000}, "`ensemble` must be at most 100, got 1,000"),
        (ProgressiveOptions, {"hidden": 0}, "`hidden` must be at least 1, got 0"),
        (ProgressiveOptions, {"fit_steps": 10**8}, "`fit_steps` must be at most 100,000"),
        (BayesianOptions, {"max_points": 100_000}, "`max_points` must be at most 5,000, got 100,000"),
    ],
)
def test_a_number_beyond_its_limits_is_refused(options: Any, numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**numbers)


def test_motifs_of_motifs_may_not_multiply_without_bound() -> None:
    """Seven levels of four nodes: a cell of 6^7 operations."""
    with pytest.raises(ValueError, match="`nodes_per_level` must give a cell at most 5,000 operations, got 279,936"):
        HierarchicalSpace(motifs_per_level=(3, 3, 3, 3, 3, 3, 1), nodes_per_level=(4,) * 7)
    HierarchicalSpace(motifs_per_level=(6, 6, 6, 1), nodes_per_level=(4, 4, 4, 5))


def test_a_network_of_the_zoo_has_a_bounded_number_of_cells() -> None:
    with pytest.raises(ValueError, match="`cells` must be at most 100, got 100,000"):
        Size(cells=100_000, filters=32)
