"""What the report of a slot's worker says of an attempt whose call brought no answer."""

from dataclasses import replace

import pytest

from child_trainer.outcome import Cause, Outcome
from cluster.pool.protocol import ProcessExit, Report, outcome_of_lost_call
from cluster.search.records import Attempt
from tests.cluster.pool.simulated import good

ATTEMPT = Attempt(child_id=1, seed=7, key="k", slot=0, worker="here:1", batch_size=None, started_at=0.0)
SAME = Report(place="here:1", node="n", trained=3)
NEXT = Report(place="here:2", node="n", trained=0)
SILENT = "here:1 exited without a message: it was killed, perhaps for lack of memory"


def dead(message: str) -> Outcome:
    return Outcome.failed(Cause.CRASHED, message, seed=7)


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (replace(SAME, key="k", outcome=good(7)), good(7)),
        (replace(SAME, key="before", outcome=good(6)), None),  # the order did not reach it
        (SAME, None),
        (NEXT, dead(SILENT)),  # on another node, maybe: nothing is known
        (replace(NEXT, previous_exit=ProcessExit(place="here:1", key="k")), dead(SILENT)),
        (
            replace(NEXT, previous_exit=ProcessExit(place="here:1", key="k", message="Fatal: why\nwhere")),
            dead("Fatal: why\nwhere\nhere:1 crashed: Fatal: why"),
        ),
        (
            replace(NEXT, previous_exit=ProcessExit(place="here:1", key="before", message="Fatal: why")),
            None,
        ),  # it died before
        (replace(NEXT, previous_exit=ProcessExit(place="here:1")), None),  # likewise, before it had begun anything
        # These words are another process's, which tell nothing of this one.
        (replace(NEXT, previous_exit=ProcessExit(place="here:0", key="before", message="Fatal: why")), dead(SILENT)),
        (replace(NEXT, previous_exit=ProcessExit(place="here:0", key="k", message="Fatal: why")), dead(SILENT)),
    ],
)
def test_what_an_attempt_came_to(report: Report, outcome: Outcome | None) -> None:
    assert outcome_of_lost_call(report, ATTEMPT, Cause.CRASHED) == outcome


def test_who_died_with_its_node_was_preempted() -> None:
    outcome = outcome_of_lost_call(NEXT, ATTEMPT, Cause.PREEMPTED)
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.cause == Cause.PREEMPTED
