"""What a searcher may use of a search that is only read, from its ledger."""

import random
from dataclasses import replace
from functools import cache

from cluster.storage.ledger.queries.report import ended_records, open_records
from cluster.storage.ledger.queries.run import last_completion
from cluster.storage.ledger.reader import LedgerConnection
from controller.searcher import View


def recorded_view(db: LedgerConnection, seed: int) -> View:
    """Return the view of the children that have ended, without parameters.

    Args:
        db: the ledger, open for as long as the view is used.
        seed: of the view's draws.
    """
    return View(
        parameters={},
        completed=last_completion(db),
        history=cache(lambda: ended_records(db)),
        pending=tuple,
        rng=random.Random(seed),
    )


def whole_view(db: LedgerConnection, seed: int) -> View:
    """Return the view of all children, those that have not ended too, without parameters; arguments as above."""
    return replace(recorded_view(db, seed), pending=cache(lambda: tuple(open_records(db))))
