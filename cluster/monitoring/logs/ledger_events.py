"""The events of a run's children, attempts, pushes, workers and shards, read from what is new in its ledger.

Whoever records them does not write a log as well: a look costs what has changed since the one before, and holds up
nobody. Times are the ledger's.
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
from cluster.storage.ledger.queries.run import last_completion, last_revision, shard_addresses
from cluster.storage.ledger.reader import LedgerConnection

MOST_LINES = 200
"""Events from `logging.INFO` up that one look tells one by one; of more their number is told."""


class LedgerEvents:
    """Tells each event once. Not for several threads at once.

    Args:
        run: its name.
        db: the ledger, in a read transaction: what it has now was told before.
    """

    def __init__(self, run: str, db: LedgerConnection) -> None:
        self._run = run
        self._revision, self._completion = _ends(db)
        self._open: set[tuple[int, int]] = set()  # attempts that were begun, and have not ended
        self._workers: dict[int, str] = {}  # the process at each slot
        self._shards: dict[int, str] = {}  # the address of each shard

    def look(self, db: LedgerConnection, now: float) -> list[Event]:
        """What is new in the ledger, in a read transaction, at the Unix time `now`.

        Raises:
            LedgerError: it cannot be read; the next look tells what this one did not.
        """
        revision, completion = _ends(db)
        attempts = changed_attempts(db, self._revision)
        ended = ended_children(db, self._completion)
        pushed = changed_pushes(db, self._revision)
        addresses = shard_addresses(db)
        self._revision, self._completion = revision, completion
        found = [event for row in attempts for event in self._of_attempt(row)]
        found += [self._of_child(row) for row in ended]
        found += [self._of_push(row) for row in pushed]
        found.sort(key=lambda event: event.time)
        return self._bounded([*found, *self._of_shards(addresses, now)], now)

    def _event(self, time: float, level: int, event: str, replica: int | None = None, **fields: Any) -> Event:
        child = fields.pop("child", None)
        return Event(time=time, level=level, event=event, run=self._run, replica=replica, child=child, fields=fields)

    def _of_attempt(self, row: AttemptEvent) -> Iterator[Event]:
        child, replica, number, worker, slot, started_at, ended_at, verdict, cause, message = row
        of = {"replica": replica, "child": child, "attempt": number, "worker": worker}
        if (before := self._workers.get(slot or 0)) != worker:
            self._workers[slot or 0] = worker
            if before is None:
                yield self._event(started_at, logging.DEBUG, "worker joined", slot=slot, worker=worker)
            else:
                yield self._event(started_at, logging.INFO, "worker replaced", slot=slot, worker=worker, before=before)
        if (child, number) not in self._open:
            self._open.add((child, number))
            yield self._event(started_at, logging.DEBUG, "child dispatched", **of)
        if ended_at is None:
            return
        self._open.discard((child, number))
        said = last_line(message or "") or None
        if verdict == Verdict.RETRY:
            yield self._event(ended_at, logging.INFO, "child retried", **of, cause=cause, message=said)
        elif verdict in (Verdict.LOST, Verdict.NOT_STARTED):
            yield self._event(ended_at, logging.DEBUG, f"attempt {verdict}", **of)
        elif verdict == Verdict.LATE:
            yield self._event(ended_at, logging.INFO, "attempt late", **of, cause=cause)

    def _of_child(self, row: ChildEvent) -> Event:
        child, replica, ended_at, completion, reward, metric, seconds, cause, message = row
        if cause is None:
            figures = {"completion": completion, "reward": reward, "metric": metric, "seconds": seconds}
            return self._event(ended_at, logging.DEBUG, "child finished", replica, child=child, **figures)
        said = last_line(message or "") or None
        return self._event(ended_at, logging.WARNING, "child failed", replica, child=child, cause=cause, message=said)

    def _of_push(self, row: PushEvent) -> Event:
        fields = {"batch": row.batch, "staleness": max(row.staleness, default=0), "seconds": row.seconds}
        return self._event(row.learned_at, logging.DEBUG, "push applied", row.replica, **fields)

    def _of_shards(self, addresses: dict[int, str], now: float) -> Iterator[Event]:
        for shard, address in addresses.items():
            before = self._shards.get(shard)
            if before == address:
                continue
            self._shards[shard] = address
            if before is None:
                yield self._event(now, logging.DEBUG, "shard served", shard=shard, address=address)
            else:
                yield self._event(now, logging.INFO, "shard moved", shard=shard, address=address, before=before)

    def _bounded(self, found: list[Event], now: float) -> list[Event]:
        loud = [event for event in found if event.level > logging.DEBUG]
        if len(loud) <= MOST_LINES:
            return found
        left_out = {id(event) for event in loud[MOST_LINES:]}
        more = self._event(now, logging.WARNING, "more events", count=len(left_out))
        return [*(event for event in found if id(event) not in left_out), more]


def _ends(db: LedgerConnection) -> tuple[int, int]:
    """The last change of the ledger, and how many children have ended."""
    return last_revision(db), last_completion(db)
