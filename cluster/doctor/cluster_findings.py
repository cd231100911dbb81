"""What a cluster's facts mean. Pure: facts in, findings out."""

from collections.abc import Mapping, Sequence

from cluster.doctor.finding import Finding
from cluster.formatting import counted
from cluster.placement.capacity import Node
from cluster.placement.cluster_state import ClusterFacts, Demand
from cluster.placement.node_check import DRAINING, GONE, NodeReport, complaints
from cluster.placement.versions import Versions

SHOWN = 20
"""Nodes that are listed; the others are counted."""

MIN_SHM = 256 * 2**20
"""Bytes below which /dev/shm is too small for what Ray keeps there."""

MIN_DISK = 2 * 2**30
"""Bytes below which a disk is about to be full."""

UNITS = {"CPU": "core", "GPU": "GPU"}

HIDDEN_LABELS = ("ray.io/node-id", "ray.io/accelerator-type")


def cluster_findings(facts: ClusterFacts, ray: str, python: str) -> list[Finding]:
    """What is to say on a cluster that has answered.

    Args:
        facts: its answer.
        ray, python: exact versions here.
    """
    cores, gpus = sum(node.cores for node in facts.nodes), sum(node.gpus for node in facts.nodes)
    found = [
        _versions(facts, ray, python),
        Finding(
            "OK" if facts.nodes else "FAIL",
            f"{counted(len(facts.nodes), 'node')}, {counted(cores, 'core')}, {counted(gpus, 'GPU')};"
            f" {'an' if facts.autoscaler else 'no'} autoscaler",
            "" if facts.nodes else "start nodes",
        ),
        *(_node(node) for node in facts.nodes[:SHOWN]),
    ]
    if len(facts.nodes) > SHOWN:
        found.append(Finding("OK", f"and {len(facts.nodes) - SHOWN} more nodes"))
    if facts.dead:
        dead = ", ".join(sorted(set(facts.dead))[:SHOWN])
        found.append(Finding("WARN", f"{counted(len(facts.dead), 'node')} gone since Ray was started: {dead}"))
    return found


def demand_findings(facts: ClusterFacts) -> list[Finding]:
    """What tasks and actors wait for, of whatever job."""
    return [waiting(f"{demand.count} of Ray's tasks or actors", demand, facts) for demand in facts.demands]


def waiting(who: str, demand: Demand, facts: ClusterFacts) -> Finding:
    """Why something finds no place, and what would give it one."""
    wanted = needs(demand.needs)
    on = " and ".join(f"{key}={value}" for key, value in sorted(demand.labels.items()))
    what = f"{who} wait for a place: each needs {wanted}" + (f" on a node with {on}" if on else "")
    if any(fits(node, demand.needs) for node in facts.nodes):
        return Finding(
            "WARN",
            f"{what}, and all that is there is in use{' or labelled otherwise' * bool(on)}",
            "wait, end something else or add nodes",
        )
    most = {kind: max((_has(node, kind) for node in facts.nodes), default=0.0) for kind in demand.needs}
    largest = needs({kind: most[kind] for kind in demand.needs}, zeros=True)
    what += f", and the largest node has {largest}"
    if facts.autoscaler:
        return Finding("WARN", what, "the autoscaler is asked; `ray status` on the head says what it does")
    return Finding("FAIL", what, "add a node that has it, or launch with less (--gpus-per-child, --workers)")


def fits(node: Node, wanted: Mapping[str, float]) -> bool:
    """Whether an empty node would hold it; resources of other names than ours are not judged."""
    return all(_has(node, kind) >= amount for kind, amount in wanted.items() if kind in (*UNITS, "memory"))


def needs(wanted: Mapping[str, float], *, zeros: bool = False) -> str:
    """Resources for people: 1 GPU and 2 cores."""
    parts = []
    for kind, amount in sorted(wanted.items(), key=lambda item: (item[0] == "memory", item[0] == "CPU", item[0])):
        if amount or zeros:
            parts.append(_resource(kind, amount))
    return " and ".join(parts) or "nothing but a node"


def node_findings(
    nodes: Sequence[Node], answers: Mapping[str, NodeReport | str], driver: Versions, data: bool
) -> list[Finding]:
    """What the nodes say of themselves: only what is wrong, or that nothing is.

    Args:
        nodes: who was asked.
        answers: by the nodes' ids.
        driver: what this process runs.
        data: the task's data was asked for.
    """
    found = []
    for node in nodes:
        answer = answers.get(node.id, "was not asked")
        if isinstance(answer, str):
            do = "" if answer in (DRAINING, GONE) else "look at Ray's logs there, or restart it"
            found.append(Finding("FAIL" if do else "WARN", f"node {node.address} {answer}", do))
            continue
        found += [Finding("FAIL", f"node {node.address}: {text}") for text in complaints(driver, answer)]
        if answer.shm_free < MIN_SHM:
            what = f"node {node.address} has {size(answer.shm_free)} free in /dev/shm"
            found.append(Finding("WARN", what, "give its container more (docker run --shm-size=2g)"))
        if answer.disk_free < MIN_DISK:
            what = f"node {node.address} has {size(answer.disk_free)} free where Ray keeps its files"
            found.append(Finding("WARN", what, "make room there"))
    if not found:
        right = f"versions, code, {'data, ' if data else ''}shared memory and disk are right"
        found.append(Finding("OK", f"{counted(len(nodes), 'node')} asked: {right}"))
    return found


def _resource(kind: str, amount: float) -> str:
    if kind == "memory":
        return f"{size(amount)} memory"
    return counted(amount, UNITS[kind]) if kind in UNITS else f"{amount:g} {kind}"


def size(number: float) -> str:
    """Bytes for people."""
    return f"{number / 2**30:.1f} GB" if number >= 2**30 else f"{number / 2**20:.0f} MB"


def _has(node: Node, kind: str) -> float:
    return {"CPU": node.cores, "GPU": node.gpus, "memory": float(node.memory or 0)}.get(kind, 0.0)


def _versions(facts: ClusterFacts, ray: str, python: str) -> Finding:
    if (facts.ray, facts.python) == (ray, python):
        return Finding("OK", f"it runs Ray {ray} on Python {python}, as this process does")
    differ = f"it runs Ray {facts.ray} on Python {facts.python}, this process Ray {ray} on Python {python}"
    if facts.ray == ray and facts.python.split(".")[:2] == python.split(".")[:2]:
        return Finding("WARN", differ, "use equal versions")
    return Finding("FAIL", differ, "install equal versions here or there: Ray refuses to be joined")


def _node(node: Node) -> Finding:
    kind = f" ({node.gpu_kind})" if node.gpu_kind else ""
    memory = f", {size(node.memory)} memory" if node.memory else ""
    labels = [f"{key}={value}" for key, value in sorted(node.labels.items()) if key not in HIDDEN_LABELS]
    what = f"node {node.address}: {counted(node.cores, 'core')}, {counted(node.gpus, 'GPU')}{kind}{memory}"
    what += f", labels {' '.join(labels)}" if labels else ""
    if node.draining:
        return Finding("WARN", f"{what}; it is being drained", "nothing: its children are given back")
    return Finding("OK", what)
