"""Learning curves for the tests: synthetic ones, and those of a random search on digits."""

import csv
import random
from dataclasses import replace
from pathlib import Path

from controller.stopping.stopper import KnownCurve

EPOCHS = 12

DIGITS = Path(__file__).parent / "digits_curves.csv"
"""Recorded by `python -m benchmarks.early_stopping record`."""


def synthetic(count: int, epochs: int = EPOCHS, seed: int = 0, noise: float = 0.004) -> list[KnownCurve]:
    """Return curves that rise to a limit by a power law, with noise (Domhan et al. 2015 fit such ones)."""
    rng = random.Random(seed)

    def curve(child_id: int) -> KnownCurve:
        limit, rise, speed = rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.5), rng.uniform(0.4, 1.4)
        values = (limit - rise * epoch**-speed + rng.gauss(0, noise) for epoch in range(1, epochs + 1))
        return KnownCurve(child_id=child_id, values=tuple(values), parameters=1_000, flops=10_000, decisions=5)

    return [curve(number) for number in range(1, count + 1)]


CURVES = synthetic(60)


def so_far(child: KnownCurve, epoch: int) -> KnownCurve:
    """Return the child as it is known when it has been trained so far."""
    return replace(child, values=child.values[:epoch], ended=False)


def stopped(child: KnownCurve, epoch: int) -> KnownCurve:
    """Return the child as it is known when it was stopped after this epoch."""
    return replace(child, values=child.values[:epoch], stopped=True)


def on_digits() -> list[KnownCurve]:
    """Return the curves of a random search, in the order in which its children ended."""
    with DIGITS.open() as file:
        rows = list(csv.reader(file))[1:]
    return [
        KnownCurve(
            child_id=int(child),
            values=tuple(map(float, curve.split())),
            parameters=int(parameters),
            flops=int(flops),
            decisions=int(decisions),
        )
        for child, parameters, flops, decisions, curve in rows
    ]
