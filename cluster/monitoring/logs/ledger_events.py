"""The events of a run's children, attempts, pushes, workers and shards, read from new rows of its ledger.

So the processes that write the ledger need not write a log, too. A poll costs as much as has changed since the last
one, and delays nothing. Times are the ledger's.
"""

import logging
from collections.abc import Iterator
from typing import Any

from cluster.formatting import last_line
from cluster.monitoring.logs.events import Event
from cluster.search.records import Verdict
from cluster.storage.ledger.queries.events import (
    AttemptEvent,
    ChildEvent,
    PushEvent,
    changed_attempts,
    changed_pushes,
    ended_children,
)
from cluster.storage.ledger.queries.run import knows_changes, last_completion, last_revision, shard_addresses
from cluster.storage.ledger.reader import LedgerConnection

MAX_EVENTS = 200
"""Upper bound for the events of level `logging.INFO` and above in one poll; further ones are only counted."""


class LedgerEvents:
    """Returns each event once. Not safe for use by several threads.

    Args:
        run: the run's name.
        db: the ledger, in a read transaction; events that it has now are not returned.
    """

    def __init__(self, run: str, db: LedgerConnection) -> None:
        self._run = run
        self._revision, self._completion = _ends(db)
        self._open: set[tuple[int, int]] = set()  # attempts in progress
        self._workers: dict[int, str] = {}  # the process in each slot
        self._shards: dict[tuple[str, int], str] = {}  # each shard's address

    def poll(self, db: LedgerConnection, now: float) -> list[Event]:
        """Return the events since the last poll.

        Args:
            db: the ledger, in a read transaction.
            now: Unix time.

        Raises:
            LedgerError: the ledger cannot be read; the next poll returns the events.
        """
        revision, completion = _ends(db)
        known = knows_changes(db, self._revision)
        attempts = changed_attempts(db, self._revision)
        ended = ended_children(db, self._completion)
        pushed = changed_pushes(db, self._revision)
        addresses = shard_addresses(db)
        self._revision, self._completion = revision, completion
        events = [event for row in attempts for event in self._attempt_events(row)]
        events += [self._child_event(row) for row in ended]
        events += [self._push_event(row) for row in pushed]
        events.sort(key=lambda event: event.time)
        if not known:
            events.append(self._event(now, logging.WARNING, "events of attempts and pushes were left out"))
        return self._bounded([*events, *self._shard_events(addresses, now)], now)

    def _event(self, time: float, level: int, event: str, replica: int | None = None, **fields: Any) -> Event:
        child = fields.pop("child", None)
        return Event(time=time, level=level, event=event, run=self._run, replica=replica, child=child, fields=fields)

    def _attempt_events(self, row: AttemptEvent) -> Iterator[Event]:
        child, replica, number, worker, slot, started_at, ended_at, verdict, cause, message = row
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
        elif verdict in (Verdict.LOST, Verdict.NOT_STARTED):
            yield self._event(ended_at, logging.DEBUG, f"attempt {verdict}", **names)
        elif verdict == Verdict.LATE:
            yield self._event(ended_at, logging.INFO, "attempt late", **names, cause=cause)

    def _child_event(self, row: ChildEvent) -> Event:
        child, replica, ended_at, completion, reward, metric, seconds, cause, message, stopped, reason = row
        if cause is None:
            figures = {"completion": completion, "reward": reward, "metric": metric, "seconds": seconds}
            figures |= {} if stopped is None else {"stopped": stopped, "reason": reason}
            return self._event(ended_at, logging.DEBUG, "child finished", replica, child=child, **figures)
        last = last_line(message or "") or None
        return self._event(ended_at, logging.WARNING, "child failed", replica, child=child, cause=cause, message=last)

    def _push_event(self, row: PushEvent) -> Event:
        fields = {"batch": row.batch, "staleness": max(row.staleness, default=0), "seconds": row.seconds}
        return self._event(row.learned_at, logging.DEBUG, "push applied", row.replica, **fields)

    def _shard_events(self, addresses: dict[tuple[str, int], str], now: float) -> Iterator[Event]:
        for (store, shard), address in addresses.items():
            before = self._shards.get((store, shard))
            if before == address:
                continue
            self._shards[store, shard] = address
            # Most runs have one store, whose name would tell nothing.
            names = {"shard": shard} if store == "policy" else {"store": store, "shard": shard}
            if before is None:
                yield self._event(now, logging.DEBUG, "shard served", **names, address=address)
            else:
                yield self._event(now, logging.INFO, "shard moved", **names, address=address, before=before)

    def _bounded(self, events: list[Event], now: float) -> list[Event]:
        important = [event for event in events if event.level > logging.DEBUG]
        if len(important) <= MAX_EVENTS:
            return events
        left_out = {id(event) for event in important[MAX_EVENTS:]}
        more = self._event(now, logging.WARNING, "more events", count=len(left_out))
        return [*(event for event in events if id(event) not in left_out), more]


def _ends(db: LedgerConnection) -> tuple[int, int]:
    """Return the ledger's last revision, and the number of children that have ended."""
    return last_revision(db), last_completion(db)
