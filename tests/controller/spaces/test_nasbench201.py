import itertools

import pytest

from controller.decisions import num_samples
from controller.space import SearchSpace
from controller.spaces.nasbench201 import NasBench201Space
from tests.contracts.search_space import SearchSpaceContract
from tests.contracts.supernet import SupernetContract


class TestBenchmarkSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return NasBench201Space()


class TestSmallSpace(SupernetContract):
    NAMED = False  # The names of its nodes are older than the supernet.

    @pytest.fixture
    def space(self) -> SearchSpace:
        return NasBench201Space(cells_per_stage=1, stem_channels=4)


def test_there_are_15625_cells() -> None:
    assert num_samples(NasBench201Space().decisions(0)) == 15_625


def test_unequal_cells_are_unequal_architectures() -> None:
    """This holds even if the benchmark counts their networks as one: it has trained each, and has a row for each."""
    space = NasBench201Space(cells_per_stage=1)
    samples = list(itertools.product((0, 1, 3), repeat=6))
    assert len({space.decode(tokens).id for tokens in samples}) == len(samples)


@pytest.mark.parametrize("option", ["cells_per_stage", "stem_channels"])
def test_impossible_settings_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be at least 1, got 0"):
        NasBench201Space(**{option: 0})
