"""Judges the state of a cluster. Pure: facts in, findings out."""

from collections.abc import Mapping, Sequence

from cluster.doctor.finding import Finding
from cluster.formatting import counted
from cluster.placement.capacity import Node
from cluster.placement.cluster_state import ClusterFacts, Demand
from cluster.placement.node_check import DRAINING, GONE, NodeReport, complaints
from cluster.placement.versions import Versions

MAX_LISTED_NODES = 20
"""Nodes that are listed one by one; the others are counted."""

MIN_SHM = 256 * 2**20
"""Bytes below which /dev/shm is too small for Ray's object store."""

MIN_DISK = 2 * 2**30
"""Free bytes below which a disk is nearly full."""

UNITS = {"CPU": "core", "GPU": "GPU"}

HIDDEN_LABELS = ("ray.io/node-id", "ray.io/accelerator-type")


def cluster_findings(facts: ClusterFacts, ray: str, python: str) -> list[Finding]:
    """Return the findings on a reachable cluster: versions, nodes and lost nodes.

    Args:
        facts: the cluster's state.
        ray, python: exact versions of this process.
    """
    cores, gpus = sum(node.cores for node in facts.nodes), sum(node.gpus for node in facts.nodes)
    findings = [
        _versions(facts, ray, python),
        Finding(
            "OK" if facts.nodes else "FAIL",
            f"{counted(len(facts.nodes), 'node')}, {counted(cores, 'core')}, {counted(gpus, 'GPU')};"
            f" {'an' if facts.autoscaler else 'no'} autoscaler",
            "" if facts.nodes else "start nodes",
        ),
        *(_node(node) for node in facts.nodes[:MAX_LISTED_NODES]),
    ]
    if len(facts.nodes) > MAX_LISTED_NODES:
        findings.append(Finding("OK", f"and {len(facts.nodes) - MAX_LISTED_NODES} more nodes"))
    if facts.dead:
        dead = ", ".join(sorted(set(facts.dead))[:MAX_LISTED_NODES])
        findings.append(Finding("WARN", f"{counted(len(facts.dead), 'node')} lost since Ray was started: {dead}"))
    return findings


def demand_findings(facts: ClusterFacts) -> list[Finding]:
    """Return a finding for each resource demand that no node meets now, of all jobs."""
    return [waiting(f"{demand.count} of Ray's tasks or actors", demand, facts) for demand in facts.demands]


def waiting(waiters: str, demand: Demand, facts: ClusterFacts) -> Finding:
    """Return the finding on tasks or actors without resources: the reason, and the remedy."""
    needed = needs(demand.needs)
    labels = " and ".join(f"{key}={value}" for key, value in sorted(demand.labels.items()))
    what = f"{waiters} wait for resources: each needs {needed}" + (f" on a node with {labels}" if labels else "")
    if any(fits(node, demand.needs) for node in facts.nodes):
        return Finding(
            "WARN",
            f"{what}, and all of it is in use{' or on nodes with other labels' * bool(labels)}",
            "wait, end other jobs or add nodes",
        )
    most = {kind: max((_has(node, kind) for node in facts.nodes), default=0.0) for kind in demand.needs}
    largest = needs({kind: most[kind] for kind in demand.needs}, zeros=True)
    what += f", and the largest node has {largest}"
    if facts.autoscaler:
        return Finding("WARN", what, "the autoscaler has been asked for nodes; see `ray status` on the head")
    return Finding("FAIL", what, "add a node that is large enough, or launch with less (--gpus-per-child, --workers)")


def fits(node: Node, demand: Mapping[str, float]) -> bool:
    """Return whether an empty node could hold the demand; custom resources are ignored."""
    return all(_has(node, kind) >= amount for kind, amount in demand.items() if kind in (*UNITS, "memory"))


def needs(demand: Mapping[str, float], *, zeros: bool = False) -> str:
    """Return resources in words, such as `1 GPU and 2 cores`."""
    parts = []
    for kind, amount in sorted(demand.items(), key=lambda item: (item[0] == "memory", item[0] == "CPU", item[0])):
        if amount or zeros:
            parts.append(_resource(kind, amount))
    return " and ".join(parts) or "nothing but a node"


def node_findings(
    nodes: Sequence[Node], answers: Mapping[str, NodeReport | str], driver: Versions, data: bool
) -> list[Finding]:
    """Return the problems that the nodes' own checks report, or one finding that there are none.

    Args:
        nodes: the nodes that were checked.
        answers: report, or reason for its absence, by node id.
        driver: versions of this process.
        data: whether the check included the task's data.
    """
    findings = []
    for node in nodes:
        answer = answers.get(node.id, "was not checked")
        if isinstance(answer, str):
            remedy = "" if answer in (DRAINING, GONE) else "read Ray's logs on it, or restart it"
            findings.append(Finding("FAIL" if remedy else "WARN", f"node {node.address} {answer}", remedy))
            continue
        findings += [Finding("FAIL", f"node {node.address}: {text}") for text in complaints(driver, answer)]
        if answer.shm_free < MIN_SHM:
            what = f"node {node.address} has {size(answer.shm_free)} free in /dev/shm"
            findings.append(Finding("WARN", what, "give its container more (docker run --shm-size=2g)"))
        if answer.disk_free < MIN_DISK:
            what = f"node {node.address} has {size(answer.disk_free)} free where Ray keeps its files"
            findings.append(Finding("WARN", what, "free some space there"))
    if not findings:
        checks = f"versions, code, {'data, ' if data else ''}shared memory and disk are right"
        findings.append(Finding("OK", f"{counted(len(nodes), 'node')} checked: {checks}"))
    return findings


def _resource(kind: str, amount: float) -> str:
    if kind == "memory":
        return f"{size(amount)} memory"
    return counted(amount, UNITS[kind]) if kind in UNITS else f"{amount:g} {kind}"


def size(number: float) -> str:
    """Return a number of bytes in words, in MB or GB."""
    return f"{number / 2**30:.1f} GB" if number >= 2**30 else f"{number / 2**20:.0f} MB"


def _has(node: Node, kind: str) -> float:
    return {"CPU": node.cores, "GPU": node.gpus, "memory": float(node.memory or 0)}.get(kind, 0.0)


def _versions(facts: ClusterFacts, ray: str, python: str) -> Finding:
    if (facts.ray, facts.python) == (ray, python):
        return Finding("OK", f"it runs Ray {ray} on Python {python}, as this process does")
    text = f"it runs Ray {facts.ray} on Python {facts.python}, this process Ray {ray} on Python {python}"
    if facts.ray == ray and facts.python.split(".")[:2] == python.split(".")[:2]:
        return Finding("WARN", text, "use the same versions")
    return Finding("FAIL", text, "install the same versions on both sides: Ray refuses the connection otherwise")


def _node(node: Node) -> Finding:
    kind = f" ({node.gpu_kind})" if node.gpu_kind else ""
    memory = f", {size(node.memory)} memory" if node.memory else ""
    labels = [f"{key}={value}" for key, value in sorted(node.labels.items()) if key not in HIDDEN_LABELS]
    what = f"node {node.address}: {counted(node.cores, 'core')}, {counted(node.gpus, 'GPU')}{kind}{memory}"
    what += f", labels {' '.join(labels)}" if labels else ""
    if node.draining:
        return Finding("WARN", f"{what}; it is being drained", "nothing: its children are trained again on other nodes")
    return Finding("OK", what)
