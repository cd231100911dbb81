"""The latency of a network: a median of several runs, after some that do not count (spec §19)."""

import time
from collections.abc import Callable
from statistics import median

import torch

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.build import ImageProblem, build
from child_trainer.regime import DEFAULT_REGIME, Regime
from child_trainer.threads import computing_with

WARM_UPS = 10
"""Runs that are not measured (spec §19)."""

RUNS = 50
"""Runs of which the latency is the median (spec §19)."""

BATCH_SIZE = 1
"""Images that a network classifies at once."""

Clock = Callable[[], float]
"""Returns a time in seconds, never less than before."""


def median_seconds(call: Callable[[], object], clock: Clock) -> float:
    """Return the median time of `RUNS` calls, after `WARM_UPS` that do not count."""
    seconds: list[float] = []
    for _ in range(WARM_UPS + RUNS):
        start = clock()
        call()
        seconds.append(clock() - start)
    return median(seconds[WARM_UPS:])


def latency_ms(
    architecture: Architecture,
    problem: ImageProblem,
    regime: Regime = DEFAULT_REGIME,
    *,
    device: str = "cpu",
    clock: Clock = time.perf_counter,
) -> float:
    """Return the time in ms in which an architecture's network classifies one image, without what prepares the image.

    The weights are random, as they do not matter to it. On a CPU it is measured with one thread, on a GPU up to the end
    of the computation.

    Args:
        architecture: of kind `feedforward`.
        problem: has the image's shape and the number of classes.
        regime: has the constants of batch normalisation.
        device: where it is measured, as PyTorch names it.
        clock: by which it is measured.

    Raises:
        InvalidArchitecture: the network cannot be built.
    """
    network = build(architecture, problem, generator=torch.Generator().manual_seed(0), regime=regime).eval().to(device)
    # As in training (`training.image_classifier`).
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (missing in PyTorch's stub)
    images = torch.zeros((BATCH_SIZE, *problem.input_shape), device=device)
    images = images.contiguous(memory_format=torch.channels_last)

    def classify() -> None:
        network(images)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    with computing_with(1), torch.inference_mode():
        return 1e3 * median_seconds(classify, clock)
