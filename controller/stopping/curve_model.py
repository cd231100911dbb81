"""The prediction of a child's final metric by nu-support-vector regression (Baker et al. 2018, arXiv 1705.10823).

Shapes: N curves; F features. All arrays are float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.svm import NuSVR

from controller.stopping.stopper import KnownCurve

Array = NDArray[np.float64]

DRAWS = 1_000
"""Random settings of which the best is taken."""

FOLDS = 3
"""Parts of the curves: each is predicted from the others."""

LOG_RANGE = (-5.0, 1.0)
"""The logarithms (base 10) between which C and gamma are drawn."""

MIN_DEVIATION = 1e-6
"""Least deviation of a prediction; curves that are all alike would have none."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Brings numbers to mean 0 and deviation 1, column by column; equal ones to 0."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array) -> "Scaling":
        """Return the scaling of these rows."""
        deviation = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, values: Array) -> Array:
        """Return the scaled values."""
        return (values - self.mean) / self.deviation


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveModel:
    """Predicts the final metric from the values until one epoch.

    Attributes:
        epoch: the last epoch that it sees.
        rows: the scaled features of the curves that it was fitted to [N, F].
        features, targets: the scaling of the features, and of the final metrics.
        gamma: of the kernel exp(-gamma * |a - b|^2).
        regression: fitted to the kernel between the rows.
        deviation: of the errors on curves that were not fitted to, in the metric's own unit.
    """

    epoch: int
    rows: Array
    features: Scaling
    targets: Scaling
    gamma: float
    regression: NuSVR
    deviation: float

    @classmethod
    def fitted(cls, curves: Sequence[KnownCurve], epoch: int, seed: int) -> "CurveModel":
        """Return the model for this epoch, fitted to complete curves; equal arguments give equal models."""
        table = np.array([features(curve, epoch) for curve in curves])
        finals = np.array([curve.best for curve in curves])
        scaling, target_scaling = Scaling.of(table), Scaling.of(finals)
        rows, targets = scaling(table), target_scaling(finals)
        settings, residual = _best_settings(rows, targets, np.random.default_rng([seed, epoch, len(curves)]))
        return cls(
            epoch=epoch,
            rows=rows,
            features=scaling,
            targets=target_scaling,
            gamma=settings.gamma,
            regression=settings.fit(_kernel(rows, rows, settings.gamma), targets),
            deviation=max(MIN_DEVIATION, residual * float(target_scaling.deviation)),
        )

    def predict(self, curve: KnownCurve) -> tuple[float, float]:
        """Return the final metric that is predicted, and the prediction's standard deviation."""
        row = self.features(np.array([features(curve, self.epoch)]))
        scaled = self.regression.predict(_kernel(row, self.rows, self.gamma))[0]
        return float(scaled * self.targets.deviation + self.targets.mean), self.deviation


def features(curve: KnownCurve, epoch: int) -> list[float]:
    """Return what a prediction is made from, [F].

    These are the values until the epoch, their first and second differences, the mean and the deviation of each of
    the three, and of the architecture its size, its operations and its number of decisions. A run's hyperparameters
    are the same for all children, apart from those that are decisions.
    """
    values = np.array(curve.values[:epoch])
    series = (values, np.diff(values), np.diff(values, 2))
    moments = [float(moment) for each in series if len(each) for moment in (each.mean(), each.std())]
    sizes = (math.log1p(curve.parameters or 0), math.log1p(curve.flops or 0), float(curve.decisions))
    return [*(float(value) for each in series for value in each), *moments, *sizes]


@dataclass(frozen=True, slots=True)
class _Settings:
    gamma: float
    penalty: float
    nu: float

    def fit(self, kernel: Array, targets: Array) -> NuSVR:
        # The checks of each call would take as long as the fit.
        with config_context(assume_finite=True, skip_parameter_validation=True):
            return NuSVR(C=self.penalty, nu=self.nu, kernel="precomputed").fit(kernel, targets)


def _best_settings(rows: Array, targets: Array, rng: np.random.Generator) -> tuple[_Settings, float]:
    """Return the settings with the least squared error over the folds, and the root of its mean."""
    distances = _distances(rows, rows)
    folds = np.array_split(rng.permutation(len(rows)), FOLDS)
    others = [np.setdiff1d(np.arange(len(rows)), fold) for fold in folds]
    best, least = _Settings(1.0, 1.0, 0.5), math.inf
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for _ in range(DRAWS):
            gamma, penalty = 10.0 ** rng.uniform(*LOG_RANGE, size=2)
            settings = _Settings(float(gamma), float(penalty), 1.0 - float(rng.random()))
            kernel = np.exp(-settings.gamma * distances)
            error = 0.0
            for fold, rest in zip(folds, others, strict=True):
                regression = settings.fit(kernel[np.ix_(rest, rest)], targets[rest])
                error += float(((regression.predict(kernel[np.ix_(fold, rest)]) - targets[fold]) ** 2).sum())
            if error < least:
                best, least = settings, error
    return best, math.sqrt(least / len(rows))


def _distances(first: Array, second: Array) -> Array:
    """Return the squared distance of each row of one to each row of the other; without BLAS, whose threads differ."""
    return ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=-1)


def _kernel(first: Array, second: Array, gamma: float) -> Array:
    return np.exp(-gamma * _distances(first, second))
