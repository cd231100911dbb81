"""The latency of a network: the median of 50 runs after 10 warm-ups, by a clock that is given."""

from collections.abc import Iterator

import pytest

from child_trainer.networks.latency import BATCH_SIZE, RUNS, WARM_UPS, latency_ms, median_seconds
from tests.contracts.evaluator import architecture


class Digits:
    input_shape = (3, 8, 8)
    num_classes = 10


def ticking(seconds: list[float]) -> Iterator[float]:
    """Yield the times at which runs of so many seconds begin and end, one after another, a second apart."""
    now = 100.0
    for run in seconds:
        yield now
        now += run
        yield now
        now += 1.0


def test_it_is_the_median_of_50_runs_after_10_that_do_not_count() -> None:
    assert (WARM_UPS, RUNS, BATCH_SIZE) == (10, 50, 1)
    # Slow warm-ups and a few slow runs leave the median as it is: half of the runs take 2 s, the others 4 s or more.
    runs = [90.0] * 10 + [2.0] * 25 + [4.0] * 20 + [77.0] * 5
    calls: list[None] = []
    assert median_seconds(lambda: calls.append(None), ticking(runs).__next__) == pytest.approx(3.0)
    assert len(calls) == 60


def test_a_networks_latency_is_in_ms_and_takes_the_clock() -> None:
    runs = [1.0] * 10 + [0.005] * 50
    clock = ticking(runs)
    assert latency_ms(architecture(), Digits(), clock=clock.__next__) == pytest.approx(5.0)
    assert next(clock, None) is None
    assert latency_ms(architecture(), Digits()) > 0
