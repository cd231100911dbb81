"""What the head of a cluster knows, as plain data that processes can exchange. Standard library only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.placement.capacity import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """One actor.

    Attributes:
        name: as in `cluster.runners.on_ray.handles`; the class's name where it has none.
        state: Ray's: DEPENDENCIES_UNREADY, PENDING_CREATION, ALIVE, RESTARTING or DEAD.
        job: the driver's number in the cluster, hexadecimal.
        address, pid: where its process is or was; no address while an actor that restarts has no place.
        restarts: the number of its restarts.
        needs: the resources that it requests.
        labels: conditions on its node's labels, in Ray's words.
        reason: why it is dead, one line.
    """

    name: str
    state: str
    job: str
    address: str
    pid: int
    restarts: int
    needs: Mapping[str, float]
    labels: Mapping[str, str]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What tasks and actors wait for: `count` times the resources `needs`, on a node with these labels."""

    needs: Mapping[str, float]
    count: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterFacts:
    """The head's answer.

    Attributes:
        ray, python: exact versions that the cluster was started with.
        nodes: the live ones.
        dead: addresses of the dead ones.
        actors, demands: of all jobs.
        autoscaler: whether it can add nodes by itself.
        asks_token: whether it answered only with the token that `sending_token` found.
    """

    ray: str
    python: str
    nodes: tuple[Node, ...]
    dead: tuple[str, ...]
    actors: tuple[Actor, ...]
    demands: tuple[Demand, ...]
    autoscaler: bool
    asks_token: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain data, from which `from_json` makes equal facts."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "ClusterFacts":
        """Return the facts that `to_json` wrote."""
        kinds = {"nodes": Node, "actors": Actor, "demands": Demand}
        parts = {name: tuple(kind(**item) for item in data[name]) for name, kind in kinds.items()}
        return ClusterFacts(**{**data, **parts, "dead": tuple(data["dead"])})
