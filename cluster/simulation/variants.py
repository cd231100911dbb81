"""What would help: the same cluster with one thing changed, to be simulated with fewer children. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.config.topology import MOST_PARTS
from cluster.simulation.conditions import Conditions
from cluster.simulation.search import workers_of

MOST_TRIED = 40_000
"""Children of all variants together: more would take minutes."""

TRIED = 24_000
"""The same where each has enough of them with less."""

ROUNDS = 3
"""Children for each that is in training at a time, at least: fewer are all start and end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One change: the flags that make it, and the run with them."""

    flags: str
    config: RunConfig


def variants(config: RunConfig, conditions: Conditions) -> list[Variant]:
    """The changes that could help such a run, as flags beside those that were given."""
    return [
        Variant(flags=_flags(changes), config=_changed(config, changes)) for changes in _changes(config, conditions)
    ]


def children_tried(config: RunConfig, count: int) -> int | None:
    """How many children each of so many variants is simulated with; `None`: that would take too long."""
    topology = config.topology
    wanted = max(TRIED // max(1, count), ROUNDS * max(workers_of(config), topology.replicas * topology.children))
    tried = min(config.max_children, wanted)
    return tried if tried * count <= MOST_TRIED else None


def _changes(config: RunConfig, conditions: Conditions) -> Iterator[dict[str, Any]]:
    topology, workers = config.topology, workers_of(config)
    at_once = topology.replicas * topology.children
    if topology.batching == "barrier" and topology.consistency != "sync":
        yield {"batching": "stream"}
    if 2 * topology.replicas <= MOST_PARTS:
        # With the workers as they are, or the workers grow with them.
        yield {"replicas": 2 * topology.replicas, "workers": workers}
        if 2 * workers <= MOST_PARTS:
            yield {"replicas": 2 * topology.replicas, "workers": 2 * workers}
    if workers < at_once and 2 * workers <= MOST_PARTS:
        yield {"workers": min(2 * workers, at_once)}
    if workers > 1:
        yield {"workers": workers * 3 // 4}
    if 2 * topology.shards <= MOST_PARTS:
        yield {"shards": 2 * topology.shards}
    if conditions.preempted_per_s and not config.failures.checkpoint_children:
        yield {"checkpoint_children": True}


def _flags(changes: dict[str, Any]) -> str:
    words = [f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in changes.items()]
    return " ".join(words)


def _changed(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    if "checkpoint_children" in changes:
        return replace(config, failures=replace(config.failures, **changes))
    return replace(config, topology=replace(config.topology, **changes))
