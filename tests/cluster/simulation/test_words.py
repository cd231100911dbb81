"""What a simulation is told in words."""

import math
import random
import statistics

import pytest

from cluster.simulation.words import ChildSeconds, child_seconds_of, rate_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lognormal:3600:0.5", ChildSeconds("lognormal", 3600.0, 0.5)),
        ("exponential:60", ChildSeconds("exponential", 60.0)),
        ("constant:.5", ChildSeconds("constant", 0.5)),
    ],
)
def test_a_distribution_is_read(text: str, expected: ChildSeconds) -> None:
    assert child_seconds_of(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "3600", "lognormal:3600", "lognormal:3600:x", "lognormal:1:-1", "constant:0", "constant:1:2", "normal:1:2",
     "exponential:1e999", "exponential:nan"],
)  # fmt: skip
def test_what_is_no_distribution_is_told_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"lognormal:MEDIAN:SIGMA.*as in lognormal:3600:0\.5"):
        child_seconds_of(text)


@pytest.mark.parametrize("text", ["lognormal:3600:11", "lognormal:2e9:0.5", "constant:1e300"])
def test_children_that_never_end_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"may have at most 1,000,000,000 seconds and a sigma of 10"):
        child_seconds_of(text)


@pytest.mark.parametrize("text", ["lognormal:100:0.5", "exponential:100", "constant:100"])
def test_draws_have_the_mean_that_is_told(text: str) -> None:
    distribution, generator = child_seconds_of(text), random.Random(1)
    draws = [distribution.draw(generator) for _ in range(20_000)]
    assert statistics.fmean(draws) == pytest.approx(
        distribution.scale_s * math.exp(distribution.sigma**2 / 2), rel=0.03
    )


def test_a_lognormal_has_its_median_and_its_sigma() -> None:
    distribution, generator = ChildSeconds("lognormal", 100.0, 0.5), random.Random(1)
    draws = sorted(distribution.draw(generator) for _ in range(20_000))
    assert draws[10_000] == pytest.approx(100.0, rel=0.03)
    assert draws[16_827] == pytest.approx(100.0 * 2.718281828**0.5, rel=0.03)  # one sigma above: 84.13 %


def test_rates_are_per_second() -> None:
    assert rate_of("0.05/h") == pytest.approx(0.05 / 3600)
    assert rate_of("0/h") == 0.0


@pytest.mark.parametrize("text", ["", "0.05", "-1/h", "1/w", "h", "1e999/h"])
def test_what_is_no_rate_is_told_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in 0\.05/h"):
        rate_of(text)
