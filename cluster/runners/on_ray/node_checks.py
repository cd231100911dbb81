"""Asks every node of a joined cluster, before anything is written, whether it can take part in the run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import AUTO
from cluster.formatting import counted, last_line
from cluster.placement.capacity import Node, WorkerResources, keeps_off_stable, room
from cluster.placement.node_check import DRAINING, GONE, SILENT, NodeReport, check_node, complaints
from cluster.placement.versions import NodeError, Versions, versions
from cluster.pool.gpu_shares import MOST_PER_GPU
from cluster.storage.dataset_cache import at_url, check_stored
from cluster.storage.session import Session

ANSWER_TIMEOUT_S = 60.0
"""Timeout for a node's report; the start of a process that imports torchvision is part of it."""

FETCH_TIMEOUT_S = 3600.0
"""Timeout for a node's report where each node first fetches a copy of the data."""

MAX_NAMED = 3
"""The maximum of nodes that an error names; the others are counted."""


def check_nodes(nodes: Sequence[Node], config: RunConfig, report: Callable[[str], object]) -> None:
    """Check that every node of the joined cluster runs what the driver runs, and has the data.

    A node that does not answer in time, or that drains, is reported and does not end the launch: its workers are
    checked when they start, if any ever do.

    Args:
        nodes: all of the cluster's.
        config: of the run.
        report: called with a sentence on what the check waits for, and on nodes that do not answer.

    Raises:
        NodeError: a node cannot take part; the message names it, and says what would be right.
        StorageError: there is no node that trains yet, and the data is not where such nodes would fetch it.
    """
    fetches = at_url(config.task.data)
    training = training_nodes(nodes, config.topology.gpus_per_child)
    if fetches and not training:
        check_stored(str(config.task.data))  # otherwise the first such node would find out
    elif fetches:
        report(f"{counted(len(training), 'node')} must have the data from {config.task.data}; copying it if needed ...")
    answers = ask_nodes(nodes, config.task, training, FETCH_TIMEOUT_S if fetches else ANSWER_TIMEOUT_S)
    for node in nodes:
        if isinstance(answer := answers[node.id], str) and answer in EXCUSES:
            report(f"Node {node.address} {answer}; {EXCUSES[answer]}")
    judge(nodes, answers, versions())


EXCUSES = {
    SILENT: "its workers are checked when they start",
    DRAINING: "it gets no workers",
    GONE: "the others take part",
}
"""Why a node may send no report though nothing is wrong with it, and what that means for the run."""


def judge(nodes: Sequence[Node], answers: dict[str, NodeReport | str], driver: Versions) -> None:
    """Raise `NodeError` if a node cannot take part, by its answer; one of `EXCUSES` is no reason."""
    bad = []
    for node in nodes:
        answer = answers[node.id]
        reasons = complaints(driver, answer) if isinstance(answer, NodeReport) else [answer] * (answer not in EXCUSES)
        if reasons:
            bad.append(f"node {node.address} cannot take part: {'; it '.join(reasons)}")
    if bad:
        rest = f" (and {len(bad) - MAX_NAMED} more nodes)" if len(bad) > MAX_NAMED else ""
        raise NodeError("; ".join(bad[:MAX_NAMED]) + rest)


def training_nodes(nodes: Sequence[Node], gpus_per_child: float | Literal["auto"] | None) -> frozenset[str]:
    """Return the ids of the nodes that children may be trained on; the others need no data."""
    each = 1.0 / MOST_PER_GPU if gpus_per_child == AUTO else gpus_per_child
    if each is None:
        each = float(any(node.gpus for node in nodes))
    resources = WorkerResources(gpus=each, off_stable=keeps_off_stable(nodes, each))
    return frozenset(node.id for node in nodes if room(replace(node, memory=None), resources))


def ask_nodes(
    nodes: Sequence[Node], task: TaskOptions | None, training: frozenset[str], timeout_s: float
) -> dict[str, NodeReport | str]:
    """Return each node's report, by the node's id, or why it sent none; all nodes are asked at the same time.

    Args:
        nodes: to ask; a draining one accepts no tasks.
        task: that the nodes of `training` must be able to load; `None` for none.
        training: ids.
        timeout_s: for all together, seconds.
    """
    ask: Any = ray.remote(num_cpus=0, max_retries=0)(check_node)
    calls = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            task if node.id in training else None
        ): node.id
        for node in nodes
        if not node.draining
    }
    ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=timeout_s) if calls else ([], [])
    for call in late:
        ray.cancel(call, force=True)
    answers = {calls[call]: _answer(call) for call in ready} | {calls[call]: SILENT for call in late}
    return {node.id: answers.get(node.id, DRAINING) for node in nodes}


def session() -> Session:
    """Return where this driver's Ray is, for a doctor that examines the run."""
    context = ray.get_runtime_context()
    return Session(address=context.gcs_address, job=context.get_job_id())


def _answer(call: ray.ObjectRef) -> NodeReport | str:
    try:
        return ray.get(call)
    except (TaskUnschedulableError, NodeDiedError):
        return GONE
    except Exception as error:  # of any kind: its process died, or an import failed
        return f"cannot run a check: {last_line(str(error))}"
