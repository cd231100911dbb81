"""Asks every node of a joined cluster, before anything is written, whether it can take part in the run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.formatting import last_line
from cluster.placement.capacity import Needs, Node, keeps_off_stable, room
from cluster.placement.node_check import GONE, LEAVING, SILENT, NodeReport, check_node, complaints
from cluster.placement.versions import NodeError, Versions, versions
from cluster.storage.dataset_cache import at_url, check_stored
from cluster.storage.session import Session

ANSWER_S = 60.0
"""Seconds in which a node answers; the start of a process that imports torchvision is part of it."""

FETCH_S = 3600.0
"""The same where each node first fetches a copy of the data."""

NAMED = 3
"""Nodes that an error names; the others are counted."""


def check_nodes(nodes: Sequence[Node], config: RunConfig, say: Callable[[str], object]) -> None:
    """Make sure that every node of a cluster which this driver has joined runs what the driver runs, and has the data.

    A node that does not answer in time, or is about to go, is said and keeps nobody from starting: its workers are
    checked when they start, if any ever do.

    Args:
        nodes: all of the cluster's.
        config: what they are to take part in.
        say: told of what is waited for, and of nodes that do not answer.

    Raises:
        NodeError: a node cannot take part; the message names it, and says what would be right.
        StorageError: no node that trains is there yet, and the data is not where such nodes would fetch it.
    """
    fetches = at_url(config.task.data)
    training = training_nodes(nodes, config.topology.gpus_per_child)
    if fetches and not training:
        check_stored(str(config.task.data))  # nobody else would see before such a node has come
    elif fetches:
        say(f"{len(training)} node(s) fetch the data from {config.task.data}, where they have no copy of it ...")
    answers = ask_nodes(nodes, config.task, training, FETCH_S if fetches else ANSWER_S)
    for node in nodes:
        if isinstance(answer := answers[node.id], str) and answer in EXCUSES:
            say(f"Node {node.address} {answer}; {EXCUSES[answer]}")
    judge(nodes, answers, versions())


EXCUSES = {
    SILENT: "its workers are checked when they start",
    LEAVING: "it gets no workers",
    GONE: "the others take part",
}
"""Why a node says nothing though nothing is wrong with it, and what that means for the run."""


def judge(nodes: Sequence[Node], answers: dict[str, NodeReport | str], driver: Versions) -> None:
    """Raise `NodeError` if an answer says that its node cannot take part; one of `EXCUSES` says nothing of that."""
    bad = []
    for node in nodes:
        answer = answers[node.id]
        found = complaints(driver, answer) if isinstance(answer, NodeReport) else [answer] * (answer not in EXCUSES)
        if found:
            bad.append(f"node {node.address} cannot take part: {'; it '.join(found)}")
    if bad:
        rest = f" (and {len(bad) - NAMED} more nodes)" if len(bad) > NAMED else ""
        raise NodeError("; ".join(bad[:NAMED]) + rest)


def training_nodes(nodes: Sequence[Node], gpus_per_child: float | None) -> frozenset[str]:
    """The ids of the nodes that children may be trained on, if nothing else is there: the others need no data."""
    each = float(any(node.gpus for node in nodes)) if gpus_per_child is None else gpus_per_child
    needs = Needs(gpus=each, off_stable=keeps_off_stable(nodes, each))
    return frozenset(node.id for node in nodes if room(replace(node, memory=None), needs))


def ask_nodes(
    nodes: Sequence[Node], task: TaskOptions | None, training: frozenset[str], within_s: float
) -> dict[str, NodeReport | str]:
    """What each node says of itself, by its id, or why it does not; all are asked at the same time.

    Args:
        nodes: whom to ask; one that is told to go takes no tasks any more.
        task: what the nodes of `training` must be able to load; `None` asks nobody.
        training: ids.
        within_s: the limit for all together, seconds.
    """
    ask: Any = ray.remote(num_cpus=0, max_retries=0)(check_node)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            task if node.id in training else None
        ): node.id
        for node in nodes
        if not node.draining
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=within_s) if asked else ([], [])
    for call in late:
        ray.cancel(call, force=True)
    said = {asked[call]: _answer(call) for call in ready} | {asked[call]: SILENT for call in late}
    return {node.id: said.get(node.id, LEAVING) for node in nodes}


def session() -> Session:
    """Where this driver's Ray is, for whoever asks why its run does not go on."""
    context = ray.get_runtime_context()
    return Session(address=context.gcs_address, job=context.get_job_id())


def _answer(call: ray.ObjectRef) -> NodeReport | str:
    try:
        return ray.get(call)
    except (TaskUnschedulableError, NodeDiedError):
        return GONE
    except Exception as error:  # whatever its process died of, or could not import
        return f"cannot run a check: {last_line(str(error))}"
