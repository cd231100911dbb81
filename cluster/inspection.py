"""Asks every node of a joined cluster, before anything is written, whether it can take part in the run."""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config import RunConfig, TaskOptions
from cluster.doctor.run_facts import Session
from cluster.placement import Node
from cluster.preflight import NodeError, NodeReport, Versions, check_node, complaints, versions
from cluster.remote.storage import is_url
from cluster.texts import last_line

ANSWER_S = 60.0
"""Seconds in which a node answers; the start of a process that imports torchvision is part of it."""

FETCH_S = 3600.0
"""The same where each node first fetches a copy of the data."""

NAMED = 3
"""Nodes that an error names; the others are counted."""


def check_nodes(nodes: Sequence[Node], config: RunConfig, say: Callable[[str], object]) -> None:
    """Make sure that every node of a cluster which this driver has joined runs what the driver runs, and has the data.

    A node that does not answer in time is said, and its workers are checked when they start.

    Args:
        nodes: all of the cluster's.
        config: what they are to take part in.
        say: told of what is waited for, and of nodes that do not answer.

    Raises:
        NodeError: a node cannot take part; the message names it, and says what would be right.
    """
    fetches = config.task.data is not None and is_url(str(config.task.data))
    if fetches:
        say(f"{len(nodes)} node(s) fetch the data from {config.task.data}, where they have no copy of it ...")
    training = training_nodes(nodes, config.topology.gpus_per_child)
    answers = ask_nodes(nodes, config.task, training, FETCH_S if fetches else ANSWER_S)
    for node in nodes:
        if isinstance(answer := answers[node.id], str) and answer == SILENT:
            say(f"Node {node.address} {SILENT}; its workers are checked when they start")
    judge(nodes, answers, versions())


SILENT = "does not answer"


def judge(nodes: Sequence[Node], answers: dict[str, NodeReport | str], driver: Versions) -> None:
    """Raise `NodeError` if an answer says that its node cannot take part; silence says nothing."""
    bad = []
    for node in nodes:
        answer = answers[node.id]
        found = complaints(driver, answer) if isinstance(answer, NodeReport) else [answer] * (answer != SILENT)
        if found:
            bad.append(f"node {node.address} cannot take part: {'; it '.join(found)}")
    if bad:
        rest = f" (and {len(bad) - NAMED} more nodes)" if len(bad) > NAMED else ""
        raise NodeError("; ".join(bad[:NAMED]) + rest)


def training_nodes(nodes: Sequence[Node], gpus_per_child: float | None) -> frozenset[str]:
    """The ids of the nodes that children may be trained on: those with GPUs if children get any, or else with cores."""
    on_gpus = any(node.gpus for node in nodes) if gpus_per_child is None else gpus_per_child > 0
    return frozenset(node.id for node in nodes if (node.gpus if on_gpus else node.cores))


def ask_nodes(
    nodes: Sequence[Node], task: TaskOptions | None, training: frozenset[str], within_s: float
) -> dict[str, NodeReport | str]:
    """What each node says of itself, by its id, or why it does not; all are asked at the same time.

    Args:
        nodes: whom to ask.
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
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=within_s)
    for call in late:
        ray.cancel(call, force=True)
    return {asked[call]: _answer(call) for call in ready} | {asked[call]: SILENT for call in late}


def session() -> Session:
    """Where this driver's Ray is, for whoever asks why its run does not go on."""
    context = ray.get_runtime_context()
    return Session(address=context.gcs_address, job=context.get_job_id())


def _answer(call: ray.ObjectRef) -> NodeReport | str:
    try:
        return ray.get(call)
    except Exception as error:  # whatever its process died of, or could not import
        return f"cannot run a check: {last_line(str(error))}"
