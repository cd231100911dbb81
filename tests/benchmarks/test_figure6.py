"""The statistic of the paper's figure 6 on trained children: the tables, and two short searches that are kept."""

from pathlib import Path

import pytest

from benchmarks import figure6
from controller.statistics import CURVE_STEP, NamedReward


def search(*steps: float) -> list[NamedReward]:
    """Return a search in which each 400 children are different networks of equal accuracy."""
    return [(f"{step}-{child}", value) for step, value in enumerate(steps) for child in range(CURVE_STEP)]


def test_a_table_compares_the_searches_seed_by_seed() -> None:
    runs: figure6.Runs = {
        "reinforce": [search(0.5, 0.75), search(0.25, 0.5), search(0.5, 0.5)],
        "random": [search(0.25, 0.25), search(0.5, 0.25), search(0.25, 0.25)],
    }
    lines = figure6.table(runs, figure6.latest).split("\n")
    assert lines[0] == "| children | search | best 1 | best 5 | best 15 | all |"
    same = " | ".join(["0.2500 (-0.2500 to 0.2500)"] * 4)
    assert lines[4] == f"| 400 | difference | {same} |"
    same = " | ".join(["0.2500 (0.2500 to 0.2500)"] * 4)
    assert lines[6] == f"| 800 | random | {same} |"
    assert len(lines) == 8
    best = figure6.table(runs, figure6.top_mean_curve).split("\n")
    assert best[0] == "| children | search | best 1 | best 5 | best 15 |"
    assert best[6] == f"| 800 | random | {' | '.join(['0.2500 (0.2500 to 0.5000)'] * 3)} |"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["0"], "`seeds` must be at least 1, got 0"),
        (["1", "--children", "400"], "give them with `--task`"),
        (["--task", "digits", "--children", "399"], "`--children` must be at least 400"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        figure6.parse(words)
    assert reason in capsys.readouterr().err


def test_a_measurement_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    first, seconds = figure6.trained("digits", range(1, 2), 6, None, tmp_path)
    assert [len(first[searcher][0]) for searcher in figure6.SEARCHERS] == [6, 6]
    assert all(0 < reward <= 1 for runs in first.values() for _, reward in runs[0])
    assert figure6.trained("digits", range(1, 2), 6, None, tmp_path) == (first, seconds)
