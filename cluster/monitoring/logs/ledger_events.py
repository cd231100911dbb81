"""The events of a run's children, attempts, pushes, workers and shards, read from new rows of its ledger.

So the processes that write the ledger need not write a log, too. A poll costs as much as has changed since the last
one, and delays nothing. Times are the ledger's.
"""

import json
import logging
import sqlite3
from collections.abc import Iterator
from typing import Any

from cluster.formatting import last_line
from cluster.monitoring.logs.events import Event
from cluster.search.records import Verdict

MAX_EVENTS = 200
"""Upper bound for the events of level `logging.INFO` and above in one poll; further ones are only counted."""

ATTEMPTS = """
SELECT child, replica, number, worker, slot, started_at, attempts.ended_at, verdict, attempts.cause, message
FROM attempts JOIN children ON id = child
WHERE attempts.rowid IN (SELECT row FROM changes WHERE +kind = 'attempts' AND revision > ?)
ORDER BY started_at
"""

ENDED = """
SELECT id, replica, ended_at, completion, reward, metric, seconds, cause, json_extract(outcome, '$.failure.message')
FROM children WHERE completion > ? ORDER BY completion
"""

PUSHED = """
SELECT replica, number, learned_at, staleness, push_seconds FROM batches
WHERE pushed = 1 AND learned_at IS NOT NULL
AND rowid IN (SELECT row FROM changes WHERE +kind = 'batches' AND revision > ?)
ORDER BY learned_at
"""


class LedgerEvents:
    """Returns each event once. Not safe for use by several threads.

    Args:
        run: the run's name.
        db: the ledger, in a read transaction; events that it has now are not returned.
    """

    def __init__(self, run: str, db: sqlite3.Connection) -> None:
        self._run = run
        self._revision, self._completion = _ends(db)
        self._open: set[tuple[int, int]] = set()  # attempts in progress
        self._workers: dict[int, str] = {}  # the process in each slot
        self._shards: dict[int, str] = {}  # each shard's address

    def poll(self, db: sqlite3.Connection, now: float) -> list[Event]:
        """Return the events since the last poll.

        Args:
            db: the ledger, in a read transaction.
            now: Unix time.

        Raises:
            sqlite3.Error: the ledger cannot be read; the next poll returns the events.
        """
        revision, completion = _ends(db)
        attempts = db.execute(ATTEMPTS, (self._revision,)).fetchall()
        ended = db.execute(ENDED, (self._completion,)).fetchall()
        pushed = db.execute(PUSHED, (self._revision,)).fetchall()
        addresses = dict(db.execute("SELECT shard, address FROM addresses ORDER BY shard"))
        self._revision, self._completion = revision, completion
        events = [event for row in attempts for event in self._attempt_events(*row)]
        events += [self._child_event(*row) for row in ended]
        events += [self._push_event(*row) for row in pushed]
        events.sort(key=lambda event: event.time)
        return self._bounded([*events, *self._shard_events(addresses, now)], now)

    def _event(self, time: float, level: int, event: str, replica: int | None = None, **fields: Any) -> Event:
        child = fields.pop("child", None)
        return Event(time=time, level=level, event=event, run=self._run, replica=replica, child=child, fields=fields)

    def _attempt_events(
        self, child: int, replica: int, number: int, worker: str, slot: int | None, *rest: Any
    ) -> Iterator[Event]:
        started_at, ended_at, verdict, cause, message = rest
        names = {"replica": replica, "child": child, "attempt": number, "worker": worker}
        if (before := self._workers.get(slot or 0)) != worker:
            self._workers[slot or 0] = worker
            if before is None:
                yield self._event(started_at, logging.DEBUG, "worker joined", slot=slot, worker=worker)
            else:
                yield self._event(started_at, logging.INFO, "worker replaced", slot=slot, worker=worker, before=before)
        if (child, number) not in self._open:
            self._open.add((child, number))
            yield self._event(started_at, logging.DEBUG, "child dispatched", **names)
        if ended_at is None:
            return
        self._open.discard((child, number))
        last = last_line(message or "") or None
        if verdict == Verdict.RETRY:
            yield self._event(ended_at, logging.INFO, "child retried", **names, cause=cause, message=last)
        elif verdict in (Verdict.LOST, Verdict.VOID):
            yield self._event(ended_at, logging.DEBUG, f"attempt {verdict}", **names)
        elif verdict == Verdict.LATE:
            yield self._event(ended_at, logging.INFO, "attempt late", **names, cause=cause)

    def _child_event(self, child: int, replica: int, ended_at: float, *rest: Any) -> Event:
        completion, reward, metric, seconds, cause, message = rest
        if cause is None:
            figures = {"completion": completion, "reward": reward, "metric": metric, "seconds": seconds}
            return self._event(ended_at, logging.DEBUG, "child finished", replica, child=child, **figures)
        last = last_line(message or "") or None
        return self._event(ended_at, logging.WARNING, "child failed", replica, child=child, cause=cause, message=last)

    def _push_event(self, replica: int, number: int, learned_at: float, staleness: str, seconds: float | None) -> Event:
        most = max(json.loads(staleness or "null") or (0,))
        fields = {"batch": number, "staleness": most, "seconds": seconds}
        return self._event(learned_at, logging.DEBUG, "push applied", replica, **fields)

    def _shard_events(self, addresses: dict[int, str], now: float) -> Iterator[Event]:
        for shard, address in addresses.items():
            before = self._shards.get(shard)
            if before == address:
                continue
            self._shards[shard] = address
            if before is None:
                yield self._event(now, logging.DEBUG, "shard served", shard=shard, address=address)
            else:
                yield self._event(now, logging.INFO, "shard moved", shard=shard, address=address, before=before)

    def _bounded(self, events: list[Event], now: float) -> list[Event]:
        important = [event for event in events if event.level > logging.DEBUG]
        if len(important) <= MAX_EVENTS:
            return events
        left_out = {id(event) for event in important[MAX_EVENTS:]}
        more = self._event(now, logging.WARNING, "more events", count=len(left_out))
        return [*(event for event in events if id(event) not in left_out), more]


def _ends(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the ledger's last revision, and the number of children that have ended."""
    (revision,) = db.execute("SELECT coalesce(max(revision), 0) FROM changes").fetchone()
    (completion,) = db.execute("SELECT coalesce(max(completion), 0) FROM children").fetchone()
    return revision, completion
