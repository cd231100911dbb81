"""The surrogate of Bayesian optimisation: a Gaussian process over encoded architectures (spec §19).

Shapes: N children; C candidates; F columns of the encoding. All arrays are float64.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Product
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]

LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""The grid of the length scale l of the kernel exp(-distance / l)."""

NOISES = (0.001, 0.01, 0.03, 0.1, 0.3)
"""The grid of the noise's share of the targets' variance."""

JITTER = 1e-8
"""Added to the diagonal, so that equal architectures leave the covariance positive definite."""

_THREADS = ThreadpoolController()
"""Bounds the threads of linear algebra. Small matrices gain nothing by several, and the last bits must not depend on
the number of cores."""


Features = Mapping[str, float]
"""What is known of an architecture: numbers by name; a name that is absent has 0."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The hyper-parameters of the surrogate.

    Attributes:
        length: the length scale l.
        noise: the noise's share of the targets' variance.
    """

    length: float
    noise: float


def token_features(tokens: Sequence[int]) -> Features:
    """Return the one-hot encoding of the tokens. Half the squared distance of two is their Hamming distance.

    Shorter sequences count as padded: a position that only one of the two has adds a half.
    """
    return {f"{position}:{token}": 1.0 for position, token in enumerate(tokens)}


def matrix(rows: Iterable[Features]) -> Array:
    """Return the features as rows [N, F]; a column has the numbers of one name."""
    rows = list(rows)
    columns = {name: column for column, name in enumerate(dict.fromkeys(name for row in rows for name in row))}
    values = np.zeros((len(rows), len(columns)))
    for index, row in enumerate(rows):
        for name, value in row.items():
            values[index, columns[name]] = value
    return values


def kernel(length: float, variance: float = 1.0) -> Product:
    """Return the kernel `variance * exp(-d / length)`, where d is half the squared distance of two encodings.

    With one-hot tokens d is the Hamming distance.
    """
    return ConstantKernel(variance, "fixed") * RBF(length**0.5, "fixed")


def normal_scores(rewards: Sequence[float]) -> Array:
    """Return the standard normal quantile of each reward's rank [N]; equal rewards have equal scores.

    The surrogate then sees the order of the rewards alone, so that a few that failed to learn do not hide the
    differences between the good ones (a Gaussian copula; Salinas et al. 2020, arXiv 1909.13595).
    """
    return norm.ppf((rankdata(rewards) - 0.5) / len(rewards))


def standardised(rewards: Sequence[float]) -> Array:
    """Return the rewards [N] with mean 0 and deviation 1; zeros if they are all equal."""
    values = np.asarray(rewards, dtype=np.float64)
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros(len(values))


@_THREADS.wrap(limits=1)
def posterior(inputs: Array, targets: Array, offered: Array, settings: Settings) -> tuple[Array, Array]:
    """Return the mean and the standard deviation [C] of candidates [C, F], given the targets [N] of inputs [N, F].

    The prior has mean 0, and variance 1 of which the noise has its share. The deviations are without the noise.
    """
    return _process(settings).fit(inputs, targets).predict(offered, return_std=True)


@_THREADS.wrap(limits=1)
def choose_settings(inputs: Array, targets: Array) -> Settings:
    """Return the settings of the grid with the largest log marginal likelihood; of equal ones the first."""
    grid = [Settings(length, noise) for length, noise in product(LENGTHS, NOISES)]
    return max(grid, key=lambda settings: _process(settings).fit(inputs, targets).log_marginal_likelihood_value_)


def _process(settings: Settings) -> Any:
    """Return scikit-learn's Gaussian process, whose hyper-parameters it must not change."""
    signal, unfitted = kernel(settings.length, 1 - settings.noise), cast(Any, None)
    return GaussianProcessRegressor(signal, alpha=settings.noise + JITTER, optimizer=unfitted)


def expected_improvement(means: Array, deviations: Array, best: float, least: float) -> Array:
    """Return the expected improvement over `best` [C], which is 0 or more.

    It is (mu - best - xi) Phi(z) + s phi(z) with z = (mu - best - xi) / s, and max(0, mu - best - xi) where s = 0.

    Args:
        means: the posterior mean of each candidate, mu.
        deviations: its posterior standard deviation, s.
        best: the best target so far.
        least: the least improvement that counts in full, xi.
    """
    gains = means - best - least
    safe = np.where(deviations > 0, deviations, 1.0)
    z = gains / safe
    uncertain = gains * norm.cdf(z) + safe * norm.pdf(z)
    return np.maximum(np.where(deviations > 0, uncertain, gains), 0.0)
