"""Grid search tries each sample of a space once, in order, and then ends."""

import random

import pytest

from controller.decisions import enumerate_samples
from controller.searcher import ChildRecord, View, keeps_weights, kept_children
from controller.searchers.grid import Grid, GridOptions
from controller.spaces.genomes import GenomeSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.settings import SettingsSpace
from tests.contracts.searcher import SearcherContract

SPACE = NasBench201Space(cells_per_stage=1, stem_channels=4)

SMALL = SettingsSpace(settings=("learning-rate=.2,.1", "momentum=.9,.8,.7"), seeds=2)


class TestGrid(SearcherContract):
    draws = False

    def make(self) -> Grid:
        return Grid(SPACE, GridOptions())


def view(ended: list[tuple[int, ...]], pending: list[tuple[int, ...]]) -> View:
    records = [ChildRecord(id=number, tokens=tokens, architecture_id="") for number, tokens in enumerate(ended, 1)]
    others = [ChildRecord(id=number, tokens=tokens, architecture_id="") for number, tokens in enumerate(pending, 100)]
    return View(
        parameters={},
        completed=len(ended),
        history=lambda: records,
        pending=lambda: others,
        rng=random.Random(0),
    )


def test_what_any_replica_has_begun_is_not_proposed_again() -> None:
    samples = list(enumerate_samples(SMALL.decisions(0)))
    assert len(samples) == 12
    searcher = Grid(SMALL, GridOptions())
    asked = searcher.ask(4, view(ended=[samples[7], samples[0]], pending=[samples[2]]))
    assert [proposal.tokens for proposal in asked] == [samples[place] for place in (1, 3, 4, 5)]
    assert [proposal.architecture for proposal in asked] == [SMALL.decode(proposal.tokens) for proposal in asked]
    rest = searcher.ask(20, view(ended=samples[:9], pending=[]))
    assert [proposal.tokens for proposal in rest] == samples[9:]
    assert searcher.ask(1, view(ended=samples, pending=[])) == []
    assert searcher.exclusive


def test_an_earlier_view_gives_the_earlier_proposals() -> None:
    searcher, empty = Grid(SMALL, GridOptions()), view([], [])
    first = searcher.ask(3, empty)
    searcher.ask(12, empty)
    assert searcher.ask(3, empty) == first


def test_weights_are_kept_on_request() -> None:
    assert not keeps_weights(Grid(SMALL, GridOptions()))
    keeping = Grid(SMALL, GridOptions(keep_weights=True))
    assert keeps_weights(keeping)
    assert kept_children(keeping, view(ended=[(0, 0, 0, 0), (0, 0, 0, 1)], pending=[(0, 0, 1, 0)])) == {1, 2}


def test_a_space_without_decisions_is_refused() -> None:
    with pytest.raises(ValueError, match="the searcher 'grid' chooses decision by decision"):
        Grid(GenomeSpace(), GridOptions())
