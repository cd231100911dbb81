"""The outcome of an attempt whose call was lost, from the report of its slot's worker."""

from dataclasses import replace

import pytest

from child_trainer.outcome import Cause, Outcome
from cluster.pool.protocol import ProcessExit, Report, outcome_of_lost_call
from cluster.search.records import Attempt
from tests.cluster.pool.simulated import good

ATTEMPT = Attempt(child_id=1, seed=7, key="k", slot=0, worker="here:1", batch_size=None, started_at=0.0)
SAME = Report(place="here:1", node="n", trained=3)
NEXT = Report(place="here:2", node="n", trained=0)
NO_MESSAGE = "here:1 exited without a message: it was killed, perhaps for lack of memory"


def dead(message: str) -> Outcome:
    return Outcome.failed(Cause.CRASHED, message, seed=7)


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (replace(SAME, key="k", outcomes=(good(7),)), good(7)),
        (replace(SAME, key="before", outcomes=(good(6),)), None),  # the order did not reach it
        (SAME, None),
        (NEXT, dead(NO_MESSAGE)),  # perhaps on another node: nothing is known
        (replace(NEXT, previous_exit=ProcessExit(place="here:1", key="k")), dead(NO_MESSAGE)),
        (
            replace(NEXT, previous_exit=ProcessExit(place="here:1", key="k", message="Fatal: why\nwhere")),
            dead("Fatal: why\nwhere\nhere:1 crashed: Fatal: why"),
        ),
        (
            replace(NEXT, previous_exit=ProcessExit(place="here:1", key="before", message="Fatal: why")),
            None,
        ),  # it died before
        (replace(NEXT, previous_exit=ProcessExit(place="here:1")), None),  # likewise, before it had begun anything
        # The message is another process's, which says nothing about this one.
        (
            replace(NEXT, previous_exit=ProcessExit(place="here:0", key="before", message="Fatal: why")),
            dead(NO_MESSAGE),
        ),
        (replace(NEXT, previous_exit=ProcessExit(place="here:0", key="k", message="Fatal: why")), dead(NO_MESSAGE)),
    ],
)
def test_the_outcome_of_a_lost_call(report: Report, outcome: Outcome | None) -> None:
    assert outcome_of_lost_call(report, ATTEMPT, Cause.CRASHED) == outcome


def test_a_process_that_exited_with_its_node_was_preempted() -> None:
    outcome = outcome_of_lost_call(NEXT, ATTEMPT, Cause.PREEMPTED)
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.cause == Cause.PREEMPTED
