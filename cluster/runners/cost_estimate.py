"""Estimates how long a child trains before any has ended, to the order of magnitude."""

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.language_options import LanguageOptions
from child_trainer.tasks.entry import ImageProblem
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.run_config import RunConfig
from cluster.formatting import counted, duration
from cluster.storage.run_folder import RunFolder
from controller.space import first_tokens
from controller.zoo.entry import Images

CORE_FLOPS = 5e10
"""Floating-point operations a second with which one core trains: small networks in float32, as measured here."""

GPU_FLOPS = 5e12
"""Such operations of a GPU; small networks use a fraction of its peak."""

PASSES = 3
"""Cost of a training step in forward passes: one forward, two backward."""

WORDS_SLOWDOWN = 4
"""How much slower recurrent cells compute than convolutions: word after word, in small products."""

STAGES, SAMPLES = 4, 1
"""Points of the search at which networks are sampled, as some spaces grow with it, and networks at each."""

VOCABULARY = 10_000
"""Words of a text whose vocabulary is not limited."""

MIN_REPORTED_S = 600.0
"""Shorter searches are not announced: their display has an estimate soon enough."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds in which one worker trains a child, and how they are known."""

    seconds: float
    basis: str


def estimate(config: RunConfig, *, gpu: bool) -> Estimate | None:
    """Return an estimate for a run's children; `None` if they take no time or the task's size is unknown.

    Args:
        config: the run's.
        gpu: whether a GPU trains them.
    """
    options, budget = config.task.options, config.budget
    if isinstance(options, SyntheticOptions):
        mean = options.child_seconds * math.exp(options.child_spread**2 / 2)
        return Estimate(mean, "as `--child-seconds` says") if mean else None
    examples = config.task.entry.examples
    if examples is None:
        return None
    operations = [flops for flops in map(_flops_of(config), _samples(config)) if flops]
    if not operations:
        return None
    speed = GPU_FLOPS if gpu else CORE_FLOPS * config.topology.threads_per_child
    speed /= WORDS_SLOWDOWN if isinstance(options, LanguageOptions) else 1
    seconds = PASSES * fmean(operations) * examples * budget.train_fraction * budget.epochs / speed
    limits = [s for s in (config.failures.rules.child_timeout_s, budget.max_seconds) if s is not None]
    return Estimate(min([seconds, *limits]), "judged by the FLOPs of random networks")


def announce(config: RunConfig, folder: RunFolder, workers: int, report: Callable[[str], object], *, gpu: bool) -> None:
    """Keep the estimate in the run's folder for `status` and `doctor`, and report what a long search would take."""
    found = None
    with suppress(Exception):  # for a space of the user's own: an estimate must not keep a search from starting
        found = estimate(config, gpu=gpu)
    if found is None:
        return
    with suppress(OSError):  # the search does not need the file
        folder.estimate.write_text(json.dumps({"child_seconds": found.seconds, "basis": found.basis}) + "\n")
    total = config.max_children * found.seconds / workers
    if total >= MIN_REPORTED_S:
        report(
            f"Rough estimate: the search takes about {duration(total)} on {counted(workers, 'worker')}:"
            f" {counted(config.max_children, 'child')} of about {duration(found.seconds)} each ({found.basis})."
            " It is shorter with fewer children or epochs, less of the training data or more workers"
            " (--max-children, --epochs, --train-fraction, --workers)"
        )


def _samples(config: RunConfig) -> Iterator[Architecture]:
    space, rng = config.search_space, random.Random(0)
    for stage in range(STAGES):
        for _ in range(SAMPLES):
            yield space.decode(first_tokens(space, config.max_children * stage // STAGES, rng))


def _flops_of(config: RunConfig) -> Callable[[Architecture], float | None]:
    """Return the function that gives the FLOPs of a forward pass on one example, `None` where they are unknown."""
    problem, options = config.task.entry.problem, config.task.options
    if problem is not None:
        return lambda architecture: _image_flops(architecture, problem)
    if isinstance(options, LanguageOptions):
        return lambda architecture: _word_flops(architecture, options)
    return lambda architecture: None


def _image_flops(architecture: Architecture, problem: ImageProblem) -> float | None:
    import torch

    from child_trainer.networks import cost
    from child_trainer.networks.build import build

    try:
        network = build(architecture, Images(input_shape=problem.shape, num_classes=problem.classes))
    except InvalidArchitecture:
        return None
    return cost.flops(network, torch.empty((1, *problem.shape), device="meta"))


def _word_flops(cell: Architecture, options: LanguageOptions) -> float:
    """Return the FLOPs of one word: two for each weight of the layers' linear maps and of the prediction.

    Without a given width, about half of the target parameters are the embedding's, which costs nothing.
    """
    if options.hidden_size is None:
        return 2 * options.target_parameters * (1.0 if options.tied_embeddings else 0.5)
    width, maps = options.hidden_size, sum(n.op == "linear" for n in cell.live_nodes())
    return 2 * width * (options.cell_layers * maps * width + (options.max_vocabulary or VOCABULARY))
