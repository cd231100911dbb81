"""The examination: gathers the facts, in the order in which one thing rests on another, and has them judged."""

import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from cluster.config.locations import is_url
from cluster.config.run_config import RunConfig
from cluster.doctor.cluster_findings import MIN_DISK, MIN_SHM, cluster_findings, demand_findings, node_findings, size
from cluster.doctor.credential_findings import credentials
from cluster.doctor.finding import Finding, Section
from cluster.doctor.run_facts import RunFacts, read_run
from cluster.doctor.run_findings import actor_findings, run_findings
from cluster.placement.cluster_state import ClusterFacts
from cluster.placement.node_check import check_data
from cluster.placement.versions import versions
from cluster.runners.on_ray.probe_head import ClusterError, Refusal, check_address, probe_head
from cluster.runners.on_ray.probe_nodes import probe_nodes
from cluster.storage.dataset_cache import at_url
from cluster.storage.run_folder import RunFolder
from cluster.storage.session import Session


def examine(storage_path: str, folder: RunFolder | None) -> list[Section]:
    """Everything that is to say on this machine, its cluster and, if one is given, a run.

    Args:
        storage_path: of all runs.
        folder: the run's.

    Raises:
        RunFolderError: the run's files are damaged.
    """
    sections: list[Section] = [("This machine", [*_machine(storage_path), *credentials(os.environ)])]
    config = run = session = None
    if folder is not None:
        config = folder.read_config()
        run, session = read_run(folder, config, time.time()), Session.read(folder)
        sections.insert(0, (f"Run {folder.name} in {folder.place}", run_findings(run)))
    if config is not None and config.local:
        return [
            *sections,
            ("Ray", [Finding("OK", "the run is --local: one process, which needs no Ray")]),
            _data(config),
        ]
    return [*sections, *_cluster(config, run, session)]


def _cluster(config: RunConfig | None, run: RunFacts | None, session: Session | None) -> list[Section]:
    heading, address, first = _which(session if run and run.state == "running" else None)
    if run is not None and run.state == "running" and session is None:
        first = [_ELSEWHERE, *first]
    if address is None:
        return [(heading, first), *([_data(config)] if config else [])]
    answer = probe_head(address)
    if isinstance(answer, Refusal):
        return [(heading, [*first, _refused(answer, run)])]
    found = [*first, *cluster_findings(answer, version("ray"), platform.python_version())]
    sections: list[Section] = [(heading, found)]
    if run is not None and session is not None and run.state == "running":
        actors = [actor for actor in answer.actors if actor.job == session.job]
        sections.append(("The run's actors", actor_findings(run, actors, answer)))
    elif answer.demands:
        sections.append(("What Ray's tasks and actors wait for", demand_findings(answer)))
    return [*sections, ("Its nodes, asked one by one", _nodes(address, answer, config))]


_ELSEWHERE = Finding(
    "WARN",
    "where the run's Ray is, only its driver's machine knows: what follows is of the one that a launch from here uses",
    "ask there, or set RAY_ADDRESS to the run's",
)
"""Of a run that another machine drives, or whose driver has not come to its Ray yet."""


def _refused(answer: Refusal, run: RunFacts | None) -> Finding:
    what, do = f"it cannot be asked: {answer.reason}", answer.do
    if (run is not None and run.state == "running") or os.environ.get("RAY_ADDRESS"):
        return Finding("FAIL", what, do)
    if answer.foreign:
        return Finding("WARN", f"{what}; a launch leaves it alone and starts one of its own", do)
    # A run that has ended needs no Ray.
    return Finding("FAIL" if run is None else "WARN", what, do)


def _which(session: Session | None) -> tuple[str, str | None, Sequence[Finding]]:
    """A heading, the address of the head that is to be asked, and what is to say before."""
    if session is not None:
        return f"Ray at {session.address}, where the run is", session.address, []
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return "Ray", None, [Finding("OK", "RAY_ADDRESS is local: a launch starts a Ray of its own on this machine")]
    return _named(named) if named and named != "auto" else _found(named)


def _named(address: str) -> tuple[str, str | None, Sequence[Finding]]:
    try:
        return f"Ray at {check_address(address)} (RAY_ADDRESS)", address, []
    except ClusterError as error:
        return "Ray", None, [Finding("FAIL", str(error), "start it, or name another address")]


def _found(named: str | None) -> tuple[str, str | None, Sequence[Finding]]:
    from cluster.runners.on_ray.join_cluster import listening_here

    if here := listening_here():
        return f"Ray at {here}, which runs on this machine", here, []
    if named:
        return "Ray", None, [Finding("FAIL", "RAY_ADDRESS is auto, but no Ray runs on this machine", "unset it")]
    return "Ray", None, [Finding("OK", "none runs on this machine: a launch starts one of its own")]


def _nodes(address: str, facts: ClusterFacts, config: RunConfig | None) -> list[Finding]:
    if config is not None and at_url(config.task.data):  # to look for it there is to copy it
        return [*_nodes(address, facts, None), *_data(config)[1]]
    answers = probe_nodes(address, config, asks_token=facts.asks_token)
    if isinstance(answers, str):
        return [Finding("WARN", f"they could not be asked: {answers}", "run this on a node of the cluster")]
    staying = [node for node in facts.nodes if not node.draining]  # no task can be sent to the others
    return node_findings(staying, answers, versions(), config is not None)


def _data(config: RunConfig) -> Section:
    if at_url(config.task.data):
        what = f"the data comes from {config.task.data}: each node copies it when it is first used there"
        return "Data", [Finding("OK", what)]
    try:
        check_data(replace(config.task, download=False))  # a doctor only looks
    except ValueError as error:
        return "Data", [Finding("FAIL", str(error), "put it there")]
    return "Data", [Finding("OK", f"the task {config.task.task!r} can be loaded here")]


def _machine(storage_path: str) -> list[Finding]:
    here = versions()
    found = [
        Finding(
            "OK",
            f"Python {platform.python_version()}, Ray {here.ray}, PyTorch {here.torch}, nascluster code {here.code};"
            f" {os.cpu_count()} cores",
        )
    ]
    if not is_url(storage_path):
        found.append(_room(Path(storage_path).expanduser(), MIN_DISK, "where the runs are"))
    if Path("/dev/shm").exists():
        found.append(_room(Path("/dev/shm"), MIN_SHM, "shared memory, which Ray needs"))
    return found


def _room(folder: Path, least: int, what: str) -> Finding:
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    text = f"{size(free)} free in {folder} ({what})"
    if not os.access(there, os.W_OK):
        return Finding("FAIL", f"{folder} cannot be written", "name another folder with --storage-path")
    return Finding("OK", text) if free >= least else Finding("WARN", text, "make room")
