"""Judges why a run makes no progress, from its folder and from Ray. Pure: facts in, findings out."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from cluster.doctor.cluster_findings import waiting
from cluster.doctor.finding import Finding
from cluster.doctor.run_facts import RunFacts
from cluster.formatting import counted, duration
from cluster.monitoring.status import RECORD_GONE
from cluster.placement.cluster_state import Actor, ClusterFacts, Demand

HEARTBEAT_TIMEOUT_S = 30.0
"""Seconds without a heartbeat after which a live driver counts as hung; it sends one every second."""

SLOW_FACTOR = 10
"""An attempt is reported once it has taken this many times the typical duration."""

MIN_SLOW_S = 60.0
"""Shorter attempts are never reported as slow."""

DEFAULT_SLOW_S = 1_800.0
"""Threshold used until one attempt has finished and a typical duration is known."""

WORRYING_S = 14 * 86_400.0
"""Seconds that a search may still take before that is reported as a problem."""

MAX_LISTED_ATTEMPTS = 3
"""Slow attempts that are listed one by one; the others are counted."""

NO_WORKERS = Finding(
    "FAIL",
    "no worker has been started: no node has room for one",
    "add a node with GPUs, or with cores where children get no GPU, and without the label nascluster/pool=stable: it is"
    " used at once",
)
"""The finding on a run whose cluster never had a node to train on."""

ENDED_ON_PURPOSE = re.compile(r"ray\.kill|owner has died|job (has )?(finished|ended)|process exited|out of scope", re.I)
"""Matches Ray's reason for the death of an actor that its own run ended."""


def run_findings(run: RunFacts) -> list[Finding]:
    """Return the findings on what the run's folder records."""
    findings = [_state(run)]
    if run.unknown:
        findings.append(Finding("WARN", run.unknown, "use the version that launched it"))
    if run.state == "running" and run.stop_requested:
        findings.append(
            Finding(
                "WARN",
                f"a stop was requested: no child is started any more, {counted(len(run.open), 'attempt')} in training",
                "wait",
            )
        )
    training = f"{len(run.open)} in training, " if run.state == "running" else ""
    findings.append(
        Finding(
            "OK",
            f"children: {run.finished} finished, {run.failed} failed, {training}{run.waiting} wait,"
            f" {max(run.max_children - run.ended, 0)} to go of {run.max_children}",
        )
    )
    if run.state == "running":
        findings += [*_duration(run), *_training(run)]
    if run.state == "running" and run.requested_workers is not None and run.workers < run.requested_workers:
        what = f"{run.workers} of the {run.requested_workers} requested workers are placed"
        findings.append(Finding("WARN", what, "add nodes, which are used at once; or do nothing, the search continues"))
    remedy = "check the disk; the run no longer uses the corrupt files"
    findings += [Finding("WARN", text, remedy) for text in run.corrupt]
    return findings + _failures(run)


def actor_findings(run: RunFacts, actors: Sequence[Actor], facts: ClusterFacts) -> list[Finding]:
    """Return the findings on the run's actors, as Ray reports them.

    Args:
        run: the run; once it has ended it has no actors.
        actors: the actors of its job.
        facts: the state of the whole cluster.
    """
    if run.state != "running":
        return []
    if not actors:
        return [Finding("FAIL", "Ray knows no actors of this run", f"end its driver, then `{run.resume}`")]
    by_state: dict[str, list[Actor]] = defaultdict(list)
    for actor in actors:
        by_state[actor.state].append(actor)
    findings = []
    if alive := by_state["ALIVE"]:
        findings.append(Finding("OK", f"{counted(len(alive), 'actor')} up: {_kinds(alive)}"))
    if not run.workers and not any(actor.name.startswith("worker-") for actor in actors):
        findings.append(NO_WORKERS)
    # Ray shows an actor whose node was lost as RESTARTING for as long as no node has room for it.
    unplaced = [actor for actor in by_state["RESTARTING"] if not actor.address]
    findings += _pending([*by_state["PENDING_CREATION"], *by_state["DEPENDENCIES_UNREADY"], *unplaced], facts)
    for actor in (actor for actor in by_state["RESTARTING"] if actor.address):
        what = f"{actor.name} is restarting, for the {_ordinal(actor.restarts)} time"
        findings.append(Finding("WARN", what, "if it restarts again, see Ray's logs on its node"))
    return findings + _dead(by_state["DEAD"])


def _state(run: RunFacts) -> Finding:
    silence = duration(run.silence_s or 0.0)
    if run.state == "running":
        return _running(run, silence)
    if run.state == "finished":
        short = run.ended < run.max_children
        what = f"it has finished, with {run.ended} of {run.max_children} children" if short else "it has finished"
        what += f": {run.message}" if short and run.message else ""
        return Finding("OK", what, f"`{run.resume}` goes on" if short else "")
    if run.state == "stopped":
        return Finding("WARN", f"it has stopped: {run.message}", f"`{run.resume}` resumes it")
    heartbeat = "" if run.silence_s is None else f"; its last heartbeat is {silence} old"
    if "driver died" in run.message:
        return Finding("FAIL", f"{run.message}{heartbeat}; all that was recorded is kept", f"`{run.resume}`")
    if run.message == RECORD_GONE:
        return Finding("FAIL", run.message, f"put it back: `{run.resume}` says which files it needs")
    return Finding("FAIL", f"it has failed: {run.message}{heartbeat}", f"read {run.error}, then `{run.resume}`")


def _running(run: RunFacts, silence: str) -> Finding:
    if not run.began or run.silence_s is None:
        return Finding("OK", "it is starting")
    if run.silence_s > HEARTBEAT_TIMEOUT_S:
        return Finding(
            "FAIL",
            f"its driver is alive but has sent no heartbeat for {silence}: the driver or its disk hangs",
            f"check the disk, end the driver, then `{run.resume}`",
        )
    return Finding("OK", f"it is running; its driver's last heartbeat is {silence} old")


def _duration(run: RunFacts) -> list[Finding]:
    """Return the finding on how long the search still takes, if that is known."""
    if run.seconds_left is None:
        return []
    to_go = counted(max(run.max_children - run.ended, 0), "child")
    what = f"{run.time_left}: {to_go} to go on {counted(run.workers, 'worker')}"
    if run.seconds_left < WORRYING_S:
        return [Finding("OK", what)]
    remedy = (
        "launch with fewer children or epochs or less of the data (--max-children, --epochs, --train-fraction), or add"
        " workers; `nascluster simulate` predicts what a cluster would take"
    )
    return [Finding("WARN", what, remedy)]


def _training(run: RunFacts) -> list[Finding]:
    findings: list[Finding] = []
    threshold_s = DEFAULT_SLOW_S if run.typical_s is None else max(MIN_SLOW_S, SLOW_FACTOR * run.typical_s)
    typical = "none has ended yet" if run.typical_s is None else f"others took {duration(run.typical_s)}"
    slow = [attempt for attempt in run.open if attempt.seconds > threshold_s * attempt.fused]
    for attempt in slow[:MAX_LISTED_ATTEMPTS]:
        what = f"child {attempt.child_id} has been in training for {duration(attempt.seconds)} on {attempt.worker}"
        remedy = "--child-timeout ends hung children; to end this one, kill the process whose id follows the last colon"
        findings.append(Finding("WARN", f"{what}; {typical}", remedy))
    if len(slow) > MAX_LISTED_ATTEMPTS:
        findings.append(Finding("WARN", f"and {len(slow) - MAX_LISTED_ATTEMPTS} more attempts that are as slow"))
    if run.open and not slow:
        oldest = run.open[0]
        what = f"in training for longest: child {oldest.child_id} on {oldest.worker}, {duration(oldest.seconds)}"
        findings.append(Finding("OK", f"{what}; {typical}"))
    if run.began and not run.open and run.waiting:
        since = f" for {duration(run.idle_s)}" if run.idle_s is not None else ""
        level = "FAIL" if (run.idle_s or 0.0) > HEARTBEAT_TIMEOUT_S else "WARN"
        remedy = "see the run's workers below" if not run.local else f"end the driver, then `{run.resume}`"
        findings.append(
            Finding(level, f"{run.waiting} children wait for a worker, and none is in training{since}", remedy)
        )
    return findings


def _failures(run: RunFacts) -> list[Finding]:
    if not run.causes:
        return []
    causes = ", ".join(f"{number} {cause}" for cause, number in sorted(run.causes.items()))
    failed, recent = run.recent_failed
    last = f"; the last: {run.last_failure}" if run.last_failure else ""
    if recent >= 4 and failed == recent:
        return [Finding("FAIL", f"the last {recent} children all failed{last}", f"`{run.failures}`")]
    return [Finding("WARN", f"failed attempts: {causes}{last}", f"`{run.failures}` lists them")]


def _pending(actors: Sequence[Actor], facts: ClusterFacts) -> list[Finding]:
    by_demand: dict[str, list[Actor]] = defaultdict(list)
    for actor in actors:
        by_demand[str([sorted(actor.needs.items()), sorted(actor.labels.items())])].append(actor)
    return [
        waiting(_kinds(group), Demand(needs=group[0].needs, labels=group[0].labels, count=len(group)), facts)
        for group in by_demand.values()
    ]


def _dead(actors: Sequence[Actor]) -> list[Finding]:
    by_reason: dict[str, list[Actor]] = defaultdict(list)
    for actor in actors:
        if not ENDED_ON_PURPOSE.search(actor.reason):
            by_reason[re.sub(r"node \S+ cannot", "its node cannot", actor.reason)].append(actor)
    return [
        Finding(
            "FAIL",
            f"{_kinds(group)} cannot be started: {group[0].reason or 'Ray gives no reason'}",
            "fix that; the run uses the other workers meanwhile",
        )
        for group in by_reason.values()
    ]


def _kinds(actors: Sequence[Actor]) -> str:
    """Return the actors by kind, such as `3 workers (worker-0, worker-1, worker-2), pool`."""
    workers = sorted((a.name for a in actors if a.name.startswith("worker-")), key=lambda n: (len(n), n))
    others = Counter(actor.name for actor in actors if actor.name not in workers)
    few = f" ({', '.join(workers)})" if len(workers) <= 4 else f" ({workers[0]} to {workers[-1]})"
    parts = [counted(len(workers), "worker") + few] if workers else []
    return ", ".join([*parts, *(f"{number} {name}" if number > 1 else name for name, number in others.items())])


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
