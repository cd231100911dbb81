"""Parsing of distributions and rates."""

import math
import random
import statistics

import pytest

from cluster.simulation.distributions import ChildSeconds, parse_child_seconds, parse_rate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lognormal:3600:0.5", ChildSeconds("lognormal", 3600.0, 0.5)),
        ("exponential:60", ChildSeconds("exponential", 60.0)),
        ("constant:.5", ChildSeconds("constant", 0.5)),
    ],
)
def test_distributions_are_parsed(text: str, expected: ChildSeconds) -> None:
    assert parse_child_seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "3600", "lognormal:3600", "lognormal:3600:x", "lognormal:1:-1", "constant:0", "constant:1:2", "normal:1:2",
     "exponential:1e999", "exponential:nan"],
)  # fmt: skip
def test_bad_distributions_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"lognormal:MEDIAN:SIGMA.*as in lognormal:3600:0\.5"):
        parse_child_seconds(text)


@pytest.mark.parametrize("text", ["lognormal:3600:11", "lognormal:2e9:0.5", "constant:1e300"])
def test_children_that_never_end_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must have at most 1,000,000,000 seconds and a sigma of 10"):
        parse_child_seconds(text)


@pytest.mark.parametrize("text", ["lognormal:100:0.5", "exponential:100", "constant:100"])
def test_draws_have_the_right_mean(text: str) -> None:
    distribution, generator = parse_child_seconds(text), random.Random(1)
    draws = [distribution.draw(generator) for _ in range(20_000)]
    assert statistics.fmean(draws) == pytest.approx(
        distribution.scale_s * math.exp(distribution.sigma**2 / 2), rel=0.03
    )


def test_a_lognormal_has_the_right_median_and_sigma() -> None:
    distribution, generator = ChildSeconds("lognormal", 100.0, 0.5), random.Random(1)
    draws = sorted(distribution.draw(generator) for _ in range(20_000))
    assert draws[10_000] == pytest.approx(100.0, rel=0.03)
    assert draws[16_827] == pytest.approx(100.0 * 2.718281828**0.5, rel=0.03)  # one sigma above: 84.13 %


def test_rates_are_per_second() -> None:
    assert parse_rate("0.05/h") == pytest.approx(0.05 / 3600)
    assert parse_rate("0/h") == 0.0


@pytest.mark.parametrize("text", ["", "0.05", "-1/h", "1/w", "h", "1e999/h"])
def test_bad_rates_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in 0\.05/h"):
        parse_rate(text)
