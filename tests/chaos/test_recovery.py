"""What `benchmarks/recovery.py` stands on, and could be wrong without anybody's noticing."""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.recovery import Row, table
from cluster.runners.driver import execute
from cluster.storage.run_folder import RunFolder
from tests.chaos.long_run import long_run
from tests.chaos.machines import first_value


def test_the_long_run_goes_on_after_its_last_child_and_learns_nothing_again(tmp_path: Path) -> None:
    long_run(tmp_path, 300, 8)
    folder = RunFolder(tmp_path / "long")
    begun = first_value(folder.ledger, "SELECT max(learned_at) FROM batches")
    status = execute(folder.read_config(), folder, Console(quiet=True))
    assert (status.state, status.finished, status.updates) == ("finished", 308, 77)
    assert first_value(folder.ledger, "SELECT count(*) FROM attempts WHERE started_at > ?", begun) == 8
    assert first_value(folder.ledger, "SELECT count(*) FROM batches WHERE learned_at > ?", begun) == 2


@pytest.mark.parametrize(("slowest", "verdict"), [(5.0, "5, met"), (5.1, "5, missed")])
def test_a_goal_is_met_by_the_slowest_repetition(slowest: float, verdict: str) -> None:
    head, row = table([Row(what="a thing", seconds=[1.0, slowest, 2.0], goal_s=5.0)]).splitlines()
    assert head.split() == ["seconds", "median", "least", "most", "of", "goal"]
    assert row == f"a thing     2.00     1.00  {slowest:7.2f}    3  {verdict}"
