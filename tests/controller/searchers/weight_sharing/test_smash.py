"""SMASH (spec §10): training along random paths, scores of random paths, and of ones close to the best."""

import random
from collections.abc import Sequence

import pytest

from child_trainer.outcome import Outcome
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.jobs import Score, Steps
from controller.decisions import Choice
from controller.searcher import ChildRecord, Proposal, View, shared_weights_of
from controller.searchers.weight_sharing.path_options import SmashOptions
from controller.searchers.weight_sharing.smash import Smash, perturbed
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.smash import SmashSpace
from tests.contracts.searcher import SearcherContract, recorded

SPACE = SmashSpace(layers_per_stage=1, banks=2, bank_channels=2, units=4, kernels=(3, 5), dilations=(1,), groups=(1, 2))
OPTIONS = SmashOptions(supernet_steps=22, steps_per_child=4, random_paths=5, hyper_growth=2, hyper_depths=(2, 1))
TRAINING = 6
"""Children that train: five of 4 steps, and one of 2."""

SCORE = Score(settings={"refit_batches": OPTIONS.refit_batches})


class TestContract(SearcherContract):
    draws_after = TRAINING

    def make(self) -> Smash:
        return Smash(SPACE, OPTIONS)


def ask(
    n: int, completed: int, ended: Sequence[ChildRecord] = (), pending: Sequence[ChildRecord] = ()
) -> list[Proposal]:
    view = View(
        parameters={},
        completed=completed,
        history=lambda: ended,
        pending=lambda: pending,
        rng=random.Random(completed),
    )
    return Smash(SPACE, OPTIONS).ask(n, view)


def ended(proposals: Sequence[Proposal], rewards: Sequence[float | None]) -> list[ChildRecord]:
    outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)
    return [recorded(k, p, outcome, r) for k, (p, r) in enumerate(zip(proposals, rewards, strict=True), start=1)]


def test_trains_along_random_paths_with_a_falling_rate() -> None:
    proposals = ask(10, 0)
    jobs = [p.job for p in proposals if isinstance(p.job, Steps)]
    assert len(jobs) == len(proposals) == TRAINING
    assert [job.count for job in jobs] == [4, 4, 4, 4, 4, 2]
    assert {(job.objective, job.total) for job in jobs} == {("path", 22)}
    paths = [path for job in jobs for path in job.paths]
    assert len(paths) == 22
    assert len(set(paths)) > 15
    rates = [job.rate or 0 for job in jobs]
    assert rates[0] == 0.001
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_scores_random_paths_and_then_ones_close_to_the_best() -> None:
    last = ended(ask(1, 0), [None])
    assert ask(4, TRAINING - 1, pending=last) == []
    first = ask(5, TRAINING)
    assert [p.job for p in first] == [SCORE] * 5
    children = ended(first, [0.3, None, 0.8, 0.8, 0.5])
    later = ask(20, TRAINING + 5, children)
    assert {p.notes["parent"] for p in later} == {3}
    assert [p.job for p in later] == [SCORE] * 20
    changes = [sum(a != b for a, b in zip(p.tokens, first[2].tokens, strict=True)) for p in later]
    assert min(changes) >= 1
    assert sum(changes) / 20 < 2.5
    border = ask(6, TRAINING + 3, children[:3])
    assert [dict(p.notes) for p in border] == [{}, {}, *[{"parent": 3}] * 4]


def test_goes_on_with_random_paths_if_no_score_is_known() -> None:
    assert [dict(p.notes) for p in ask(2, TRAINING + 5)] == [{}, {}]


def test_each_decision_is_drawn_anew_with_its_probability() -> None:
    decisions = tuple(Choice("option", tuple(range(10)), place) for place in range(1000))
    tokens = tuple([0] * 1000)
    found = perturbed(decisions, tokens, 0.2, random.Random(1))
    assert 1000 * 0.2 * 0.9 - 40 < sum(token != 0 for token in found) < 1000 * 0.2 * 0.9 + 40
    assert perturbed(decisions, tokens, 1e-12, random.Random(1)) == tokens


def test_shares_the_hypernetworks_weights() -> None:
    shared = shared_weights_of(Smash(SPACE, OPTIONS))
    assert shared is not None
    assert shared.supernet == SPACE.supernet()
    assert shared.generated == HyperOptions(growth=2, depths=(2, 1))
    assert (shared.optimizer, shared.options) == ("adam", {"lr": 0.001, "beta1": 0.5, "eps": 1e-4})


def test_refuses_a_space_without_a_supernet_and_a_search_that_only_trains() -> None:
    with pytest.raises(ValueError, match="the space 'convolutional' has none"):
        Smash(ConvolutionalSpace(), OPTIONS)
    assert OPTIONS.for_children(TRAINING + 1) == OPTIONS
    with pytest.raises(ValueError, match="`max_children` must be above 6, the children that train the supernet"):
        OPTIONS.for_children(TRAINING)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("supernet_steps", 0),
        ("hyper_growth", 0),
        ("hyper_depths", ()),
        ("hyper_depths", (2, 0)),
        ("random_paths", 0),
        ("perturbation", 0.0),
        ("perturbation", 1.5),
        ("weights_learning_rate", 0.0),
        ("weights_momentum", 1.0),
        ("weights_l2", -1.0),
    ],
)
def test_an_impossible_option_is_named(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be"):
        SmashOptions(**{option: value})  # type: ignore[arg-type]
