"""The runs that a run goes on from, as its ledger says."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.formatting import counted

KEY = "continues"
"""The value of the run that has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continued:
    """The beginning of another run, from which a run goes on.

    Attributes:
        run: the other run's name.
        until: how many children had ended.
        sampled: the last child that had been sampled.
        incarnations: the last one of each shard; empty if the searcher has no parameters.
        then: what the run that goes on has otherwise, as `KEY=VALUE (was VALUE)`.
        config: the configuration until then, as `RunConfig.to_json` gives it.
    """

    run: str
    until: int
    sampled: int
    incarnations: tuple[int, ...]
    then: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def text(self) -> str:
        """A clause on it."""
        changes = f", then with {', '.join(self.then)}" if self.then else ""
        return f"the run {self.run} until {counted(self.until, 'child')} had ended{changes}"

    def to_json(self) -> dict[str, Any]:
        """Return what a status shows of it."""
        return {"run": self.run, "until": self.until, "sampled": self.sampled, "then": list(self.then)}


def continued_text(stages: Sequence[Continued]) -> str:
    """Return a clause on the runs that a run goes on from, in their order; empty if there are none."""
    return "; ".join(stage.text for stage in stages)


def continued(db: sqlite3.Connection) -> tuple[Continued, ...]:
    """Return the runs that a run goes on from, each beginning where the one before it ends; none if it is no such."""
    row = db.execute("SELECT value FROM run WHERE key = ?", (KEY,)).fetchone()
    stages = json.loads(row[0]) if row else []
    return tuple(
        Continued(**stage | {"incarnations": tuple(stage["incarnations"]), "then": tuple(stage["then"])})
        for stage in stages
    )


def stored(stages: Sequence[Continued]) -> str:
    """Return the text from which `continued` reads them."""
    return json.dumps([asdict(stage) for stage in stages])
