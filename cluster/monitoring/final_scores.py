"""What is shown of the test data's scores: a run of final trainings has looked at that data once for each network."""

from collections.abc import Sequence

from child_trainer.outcome import Measure
from cluster.formatting import counted, mean_text
from cluster.storage.ledger.queries.final_tests import FinalTest


def scores_text(measure: Measure, tests: Sequence[FinalTest]) -> str:
    """Return what the tested trainings reached, in a line for a table; empty if none was tested."""
    reached = [test.metric for test in tests if test.metric is not None]
    if not tests:
        return ""
    lost = len(tests) - len(reached)
    without = f", {lost} of {counted(len(tests), 'training')} without a score" if lost else ""
    if not reached:
        return without.removeprefix(", ")
    among = f", from {min(reached):.4f} to {max(reached):.4f}" if len(reached) > 1 else ""
    return f"{measure} {mean_text(reached)} of {counted(len(reached), 'training')}{among}{without}"
