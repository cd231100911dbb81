"""Variants of a run, each with one change, that are simulated with fewer children. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.config.topology import MAX_PARTS
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.simulator import workers_of
from controller.searcher import shared_weights_of

MAX_TRIED = 40_000
"""Upper bound for the children of all variants together; more would take minutes."""

TYPICAL_TRIED = 24_000
"""Children of all variants together, unless a variant needs more for `MIN_ROUNDS`."""

MIN_ROUNDS = 3
"""Lower bound for children per training slot; with fewer there is no steady state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One change: the flags that make it, and the run with them."""

    flags: str
    config: RunConfig


def variants(config: RunConfig, model: ClusterModel) -> list[Variant]:
    """Return the variants that could help this run."""
    return [Variant(flags=_flags(changes), config=_changed(config, changes)) for changes in _changes(config, model)]


def children_per_variant(config: RunConfig, count: int) -> int | None:
    """Return the number of children for each of `count` variants; `None` if that would take too long."""
    topology = config.topology
    enough = max(
        TYPICAL_TRIED // max(1, count), MIN_ROUNDS * max(workers_of(config), topology.replicas * topology.children)
    )
    # The phases of a search on shared weights are not those of a shorter one.
    children = config.max_children if shared_weights_of(config.make_searcher()) else min(config.max_children, enough)
    return children if children * count <= MAX_TRIED else None


def _changes(config: RunConfig, model: ClusterModel) -> Iterator[dict[str, Any]]:
    topology, workers = config.topology, workers_of(config)
    at_once = topology.replicas * topology.children
    if topology.batching == "barrier" and topology.consistency != "sync":
        yield {"batching": "stream"}
    if 2 * topology.replicas <= MAX_PARTS:
        # With the same number of workers, or with twice as many.
        yield {"replicas": 2 * topology.replicas, "workers": workers}
        if 2 * workers <= MAX_PARTS:
            yield {"replicas": 2 * topology.replicas, "workers": 2 * workers}
    if workers < at_once and 2 * workers <= MAX_PARTS:
        yield {"workers": min(2 * workers, at_once)}
    if workers > 1:
        yield {"workers": workers * 3 // 4}
    if 2 * topology.shards <= MAX_PARTS:
        yield {"shards": 2 * topology.shards}
    if model.traffic and 2 * config.weights.weights_shards <= MAX_PARTS:
        yield {"weights_shards": 2 * config.weights.weights_shards}
    if model.preempted_per_s and not config.failures.checkpoint_children:
        yield {"checkpoint_children": True}


def _flags(changes: dict[str, Any]) -> str:
    words = [f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in changes.items()]
    return " ".join(words)


def _changed(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    if "checkpoint_children" in changes:
        return replace(config, failures=replace(config.failures, **changes))
    if "weights_shards" in changes:
        return replace(config, weights=replace(config.weights, **changes))
    return replace(config, topology=replace(config.topology, **changes))
