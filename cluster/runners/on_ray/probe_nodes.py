"""Asks the nodes of a cluster for their reports, in a process of its own, which joins the cluster for a moment.

`python -m cluster.runners.on_ray.probe_nodes HOST:PORT` reads the task's options from the standard input and prints the
answers.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.formatting import last_line
from cluster.placement.node_check import NodeReport
from cluster.placement.versions import Versions
from cluster.runners.on_ray.credentials import sending_token
from cluster.runners.on_ray.probe_process import run_probe

ANSWER_TIMEOUT_S = 90.0
"""Timeout for the probe process."""

REPORTS_TIMEOUT_S = 60.0
"""Timeout for the reports of all nodes within the probe process."""

Answers = Mapping[str, NodeReport | str]


def probe_nodes(
    address: str, config: RunConfig | None, timeout_s: float = ANSWER_TIMEOUT_S, *, asks_token: bool = False
) -> Answers | str:
    """Return the nodes' reports, by their ids, or why they could not be asked.

    Args:
        address: host:port of the head.
        config: of the run whose task they must be able to load; `None` for none.
        timeout_s: for all reports, seconds.
        asks_token: see `ClusterFacts`.
    """
    environment = sending_token(os.environ) if asks_token else os.environ
    task = json.dumps(config and config.to_json())
    try:
        done = run_probe("cluster.runners.on_ray.probe_nodes", address, timeout_s, environment=environment, given=task)
    except subprocess.TimeoutExpired:
        return f"no answer in {timeout_s:g} s"
    if done.returncode:
        return last_line(done.stdout) or last_line(done.stderr)
    return {node: _report(answer) for node, answer in json.loads(done.stdout.splitlines()[-1]).items()}


def _report(answer: Any) -> NodeReport | str:
    if isinstance(answer, str):
        return answer
    return NodeReport(**{**answer, "versions": Versions(**answer["versions"])})


def main() -> None:
    """Run as the probe process."""
    import ray

    from cluster.runners.on_ray.cluster_inventory import nodes
    from cluster.runners.on_ray.code_shipping import shipped
    from cluster.runners.on_ray.node_checks import ask_nodes, training_nodes

    given = json.load(sys.stdin)
    config = None if given is None else RunConfig.from_json(given)
    try:
        with shipped(os.environ) as runtime_env:
            ray.init(address=sys.argv[1], runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
        staying = [node for node in nodes() if not node.draining]  # draining nodes accept no tasks
        training = training_nodes(staying, config.topology.gpus_per_child) if config else frozenset[str]()
        answers = ask_nodes(staying, config and config.task, training, REPORTS_TIMEOUT_S)
    except Exception as error:  # of any kind: its text is the answer
        print(" ".join(str(error).split()))
        sys.exit(1)
    print(json.dumps({node: answer if isinstance(answer, str) else asdict(answer) for node, answer in answers.items()}))


if __name__ == "__main__":
    main()
