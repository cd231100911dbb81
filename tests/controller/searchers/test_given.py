"""Given architectures are proposed once each, in their order, and then the search ends."""

import random

import pytest

from controller.searcher import ChildRecord, View
from controller.searchers.given import Given, GivenOptions, sample_text
from controller.spaces.nasbench201 import NasBench201Space
from tests.contracts.searcher import SearcherContract, view

SPACE = NasBench201Space(cells_per_stage=1, stem_channels=4)

SAMPLES = tuple(sample_text((place // 5, place % 5, 0, 1, 2, 3)) for place in range(16))


class TestGiven(SearcherContract):
    draws = False

    def make(self) -> Given:
        return Given(SPACE, GivenOptions(samples=SAMPLES))


def children(*numbers: int) -> list[ChildRecord]:
    return [
        ChildRecord(id=number, tokens=tuple(map(int, SAMPLES[number - 1].split(","))), architecture_id="")
        for number in numbers
    ]


def test_each_is_proposed_once_and_in_their_order() -> None:
    searcher = Given(SPACE, GivenOptions(samples=SAMPLES, sources=tuple(map(str, range(16)))))
    asked = searcher.ask(5, view({}, completed=0))
    asked += searcher.ask(
        20,
        View(
            parameters={},
            completed=1,  # as it was when the step began: one more has ended since
            history=lambda: children(1, 3),
            pending=lambda: children(2, 4, 5),
            rng=random.Random(0),
        ),
    )
    assert [sample_text(proposal.tokens) for proposal in asked] == list(SAMPLES)
    assert [proposal.notes for proposal in asked] == [{"source": str(place)} for place in range(16)]
    assert all(proposal.architecture == SPACE.decode(proposal.tokens) for proposal in asked)
    ended = View(
        parameters={}, completed=16, history=lambda: children(*range(1, 17)), pending=list, rng=random.Random(0)
    )
    assert searcher.ask(1, ended) == []
    assert searcher.exclusive


@pytest.mark.parametrize(
    ("samples", "sources", "message"),
    [
        (("1,2", "1,2"), (), "`samples` must be different ones, got '1,2' twice"),
        (("1,x",), (), "`samples` must be whole numbers such as 0,3,1, got '1,x'"),
        (("1,2",), ("a", "b"), "`sources` must be one for each of the 1 samples or none, got 2"),
    ],
)
def test_options_that_cannot_be_meant(samples: tuple[str, ...], sources: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        GivenOptions(samples=samples, sources=sources)


def test_no_samples_and_samples_of_another_space_are_refused() -> None:
    with pytest.raises(ValueError, match="needs architectures: give `--from-run NAME --top 5`"):
        Given(SPACE, GivenOptions())
    with pytest.raises(
        ValueError, match=r"of the space 'nasbench201', and the 2\. is none: a cell takes 6 tokens, got 2"
    ):
        Given(SPACE, GivenOptions(samples=(SAMPLES[0], "1,2")))
    with pytest.raises(ValueError, match="`max_children` must be at least 16, one for each given architecture, got 4"):
        GivenOptions(samples=SAMPLES).for_children(4)
