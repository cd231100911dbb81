"""What the report of a slot's worker says of an attempt whose call brought no answer."""

from dataclasses import replace

import pytest

from child_trainer.outcome import Cause, Outcome
from cluster.pool.protocol import Death, Report, settled_by
from cluster.search.records import Attempt
from tests.cluster.pool.simulated import good

ATTEMPT = Attempt(child_id=1, seed=7, key="k", slot=0, worker="here:1", batch_size=None, started_at=0.0)
SAME = Report(place="here:1", node="n", trained=3)
NEXT = Report(place="here:2", node="n", trained=0)
SILENT = "here:1 died without a word: killed from outside, or for want of memory"


def dead(message: str) -> Outcome:
    return Outcome.failed(Cause.CRASHED, message, seed=7)


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (replace(SAME, key="k", outcome=good(7)), good(7)),
        (replace(SAME, key="before", outcome=good(6)), None),  # the order did not reach it
        (SAME, None),
        (NEXT, dead(SILENT)),  # on another node, maybe: nothing is known
        (replace(NEXT, death=Death(place="here:1", key="k")), dead(SILENT)),
        (
            replace(NEXT, death=Death(place="here:1", key="k", words="Fatal: why\nwhere")),
            dead("Fatal: why\nwhere\nhere:1 died: Fatal: why"),
        ),
        (replace(NEXT, death=Death(place="here:1", key="before", words="Fatal: why")), None),  # it died before
        (replace(NEXT, death=Death(place="here:1")), None),  # likewise, before it had begun anything
        # These words are another process's, which tell nothing of this one.
        (replace(NEXT, death=Death(place="here:0", key="before", words="Fatal: why")), dead(SILENT)),
        (replace(NEXT, death=Death(place="here:0", key="k", words="Fatal: why")), dead(SILENT)),
    ],
)
def test_what_an_attempt_came_to(report: Report, outcome: Outcome | None) -> None:
    assert settled_by(report, ATTEMPT, Cause.CRASHED) == outcome


def test_who_died_with_its_node_was_preempted() -> None:
    outcome = settled_by(NEXT, ATTEMPT, Cause.PREEMPTED)
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.cause == Cause.PREEMPTED
