"""DARTS (spec §12): children move strengths and weights; after each epoch the favoured network is scored."""

import math
import random
from collections.abc import Sequence

import pytest
import torch

from child_trainer.supernets.jobs import Score, Steps
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from controller.searcher import ChildRecord, Proposal, View
from controller.searchers.weight_sharing.darts import Darts
from controller.searchers.weight_sharing.options import DartsOptions
from controller.spaces.darts import DartsSpace
from controller.spaces.enas_macro import EnasMacroSpace
from tests.contracts.searcher import SearcherContract, initial, view

SPACE = DartsSpace(operations=("identity", "max_3x3"), blocks=2, num_cells=3, filters=2)
OPTIONS = DartsOptions(epoch_steps=11, steps_per_child=2, refit_batches=1)
TRAINING = 6


class TestContract(SearcherContract):
    draws = False

    def make(self) -> Darts:
        return Darts(SPACE, OPTIONS)


def ask(searcher: Darts, n: int, completed: int, pending: Sequence[Proposal] = ()) -> list[Proposal]:
    records = [
        ChildRecord(id=completed + place, tokens=p.tokens, architecture_id=p.architecture_id, job=p.job)
        for place, p in enumerate(pending, start=1)
    ]
    parameters = initial(searcher)
    present = View(
        parameters=parameters, completed=completed, history=tuple, pending=lambda: records, rng=random.Random(0)
    )
    return searcher.ask(n, present)


def test_an_epochs_steps_are_followed_by_the_network_that_the_strengths_favour() -> None:
    searcher = Darts(SPACE, OPTIONS)
    training = ask(searcher, 20, 0)
    assert [p.job.count for p in training if isinstance(p.job, Steps)] == [2, 2, 2, 2, 2, 1]
    assert ask(searcher, 4, TRAINING - 1, training[-1:]) == []
    (derived,) = ask(searcher, 4, TRAINING)
    assert derived.job == Score(settings={"refit_batches": 1})
    strengths = {gate: value.tolist() for gate, value in initial(searcher).items()}
    assert derived.tokens == SPACE.derive(strengths)
    assert derived.architecture_id == SPACE.decode(derived.tokens).id
    assert ask(searcher, 4, TRAINING, [derived]) == []
    assert len(ask(searcher, 4, TRAINING + 1)) == 4


@pytest.mark.parametrize("order", [1, 2])
def test_the_objective_knows_the_settings_and_the_parts(order: int) -> None:
    options = DartsOptions(order=order, epoch_steps=4, weights_learning_rate=0.1, weights_l2=0.01)  # type: ignore[arg-type]
    job = ask(Darts(SPACE, options), 1, 0)[0].job
    assert isinstance(job, Steps)
    assert job.strengths
    assert job.parts == len(OBJECTIVES[job.objective].half_steps)
    settings = OBJECTIVES[job.objective].settings_of(job.settings)
    assert (settings.order, settings.l2, settings.clip_norm) == (order, 0.01, 5.0)
    assert (settings.rate, settings.decay) == ((0.1, 0.02) if order == 2 else (0.025, 0.0))


def test_the_strengths_are_small_at_first_and_step_by_adam_with_half_the_momentum() -> None:
    (group,) = Darts(SPACE, OPTIONS).parameters(3)
    numbers = torch.cat(list(group.values.values()))
    assert 0 < numbers.abs().max() < 0.01
    assert (group.optimizer, group.options) == ("adam", {"lr": 0.0003, "beta1": 0.5})
    assert group.values.keys() == SPACE.gates(ask(Darts(SPACE, OPTIONS), 1, TRAINING)[0].tokens).keys()


def test_tells_how_decided_the_strengths_are() -> None:
    searcher = Darts(SPACE, OPTIONS)
    even = {gate: torch.zeros_like(value) for gate, value in initial(searcher).items()}
    update = searcher.learn([], view(even))
    assert update.gradients == {}
    sizes = [len(value) for value in even.values()]
    assert update.figures["strengths_entropy"] == pytest.approx(sum(map(math.log, sizes)) / len(sizes))


def test_refuses_a_space_whose_samples_may_have_several_inputs_of_a_gate() -> None:
    with pytest.raises(ValueError, match="samples of a EnasMacroSpace may have several of them"):
        Darts(EnasMacroSpace(layers=3, filters=2), OPTIONS)
    with pytest.raises(ValueError, match="`max_children` must be above 6, the children that train the supernet"):
        OPTIONS.for_children(6)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("order", 3),
        ("epoch_steps", 0),
        ("strengths_learning_rate", 0.0),
        ("strengths_init", -1.0),
        ("weights_l2", -1.0),
    ],
)
def test_an_impossible_option_is_named(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be"):
        DartsOptions(**{option: value})  # type: ignore[arg-type]
