"""Scores of random architectures with the weights that a run's children share."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Failure
from child_trainer.supernets.jobs import Score
from cluster.config.flags import UsageError
from cluster.config.run_config import RunConfig
from cluster.runners.job_trainer import JobTrainer
from cluster.runners.shared_weights import make_weights, weights_layout
from cluster.runners.trainer import loaded_task
from cluster.search.evaluator import Assignment
from cluster.search.seeding import derive
from controller.decisions import Tokens
from controller.space import SearchSpace, first_tokens
from ps.local import LocalStore

DRAWS = 100
"""How many samples are drawn at most for each architecture that is wanted."""

IDLE_DRAWS = 10
"""After so many samples for each different one so far, none of them new, no more are drawn; at least `FEWEST_DRAWS`."""

FEWEST_DRAWS = 1_000

REFIT_BATCHES = 8
"""Batches of training images to refit batch normalisation on, where the searcher itself refits on none."""


class Sample(NamedTuple):
    """A sample of a space, and its architecture."""

    tokens: Tokens
    architecture: Architecture


class Scored(NamedTuple):
    """A sample, and what may predict how good it is.

    Attributes:
        sample: with its architecture.
        refit: its score after batch normalisation was refit.
        likelihood: of an image's right class, 0 to 1, likewise: the geometric mean, which is exp(-loss).
        plain: its score with the statistics of each batch of validation images.
        parameters, flops: of its network.
    """

    sample: Sample
    refit: float
    likelihood: float
    plain: float
    parameters: int
    flops: int


def draw(space: SearchSpace, count: int, seed: int, wanted: Callable[[Sample], bool]) -> list[Sample]:
    """Return so many random samples with different architectures; with a larger count, the same come first.

    Args:
        space: where to draw.
        count: how many.
        seed: of the draws.
        wanted: says of a sample whether it counts.

    Raises:
        UsageError: so many are not found.
    """
    rng, found, met, drawn = random.Random(seed), list[Sample](), set[str](), set[Tokens]()
    draws = idle = 0
    while len(found) < count and draws < DRAWS * count and idle < max(FEWEST_DRAWS, IDLE_DRAWS * len(drawn)):
        tokens = first_tokens(space, 0, rng)
        draws, idle = draws + 1, idle + 1
        if tokens in drawn:
            continue
        drawn.add(tokens)
        idle = 0
        sample = Sample(tokens, space.decode(tokens))
        if sample.architecture.id not in met:
            met.add(sample.architecture.id)
            found += [sample] if wanted(sample) else []
    if len(found) == count:
        return found
    known = "" if len(found) == len(met) else f", and the truth is known of {len(found):,} of them"
    raise UsageError(
        f"`--children` must be at most {len(found):,} here, got {count:,}: {draws:,} random samples of the space have"
        f" {len(met):,} different architectures{known}"
    )


def score_all(
    config: RunConfig, weights: Mapping[str, Tensor], samples: Sequence[Sample], *, device: str = "cpu"
) -> Iterator[Scored | Failure]:
    """Yield each sample's scores with these weights, or why it has none. Each is scored as a child of the run is.

    All are refit on the same images, so that chance favours none.

    Args:
        config: the run whose children share the weights.
        weights: all of them, by name.
        samples: what to score.
        device: where to compute, as PyTorch names it.

    Raises:
        TaskError, StorageError: the run's data cannot be loaded here.
    """
    first = make_weights(config, config.make_searcher())
    assert first is not None
    store = LocalStore(weights_layout(config, "correlation", first))
    store.initialize(weights)
    task = loaded_task(config.task, seed=derive(config.seed, "split"), device=device)
    trainer = JobTrainer(config, task, store, device=device)
    refit_batches = getattr(config.searcher_options, "refit_batches", 0) or REFIT_BATCHES
    for number, sample in enumerate(samples, start=1):
        child = Assignment(
            child_id=number,
            seed=derive(config.seed, "correlation"),
            architecture=sample.architecture,
            tokens=sample.tokens,
        )
        jobs = (replace(child, job=Score(settings={"refit_batches": batches})) for batches in (refit_batches, 0))
        refit, plain = (trainer.do(each, batch_size=config.budget.batch_size) for each in jobs)
        if failure := refit.failure or plain.failure:
            yield failure
            continue
        yield Scored(
            sample,
            refit=refit.metric or 0.0,
            likelihood=math.exp(-refit.measurements["loss"]),
            plain=plain.metric or 0.0,
            parameters=refit.parameters or 0,
            flops=refit.flops or 0,
        )
