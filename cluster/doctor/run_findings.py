"""Why a run does not go on, from what its folder and Ray know. Pure: facts in, findings out."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from cluster.doctor.cluster_findings import waiting
from cluster.doctor.finding import Finding
from cluster.doctor.run_facts import RunFacts
from cluster.formatting import counted, duration
from cluster.monitoring.status import RECORD_GONE
from cluster.placement.cluster_state import Actor, ClusterFacts, Demand

SILENT_S = 30.0
"""Seconds without a sign of life after which a driver that lives is taken to hang; it gives one every second."""

LONG = 10
"""An attempt that has taken so many times what others took is worth a word."""

LONG_S = 60.0
"""No attempt is worth a word before."""

UNKNOWN_S = 1_800.0
"""The same as long as none has ended that would tell what is usual."""

SHOWN = 3
"""Attempts that are told one by one."""

NO_WORKERS = Finding(
    "FAIL",
    "no worker has been started: no node has room for one",
    "add a node with GPUs, or with cores where children get no GPU, and without the label nascluster/pool=stable: it is"
    " used at once",
)
"""Of a run whose cluster had nothing to train on when it began, and has got nothing since."""

ENDED_ON_PURPOSE = re.compile(r"ray\.kill|owner has died|job (has )?(finished|ended)|process exited|out of scope", re.I)
"""How Ray puts that an actor was ended by its own run."""


def run_findings(run: RunFacts) -> list[Finding]:
    """What the run's folder tells."""
    found = [_state(run)]
    if run.state == "running" and run.stop_asked:
        found.append(
            Finding(
                "WARN", f"it was asked to stop: nothing is begun, {counted(len(run.open), 'attempt')} end first", "wait"
            )
        )
    training = f"{len(run.open)} in training, " if run.state == "running" else ""
    found.append(
        Finding(
            "OK",
            f"children: {run.finished} finished, {run.failed} failed, {training}{run.waiting} wait,"
            f" {max(run.max_children - run.ended, 0)} to go of {run.max_children}",
        )
    )
    if run.state == "running":
        found += _training(run)
    if run.state == "running" and run.asked is not None and run.workers < run.asked:
        what = f"{run.workers} of the {run.asked} workers that were asked for have a place"
        found.append(Finding("WARN", what, "add nodes, which are used at once; or nothing, the search goes on"))
    do = "see what is wrong with the disk; the corrupt files are of no more use to the run"
    found += [Finding("WARN", text, do) for text in run.corrupt]
    return found + _failures(run)


def actor_findings(run: RunFacts, actors: Sequence[Actor], facts: ClusterFacts) -> list[Finding]:
    """What Ray tells of the run's actors.

    Args:
        run: the run; one that is not running has no actors any more.
        actors: those of its job.
        facts: the whole cluster.
    """
    if run.state != "running":
        return []
    if not actors:
        return [Finding("FAIL", "Ray knows no actors of this run", f"end its driver, then `{run.resume}`")]
    by_state: dict[str, list[Actor]] = defaultdict(list)
    for actor in actors:
        by_state[actor.state].append(actor)
    found = []
    if alive := by_state["ALIVE"]:
        found.append(Finding("OK", f"{counted(len(alive), 'actor')} up: {_kinds(alive)}"))
    if not run.workers and not any(actor.name.startswith("worker-") for actor in actors):
        found.append(NO_WORKERS)
    # Ray keeps an actor whose node has gone as one that is started again, for as long as no node has room for it.
    homeless = [actor for actor in by_state["RESTARTING"] if not actor.address]
    found += _pending([*by_state["PENDING_CREATION"], *by_state["DEPENDENCIES_UNREADY"], *homeless], facts)
    for actor in (actor for actor in by_state["RESTARTING"] if actor.address):
        what = f"{actor.name} is being started again, for the {_ordinal(actor.restarts)} time"
        found.append(Finding("WARN", what, "if that goes on, see Ray's logs on its node"))
    return found + _dead(by_state["DEAD"])


def _state(run: RunFacts) -> Finding:
    quiet = duration(run.silence_s or 0.0)
    if run.state == "running":
        return _running(run, quiet)
    if run.state == "finished":
        return Finding("OK", "it has finished")
    if run.state == "stopped":
        return Finding("WARN", f"it has stopped: {run.message}", f"`{run.resume}` goes on with it")
    when = "" if run.silence_s is None else f"; its last sign of life is {quiet} old"
    if "driver died" in run.message:
        return Finding("FAIL", f"{run.message}{when}; what was recorded is there", f"`{run.resume}`")
    if run.message == RECORD_GONE:
        return Finding("FAIL", run.message, f"put it back: `{run.resume}` says what belongs to it")
    return Finding("FAIL", f"it has failed: {run.message}{when}", f"read {run.error}, then `{run.resume}`")


def _running(run: RunFacts, quiet: str) -> Finding:
    if not run.began or run.silence_s is None:
        return Finding("OK", "it is starting")
    if run.silence_s > SILENT_S:
        return Finding(
            "FAIL",
            f"its driver lives and has given no sign of life for {quiet}: it hangs, or its disk does",
            f"look at the disk, end the driver, then `{run.resume}`",
        )
    return Finding("OK", f"it is running; its driver's last sign of life is {quiet} old")


def _training(run: RunFacts) -> list[Finding]:
    found: list[Finding] = []
    usual = UNKNOWN_S if run.typical_s is None else max(LONG_S, LONG * run.typical_s)
    typical = "none has ended yet" if run.typical_s is None else f"others took {duration(run.typical_s)}"
    long = [attempt for attempt in run.open if attempt.seconds > usual]
    for attempt in long[:SHOWN]:
        what = f"child {attempt.child_id} has been in training for {duration(attempt.seconds)} on {attempt.worker}"
        do = "--child-timeout ends hung children from outside; to end this one, kill the process after the last colon"
        found.append(Finding("WARN", f"{what}; {typical}", do))
    if len(long) > SHOWN:
        found.append(Finding("WARN", f"and {len(long) - SHOWN} more that take as long"))
    if run.open and not long:
        oldest = run.open[0]
        what = f"in training for longest: child {oldest.child_id} on {oldest.worker}, {duration(oldest.seconds)}"
        found.append(Finding("OK", f"{what}; {typical}"))
    if run.began and not run.open and run.waiting:
        since = f" for {duration(run.idle_s)}" if run.idle_s is not None else ""
        level = "FAIL" if (run.idle_s or 0.0) > SILENT_S else "WARN"
        do = "see its workers below" if not run.local else f"end the driver, then `{run.resume}`"
        found.append(Finding(level, f"{run.waiting} children wait, and none is in training{since}", do))
    return found


def _failures(run: RunFacts) -> list[Finding]:
    if not run.causes:
        return []
    causes = ", ".join(f"{number} {cause}" for cause, number in sorted(run.causes.items()))
    failed, recent = run.recent_failed
    last = f"; the last: {run.last_failure}" if run.last_failure else ""
    if recent >= 4 and failed == recent:
        return [Finding("FAIL", f"the last {recent} children all failed{last}", f"`{run.failures}`")]
    return [Finding("WARN", f"failed attempts: {causes}{last}", f"`{run.failures}` tells each")]


def _pending(actors: Sequence[Actor], facts: ClusterFacts) -> list[Finding]:
    alike: dict[str, list[Actor]] = defaultdict(list)
    for actor in actors:
        alike[str([sorted(actor.needs.items()), sorted(actor.labels.items())])].append(actor)
    return [
        waiting(_kinds(group), Demand(needs=group[0].needs, labels=group[0].labels, count=len(group)), facts)
        for group in alike.values()
    ]


def _dead(actors: Sequence[Actor]) -> list[Finding]:
    by_reason: dict[str, list[Actor]] = defaultdict(list)
    for actor in actors:
        if not ENDED_ON_PURPOSE.search(actor.reason):
            by_reason[re.sub(r"node \S+ cannot", "its node cannot", actor.reason)].append(actor)
    return [
        Finding(
            "FAIL",
            f"{_kinds(group)} cannot be started: {group[0].reason or 'Ray says nothing of why'}",
            "mend that; the run uses the others meanwhile",
        )
        for group in by_reason.values()
    ]


def _kinds(actors: Sequence[Actor]) -> str:
    """3 workers (worker-0, worker-1, worker-2), pool, ledger."""
    workers = sorted((a.name for a in actors if a.name.startswith("worker-")), key=lambda n: (len(n), n))
    others = Counter(actor.name for actor in actors if actor.name not in workers)
    few = f" ({', '.join(workers)})" if len(workers) <= 4 else f" ({workers[0]} to {workers[-1]})"
    parts = [counted(len(workers), "worker") + few] if workers else []
    return ", ".join([*parts, *(f"{number} {name}" if number > 1 else name for name, number in others.items())])


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
