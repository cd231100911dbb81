"""What the steps of a run's children exchange with the shards: bytes and calls of some steps that it would make."""

import math
import random
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor

from child_trainer.supernets.jobs import Steps
from child_trainer.supernets.network import SupernetNetwork
from cluster.config.run_config import RunConfig
from cluster.runners.build import initial_values, make_parameters
from cluster.runners.objective_steps import ObjectiveSteps
from cluster.runners.shared_weights import make_network
from cluster.search.steps import HalfStep
from cluster.simulation.steps_model import StepTraffic
from controller.searcher import Searcher, View, shared_weights_of
from controller.space import HasSupernet
from controller.strengths import strengths_in

VIEWS = 16
"""Places of the search at which its steps are counted, evenly spaced."""

STEPS = 10
"""Steps that are counted at each."""

NUMBER_BYTES = 4
"""Of a float32."""


def step_traffic(config: RunConfig) -> StepTraffic | None:
    """Return what a step of the run exchanges with the shards, on average; `None` if its children share no weights.

    The paths are those that the searcher samples before it has learnt anything.
    """
    searcher = config.make_searcher()
    shared = shared_weights_of(searcher)
    if shared is None:
        return None
    network = make_network(config, shared)
    given = strengths_in(initial_values(make_parameters(config, searcher)))
    counted = [
        _counted(half_steps, network, given)
        for job in _jobs(searcher, config)
        for half_steps in _steps_of(job, network, config)
    ]
    return StepTraffic(**{name: fmean(step[name] for step in counted) for name in counted[0]})


def _jobs(searcher: Searcher, config: RunConfig) -> Iterator[Steps]:
    """Yield jobs that the searcher proposes at some places of the search."""
    parameters = initial_values(make_parameters(config, searcher))
    schedule: Any = config.searcher_options
    children = [begun for begun in range(config.max_children) if (slot := schedule.slot(begun)) and slot.steps]
    for place in children[:: max(1, len(children) // VIEWS)][:VIEWS]:
        view = View(
            parameters=parameters,
            completed=place,
            history=tuple,
            pending=tuple,
            rng=random.Random(config.seed + place),
        )
        for proposal in searcher.ask(1, view):
            assert isinstance(proposal.job, Steps)
            yield proposal.job


def _steps_of(job: Steps, network: SupernetNetwork, config: RunConfig) -> Iterator[list[HalfStep]]:
    """Yield the half-steps of some of a job's steps."""
    space = cast(HasSupernet, config.search_space)
    paths = [{gate: torch.tensor(v) for gate, v in space.gates(path).items()} for path in job.paths[:STEPS]]
    rule = ObjectiveSteps(job, network, paths, _no_batches, config.seed, {})
    for step in range(min(job.count, STEPS)):
        yield rule.half_steps(step)


def _counted(half_steps: list[HalfStep], network: SupernetNetwork, given: Mapping[str, Tensor]) -> dict[str, float]:
    counts = dict.fromkeys(StepTraffic.__dataclass_fields__, 0.0)
    held = set[str]()  # as `cluster.search.steps` holds them
    for half in half_steps:
        names = half.names(given)
        moved = NUMBER_BYTES * sum(math.prod(network.shapes[name]) for name in names)
        if not held.issuperset(names):
            held = set(names)
            counts["pulls"] += 1
            counts["pulled_bytes"] += moved
        counts["strengths_pulls"] += bool(given)
        if "weights" in half.learns:
            counts["pushes"] += 1
            counts["pushed_bytes"] += moved
            held = set()
        counts["strengths_pushes"] += "strengths" in half.learns
    return counts


def _no_batches(purpose: str) -> Any:
    raise AssertionError(f"{purpose}: nothing is computed here")
