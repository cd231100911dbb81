"""Runs all checks of `nascluster doctor`, each after those that it depends on."""

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
from cluster.formatting import counted
from cluster.placement.cluster_state import ClusterFacts
from cluster.placement.cores import usable_cores
from cluster.placement.node_check import check_data
from cluster.placement.versions import versions
from cluster.runners.on_ray.probe_head import ClusterError, Refusal, check_address, probe_head
from cluster.runners.on_ray.probe_nodes import probe_nodes
from cluster.storage.dataset_cache import at_url
from cluster.storage.run_folder import RunFolder
from cluster.storage.session import Session


def examine(storage_path: str, folder: RunFolder | None) -> list[Section]:
    """Check this machine, its cluster and, if one is given, a run.

    Args:
        storage_path: where runs are stored.
        folder: the run's folder.

    Raises:
        RunFolderError: the run's files are damaged.
    """
    sections: list[Section] = [("This machine", [*_machine(storage_path), *credentials(os.environ)])]
    config = run = session = None
    if folder is not None:
        known = folder.read_known()
        run, session = read_run(folder, known.config, time.time()), Session.read(folder)
        sections.insert(0, (f"Run {folder.name} in {folder.place}", run_findings(run)))
        config = None if known.unknown else known.config  # what is unknown cannot be checked
        if run.local:
            ray = ("Ray", [Finding("OK", "the run is --local: one process, which needs no Ray")])
            return [*sections, ray, *([_data(known.config)] if known.knows_task else [])]
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
    findings = [*first, *cluster_findings(answer, version("ray"), platform.python_version())]
    sections: list[Section] = [(heading, findings)]
    if run is not None and session is not None and run.state == "running":
        actors = [actor for actor in answer.actors if actor.job == session.job]
        sections.append(("The run's actors", actor_findings(run, actors, answer)))
    elif answer.demands:
        sections.append(("What Ray's tasks and actors wait for", demand_findings(answer)))
    return [*sections, ("Its nodes, checked one by one", _nodes(address, answer, config))]


_ELSEWHERE = Finding(
    "WARN",
    "only the driver's machine knows the address of the run's Ray: what follows is about the Ray that a launch uses",
    "run this on the driver's machine, or set RAY_ADDRESS to the run's Ray",
)
"""The finding on a run that another machine drives, or whose driver has not reached its Ray yet."""


def _refused(answer: Refusal, run: RunFacts | None) -> Finding:
    what, remedy = f"it cannot be queried: {answer.reason}", answer.do
    if (run is not None and run.state == "running") or os.environ.get("RAY_ADDRESS"):
        return Finding("FAIL", what, remedy)
    if answer.foreign:
        return Finding("WARN", f"{what}; a launch ignores it and starts its own Ray", remedy)
    # A run that has ended needs no Ray.
    return Finding("FAIL" if run is None else "WARN", what, remedy)


def _which(session: Session | None) -> tuple[str, str | None, Sequence[Finding]]:
    """Return a heading, the address of the head to query (`None`: none), and first findings."""
    if session is not None:
        return f"Ray at {session.address}, where the run is", session.address, []
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return "Ray", None, [Finding("OK", "RAY_ADDRESS is local: a launch starts its own Ray on this machine")]
    return _named(named) if named and named != "auto" else _found(named)


def _named(address: str) -> tuple[str, str | None, Sequence[Finding]]:
    try:
        return f"Ray at {check_address(address)} (RAY_ADDRESS)", address, []
    except ClusterError as error:
        return "Ray", None, [Finding("FAIL", str(error), "start Ray there, or set another address")]


def _found(named: str | None) -> tuple[str, str | None, Sequence[Finding]]:
    from cluster.runners.on_ray.join_cluster import listening_here

    if own := listening_here():
        return f"Ray at {own}, which runs on this machine", own, []
    if named:
        return "Ray", None, [Finding("FAIL", "RAY_ADDRESS is auto, but no Ray runs on this machine", "unset it")]
    return "Ray", None, [Finding("OK", "none runs on this machine: a launch starts its own")]


def _nodes(address: str, facts: ClusterFacts, config: RunConfig | None) -> list[Finding]:
    if config is not None and at_url(config.task.data):  # checking it there would copy it
        return [*_nodes(address, facts, None), *_data(config)[1]]
    answers = probe_nodes(address, config, asks_token=facts.asks_token)
    if isinstance(answers, str):
        return [Finding("WARN", f"they could not be checked: {answers}", "run this on a node of the cluster")]
    staying = [node for node in facts.nodes if not node.draining]  # no task can be sent to the others
    return node_findings(staying, answers, versions(), config is not None)


def _data(config: RunConfig) -> Section:
    if at_url(config.task.data):
        what = f"the data comes from {config.task.data}: each node copies it at its first use"
        return "Data", [Finding("OK", what)]
    try:
        check_data(replace(config.task, download=False))  # a check must not change anything
    except ValueError as error:
        return "Data", [Finding("FAIL", str(error), "put the data there")]
    return "Data", [Finding("OK", f"the task {config.task.task!r} can be loaded here")]


def _machine(storage_path: str) -> list[Finding]:
    own = versions()
    findings = [
        Finding(
            "OK",
            f"Python {platform.python_version()}, Ray {own.ray}, PyTorch {own.torch}, nascluster code {own.code};"
            f" {_cores()}",
        )
    ]
    if not is_url(storage_path):
        advice = "name another folder with --storage-path"
        findings.append(_room(Path(storage_path).expanduser(), MIN_DISK, "where the runs are", advice))
    if Path("/dev/shm").exists():
        advice = "mount it so that it can be written: Ray keeps what its processes share on a disk instead"
        findings.append(_room(Path("/dev/shm"), MIN_SHM, "shared memory, which Ray needs", advice))
    return findings


def _cores() -> str:
    usable, all_cores = usable_cores(), os.cpu_count() or 1
    return counted(usable, "core") + (f" usable of {all_cores}" if usable < all_cores else "")


def _room(folder: Path, min_bytes: int, what: str, if_read_only: str) -> Finding:
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    text = f"{size(free)} free in {folder} ({what})"
    if not os.access(existing, os.W_OK):
        return Finding("FAIL", f"{folder} cannot be written ({what})", if_read_only)
    return Finding("OK", text) if free >= min_bytes else Finding("WARN", text, "free some space")
