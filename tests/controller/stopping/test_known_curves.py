"""What is kept between questions gives the decisions of a plain computation, to the bit, on random histories."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from controller.stopping import curve_model
from controller.stopping.curve import CurvePrediction
from controller.stopping.halving import Halving
from controller.stopping.median import MedianRule
from controller.stopping.options import StoppingOptions
from controller.stopping.stopper import FEW, KnownCurve, KnownCurves, Stopper
from tests.controller.stopping.plain import plainly

EPOCHS = 9


def halving(**options: int) -> Halving:
    return Halving(
        options=StoppingOptions(early_stop="halving", stop_min_epochs=1, **options),
        epochs=EPOCHS,
        lower_is_better=False,
    )


RULES = {
    "median": MedianRule(min_epochs=1, min_children=3, lower_is_better=False),
    "halving by 2": halving(halving_factor=2),
    "halving by 3 in brackets": halving(halving_factor=3, halving_brackets=2, stop_min_children=4),
    "curve": CurvePrediction(min_epochs=2, min_children=10, delta=0.4, seed=1, lower_is_better=False),
}


def histories(seed: int, children: int) -> Iterator[KnownCurve | int]:
    """Yield what happens in a search: children after another epoch or at their end, and ids of children that fail.

    Some are begun again, some end before their last epoch, and few values make many equal ones.
    """
    rng = random.Random(seed)
    begun, training = 0, dict[int, KnownCurve]()
    while begun < children or training:
        if begun < children and len(training) < 5:
            begun += 1
            training[begun] = KnownCurve(child_id=begun, values=(), ended=False, parameters=begun, decisions=3)
        child = training[rng.choice(list(training))]
        happens = rng.random()
        if happens < 0.02:
            yield training.pop(child.child_id).child_id
        elif happens < 0.06:
            training[child.child_id] = replace(child, values=())
        elif child.values and (happens < 0.2 or len(child.values) == EPOCHS):
            stopped = len(child.values) < EPOCHS
            yield replace(training.pop(child.child_id), ended=True, stopped=stopped)
        else:
            value = rng.choice((-0.0, 0.0, rng.randrange(1, 8) / 10, rng.random()))
            decided_until = rng.choice((None, max(0, len(child.values) - 1)))
            training[child.child_id] = replace(child, values=(*child.values, value), decided_until=decided_until)
            yield training[child.child_id]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", RULES)
def test_decisions_are_those_of_a_plain_computation(rule: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if what is known is read anew, as by a run that is resumed, and if a question comes after many ends."""
    monkeypatch.setattr(curve_model, "DRAWS", 4)
    stopper: Stopper = RULES[rule]
    rng, plain = random.Random(seed), plainly(stopper)
    known, ended, training = KnownCurves(), list[KnownCurve](), dict[int, KnownCurve]()
    answers = list[bool]()
    for happened in histories(seed, 150):
        if isinstance(happened, int):
            known.forget(happened)
            training.pop(happened, None)
        elif happened.ended:
            known.add(happened)
            training.pop(happened.child_id, None)
            ended.append(happened)
        else:
            if rng.random() < 0.01:
                known = KnownCurves([*ended, *training.values()])
            others = [*ended, *(other for other in training.values() if other.child_id != happened.child_id)]
            if rng.random() < 0.5:
                answer = stopper.judge(happened, known)
                assert answer == plain(happened, others)
                answers.append(answer is not None)
            known.add(happened)
            training[happened.child_id] = happened
    assert 20 < sum(answers) < len(answers) - 20


def test_many_values_are_sorted_together_and_few_one_by_one() -> None:
    rng, known, expected = random.Random(0), KnownCurves(), list[float]()
    for count in (1, FEW, FEW + 1, 3, 0, 5 * FEW):
        for _ in range(count):
            expected.append(rng.choice((0.5, rng.random())))
            known.add(KnownCurve(child_id=len(expected), values=(expected[-1],)))
        values = known.ascending("first", lambda curve: curve.values[0] if curve.values[0] != 0.5 else None)
        assert list(values) == sorted(value for value in expected if value != 0.5)
