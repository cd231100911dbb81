"""The space of given architectures."""

import pytest

from child_trainer.networks.build import build, build_cell
from child_trainer.tasks.entry import ImageProblem
from controller.decisions import InvalidTokens
from controller.space import SearchSpace
from controller.spaces.listed import EXAMPLES, ListedSpace, text_of
from controller.spaces.nasbench201 import NasBench201Space
from tests.contracts.search_space import SearchSpaceContract

CELLS = NasBench201Space(cells_per_stage=1, stem_channels=2)
NETWORKS = [CELLS.decode([token] * 6) for token in range(1, 5)]


class TestListedSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return ListedSpace().with_more(NETWORKS)


def test_samples_keep_their_meaning_when_the_list_grows() -> None:
    few = ListedSpace().with_more(NETWORKS[:2])
    more = few.with_more(NETWORKS[2:])
    assert [more.decode([place]) for place in range(4)] == NETWORKS
    assert more.continues(few) and more.continues(more)
    assert not few.continues(more)
    assert not ListedSpace().with_more(NETWORKS[1:]).continues(few)


def test_without_architectures_it_says_where_they_come_from() -> None:
    with pytest.raises(ValueError, match=r"the space 'listed' needs architectures: `nascluster evaluate FILE\.json"):
        ListedSpace().decisions(0)


@pytest.mark.parametrize("text", ["nonsense", "{}", text_of(NETWORKS[0]).replace("conv", "cnov")])
def test_a_text_that_is_no_architecture_is_told_by_its_place(text: str) -> None:
    space = ListedSpace(architectures=(text_of(NETWORKS[0]), text))
    with pytest.raises(InvalidTokens, match=r"`architectures` must be JSON of architectures, and the 2\. is none: "):
        space.decode([1])


def test_the_examples_can_be_built() -> None:
    build(EXAMPLES["feedforward"], ImageProblem(shape=(1, 8, 8), classes=10))
    build_cell(EXAMPLES["recurrent"], 4, 4)
