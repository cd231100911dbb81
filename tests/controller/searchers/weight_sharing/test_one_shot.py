"""One-shot search (spec §11): first the supernet is trained, then its paths are scored."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from child_trainer.supernets.jobs import Score, Steps
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from controller.searcher import ChildRecord, Proposal, View, shared_weights_of
from controller.searchers.weight_sharing.one_shot import OneShot
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.enas_macro import EnasMacroSpace
from tests.contracts.searcher import SearcherContract

SPACE = EnasMacroSpace(layers=3, filters=2)
OPTIONS = OneShotOptions(supernet_steps=50, steps_per_child=8, path_dropout=0.3, ghost_groups=2, weights_l2=0.01)
TRAINING = 7
"""Children that train: six of 8 steps, and one of 2."""


class TestContract(SearcherContract):
    samples_after = TRAINING

    def make(self) -> OneShot:
        return OneShot(SPACE, OPTIONS)


def ask(n: int, completed: int, pending: Sequence[Proposal] = (), options: OneShotOptions = OPTIONS) -> list[Proposal]:
    records = [
        ChildRecord(id=completed + place, tokens=p.tokens, architecture_id=p.architecture_id, job=p.job)
        for place, p in enumerate(pending, start=1)
    ]
    view = View(
        parameters={}, completed=completed, history=tuple, pending=lambda: records, rng=random.Random(completed)
    )
    return OneShot(SPACE, options).ask(n, view)


def test_trains_for_all_its_steps_and_begins_no_more_training_children_than_that_takes() -> None:
    first = ask(4, 0)
    assert len(first) == 4
    rest = ask(8, 0, first)
    jobs = [proposal.job for proposal in (*first, *rest)]
    assert len(jobs) == TRAINING
    assert [job.count for job in jobs if isinstance(job, Steps)] == [8, 8, 8, 8, 8, 8, 2]
    assert {(proposal.tokens, proposal.architecture) for proposal in (*first, *rest)} == {((), None)}


def test_path_dropout_rises_with_the_training() -> None:
    jobs = [proposal.job for proposal in ask(TRAINING, 0)]
    assert [(job.first, job.total) for job in jobs if isinstance(job, Steps)] == [(8 * n, 50) for n in range(TRAINING)]
    settings = [OBJECTIVES["dropout"].settings_of(job.settings) for job in jobs if job]
    assert {(s.drop_rate, s.groups, s.l2) for s in settings} == {(0.3, 2, 0.01)}


def test_one_path_in_each_step_instead() -> None:
    """Single paths, uniform at each decision (Guo et al. 2020, arXiv 1904.00420, section 3.2)."""
    options = replace(OPTIONS, trains="one-path", weights_clip_norm=5.0)
    jobs = [job for proposal in ask(TRAINING, 0, options=options) if isinstance(job := proposal.job, Steps)]
    assert {job.objective for job in jobs} == {"path"}
    assert [len(job.paths) for job in jobs] == [8, 8, 8, 8, 8, 8, 2]
    paths = [path for job in jobs for path in job.paths]
    assert len(set(paths)) > 40
    assert all(SPACE.decode(path).id for path in paths)
    settings = OBJECTIVES["path"].settings_of(jobs[0].settings)
    assert (settings.l2, settings.clip_norm) == (0.01, 5.0)


def test_the_learning_rate_stays_or_falls_along_a_cosine() -> None:
    assert {job.rate for proposal in ask(TRAINING, 0) if isinstance(job := proposal.job, Steps)} == {None}
    options = replace(OPTIONS, weights_last_learning_rate=0.01)
    rates = [job.rate for proposal in ask(TRAINING, 0, options=options) if isinstance(job := proposal.job, Steps)]
    assert rates == [pytest.approx(0.01 + 0.04 * (1 + math.cos(math.pi * 8 * n / 50)) / 2) for n in range(TRAINING)]


def test_scores_nothing_before_the_last_training_child_has_ended() -> None:
    training = ask(TRAINING, 0)
    assert ask(4, TRAINING - 1, training[-1:]) == []
    scores = ask(4, TRAINING)
    assert [proposal.job for proposal in scores] == [Score(settings={"refit_batches": OPTIONS.refit_batches})] * 4
    for proposal in scores:
        assert proposal.architecture_id == SPACE.decode(proposal.tokens).id
    assert len(ask(4, TRAINING, scores)) == 4  # other replicas score while these are being scored


def test_shares_the_spaces_supernet() -> None:
    shared = shared_weights_of(OneShot(SPACE, OPTIONS))
    assert shared is not None
    assert shared.supernet == SPACE.supernet()
    assert (shared.optimizer, shared.options) == ("sgd", {"lr": 0.05, "momentum": 0.9})


def test_refuses_a_space_without_a_supernet() -> None:
    with pytest.raises(ValueError, match="the space 'convolutional' has none"):
        OneShot(ConvolutionalSpace(), OPTIONS)


def test_a_search_must_have_children_that_score() -> None:
    assert OPTIONS.for_children(TRAINING + 1) == OPTIONS
    with pytest.raises(ValueError, match="`max_children` must be above 7, the children that train the supernet"):
        OPTIONS.for_children(TRAINING)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("supernet_steps", 0),
        ("steps_per_child", 0),
        ("path_dropout", 1.0),
        ("weights_learning_rate", 0.0),
        ("weights_momentum", 1.0),
        ("weights_l2", -0.1),
        ("ghost_groups", 0),
        ("refit_batches", -1),
        ("weights_last_learning_rate", -0.1),
        ("weights_clip_norm", -1.0),
    ],
)
def test_an_impossible_option_is_named(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be"):
        OneShotOptions(**{option: value})  # type: ignore[arg-type]
