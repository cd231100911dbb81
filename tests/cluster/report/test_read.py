"""The facts of a report, against figures worked out independently, row by row."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Measure
from cluster.report.facts import COLUMNS, ROWS, ChildPoint, Facts
from cluster.report.read import SLICES, read_facts
from cluster.report.read_children import MAX_DRAWN, read_cloud
from cluster.storage.errors import RunFolderError
from cluster.storage.run_folder import RunFolder
from tests.cluster.report.ledgers import CONFIG, START, WORKERS, filled_run, ledger, new_run

NOW = START + 10_000_000

Rows = list[dict[str, Any]]


def rows(folder: RunFolder, table: str) -> Rows:
    with closing(sqlite3.connect(folder.ledger)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT * FROM {table}")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return filled_run(tmp_path_factory.mktemp("runs"), 3000)


@pytest.fixture(scope="module")
def facts(folder: RunFolder) -> Facts:
    return read_facts(folder, NOW)


@pytest.fixture(scope="module")
def ended(folder: RunFolder) -> Rows:
    return sorted(rows(folder, "children"), key=lambda row: row["completion"])


def finished(ended: Rows) -> Rows:
    return [row for row in ended if row["state"] == "finished"]


def test_the_best_are_of_different_architectures(facts: Facts, ended: Rows) -> None:
    expected: Rows = []
    for row in sorted(finished(ended), key=lambda row: (-row["reward"], row["id"])):
        if row["architecture_id"] not in [e["architecture_id"] for e in expected]:
            expected.append(row)
    assert [best.child_id for best in facts.best] == [row["id"] for row in expected[:5]]
    assert [best.reward for best in facts.best] == [row["reward"] for row in expected[:5]]
    assert facts.status.best is not None
    assert facts.status.best.child_id == facts.best[0].child_id


def test_best_so_far_rises_at_each_new_best_child(facts: Facts, ended: Rows) -> None:
    expected, best = [], None
    for row in ended:
        if row["metric"] is not None and (best is None or row["metric"] > best):
            best = row["metric"]
            expected.append((row["completion"], row["ended_at"] - START - 0.01, best))
    found = [(place.children, pytest.approx(place.seconds), place.value) for place in facts.progress.best]
    assert found[:-1] == expected
    assert found[-1][0] == 3000
    assert found[-1][2] == best


def test_rewards_are_window_means_and_work_accumulates(facts: Facts, ended: Rows, folder: RunFolder) -> None:
    assert facts.progress.window == 30
    spent: dict[int, float] = {}
    for row in rows(folder, "attempts"):
        spent[row["child"]] = spent.get(row["child"], 0.0) + row["ended_at"] - row["started_at"]
    assert len(facts.progress.rewards) > 200
    for place in facts.progress.rewards[::20]:
        window = [row["reward"] for row in ended[max(0, place.children - 30) : place.children]]
        assert place.value == pytest.approx(sum(window) / len(window))
        assert place.work == pytest.approx(sum(spent[row["id"]] for row in ended[: place.children]))
    assert facts.work.seconds == pytest.approx(sum(spent.values()))
    assert facts.gpu_seconds == pytest.approx(sum(spent.values()) / 2)


def test_work_is_useful_when_it_gave_a_metric(facts: Facts, folder: RunFolder) -> None:
    attempts = rows(folder, "attempts")
    useful = sum(row["ended_at"] - row["started_at"] for row in attempts if row["cause"] is None)
    assert facts.work.useful == pytest.approx(useful)
    assert facts.work.attempts == len(attempts)


def test_busy_workers_are_the_attempts_share_of_each_slice(facts: Facts, folder: RunFolder) -> None:
    attempts = [(row["started_at"] - START - 0.01, row["ended_at"] - START - 0.01) for row in rows(folder, "attempts")]
    begin = 0.0
    assert len(facts.work.busy) == SLICES
    for end, busy in facts.work.busy:
        covered = sum(max(0.0, min(end, to) - max(begin, since)) for since, to in attempts)
        assert busy == pytest.approx(covered / (end - begin), abs=1e-6)
        begin = end
    assert max(busy for _, busy in facts.work.busy) <= WORKERS + 1e-6


def front(ended: Rows, cost: str) -> list[ChildPoint]:
    found = [ChildPoint(id=r["id"], cost=r[cost], metric=r["metric"]) for r in finished(ended)]
    return [
        a for a in found
        if not any(
            b.cost <= a.cost and b.metric >= a.metric and (b.cost, b.metric) != (a.cost, a.metric) for b in found
        )
    ]  # fmt: skip


@pytest.mark.parametrize("cost", ["parameters", "flops", "seconds"])
def test_the_pareto_front_has_the_undominated_children(cost: str, facts: Facts, ended: Rows) -> None:
    (cloud,) = [cloud for cloud in facts.clouds if cloud.cost == cost]
    assert sorted(cloud.front, key=lambda c: c.cost) == list(cloud.front)
    assert {child.id for child in cloud.front} == {child.id for child in front(ended, cost)}


def test_many_children_are_counted_in_cells_and_few_are_listed(facts: Facts, ended: Rows, tmp_path: Path) -> None:
    for cloud in facts.clouds:
        assert cloud.children == ()
        assert sum(cloud.cells.values()) == cloud.count == len(finished(ended))
        assert all(0 <= column < COLUMNS and 0 <= row < ROWS for column, row in cloud.cells)
    few = read_facts(filled_run(tmp_path, 100), NOW)
    for cloud in few.clouds:
        assert not cloud.cells
        assert len(cloud.children) == cloud.count == few.status.finished


@pytest.mark.parametrize("count", [200, MAX_DRAWN + 1])
def test_one_outlying_perplexity_does_not_flatten_the_others(count: int) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE ended (id, state, parameters, metric)")
    perplexities = [100.0 + child % 97 for child in range(count - 1)] + [5e4]
    rows = [(child, "finished", 1000 + child % 7, metric) for child, metric in enumerate(perplexities)]
    db.executemany("INSERT INTO ended VALUES (?, ?, ?, ?)", rows)
    cloud = read_cloud(db, "parameters", Measure("perplexity"))
    assert cloud is not None
    assert cloud.log == (False, True)
    assert len({row for _, row in cloud.cells}) > 3 or cloud.children
    accuracies = read_cloud(db, "parameters", Measure("accuracy"))
    assert accuracies is not None
    assert accuracies.log == (False, False)


def quantile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of all do not exceed."""
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def test_slices_of_batches_have_means_and_quantiles(facts: Facts, folder: RunFolder) -> None:
    batches = sorted(rows(folder, "batches"), key=lambda row: row["learned_at"])
    size = len(batches) / len(facts.learned)
    assert len(facts.learned) == SLICES
    for number in (0, 37, SLICES - 1):
        mine = [row for place, row in enumerate(batches) if int(place / size) == number]
        found = facts.learned[number]
        stale = [value for row in mine for value in json.loads(row["staleness"])]
        assert found.staleness == pytest.approx(sum(stale) / len(stale))
        assert found.worst_staleness == max(stale)
        entropies = [json.loads(row["figures"])["entropy"] for row in mine]
        assert found.figures["entropy"] == pytest.approx(sum(entropies) / len(entropies))
        assert found.pull == quantile([row["pull_seconds"] for row in mine], 50)
        assert found.slow_push == quantile([row["push_seconds"] for row in mine], 95)


def test_troubles_are_counted_by_cause(facts: Facts, ended: Rows, folder: RunFolder) -> None:
    attempts = [row for row in rows(folder, "attempts") if row["cause"]]
    for cause in ("crashed", "timeout", "diverged"):
        assert facts.troubles.attempts[cause] == sum(row["cause"] == cause for row in attempts)
        assert facts.troubles.children[cause] == sum(row["cause"] == cause for row in ended)
        retried = [row for row in attempts if row["cause"] == cause and row["verdict"] == "retry"]
        assert facts.troubles.retried[cause] == len(retried) > 0
    last = max(attempts, key=lambda row: row["ended_at"])
    assert facts.troubles.latest[0] == (last["child"], last["cause"], "why")
    assert len(facts.troubles.latest) == 5


def test_a_running_attempt_counts_up_to_now_only_while_the_search_runs(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    with ledger(folder) as db:
        db.execute(
            "INSERT INTO children (id, replica, batch, tokens, graph, architecture_id, seed, state, sampled_at)"
            " VALUES (1, 0, 1, '[]', '{}', '', 1, 'running', 100.0)"
        )
        db.execute("INSERT INTO attempts (child, number, worker, key, started_at) VALUES (1, 1, 'w', 'k', 110.0)")
        state = {"state": "running", "message": "", "started_at": 90.0, "beat_at": 120.0, "workers": 2}
        db.executemany("INSERT INTO run VALUES (?, ?)", state.items())
    with folder.held():
        alive = read_facts(folder, 150.0).work
    assert alive.seconds == 40.0
    assert sum(busy for _, busy in alive.busy) * 50.0 / SLICES == pytest.approx(40.0)
    assert read_facts(folder, 150.0).work.seconds == 0.0


def test_only_the_progress_of_the_other_run_is_read(facts: Facts, folder: RunFolder, tmp_path: Path) -> None:
    other = filled_run(tmp_path, 200, name="other")
    both = read_facts(folder, NOW, other)
    assert both.other == read_facts(other, NOW).progress
    assert both.progress == facts.progress
    assert facts.other is None


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    folder, good = new_run(tmp_path), filled_run(tmp_path, 5, name="good")
    folder.ledger.write_bytes(b"this is no database, whatever its name says")
    with pytest.raises(RunFolderError, match=r"run/ledger\.sqlite cannot be read"):
        read_facts(folder, NOW)
    with pytest.raises(RunFolderError, match=r"run/ledger\.sqlite cannot be read"):
        read_facts(good, NOW, folder)


def test_reading_writes_nothing(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 50)
    before = folder.ledger.read_bytes(), sorted(path.name for path in folder.path.iterdir())
    read_facts(folder, NOW)
    assert (folder.ledger.read_bytes(), sorted(path.name for path in folder.path.iterdir())) == before
    assert CONFIG.max_children == read_facts(folder, NOW).status.max_children
