"""Searches with several objectives, from the command line to their fronts."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster.runners.trainer import Trainer
from cluster.storage.ledger.compact import OUTCOME_COLUMNS, whole_outcome
from cluster.storage.run_folder import RunFolder
from tests.command_line import nascluster
from tests.real_data import real

DIGITS = (
    *("launch", "digits", "--local", "--searcher", "random", "--replicas", 1, "--children", 2, "--epochs", 1),
    *("--train-fraction", 0.1, "--num-filters", 4, 6, "--reward", "accuracy", "--max-children", 4, "--seed", 2),
    *("--objective", "accuracy", "--objective", "latency=min", "--target", "latency=1ms", "--target-weights", 0, -1),
)


def children(folder: Path) -> list[dict[str, Any]]:
    """Return each child's reward and outcome, in the order of sampling."""
    with closing(sqlite3.connect(RunFolder(folder).ledger)) as db:
        return [
            {"child": child, "reward": reward, **whole_outcome(*columns)}
            for child, reward, *columns in db.execute(f"SELECT id, reward, {OUTCOME_COLUMNS} FROM children ORDER BY id")
        ]


def read(capfd: pytest.CaptureFixture[str], *words: object) -> Any:
    capfd.readouterr()
    assert nascluster(*words, "--json") == 0
    return json.loads(capfd.readouterr().out)


def test_latency_is_measured_once_a_child_and_counts_in_reward_front_and_report(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster(*DIGITS, "--name", "quick") == 0
    run = folder / "nascluster_runs/quick"
    measured = children(run)
    assert len(measured) == 4
    for child in measured:
        latency = child["measurements"]["latency_ms"]
        assert latency > 0
        assert child["reward"] == pytest.approx(child["curve"][0] * min(1.0, 1.0 / latency))

    shown = read(capfd, "pareto", "quick")
    assert shown["children"] == 4
    assert shown["units"] == {"latency": "ms"}
    by_id = {child["child"]: child for child in measured}
    assert [
        (by_id[each["child_id"]]["curve"][0], by_id[each["child_id"]]["measurements"]["latency_ms"])
        for each in shown["front"]
    ] == [(each["metric"], each["latency"]) for each in shown["front"]]
    latencies = [each["latency"] for each in shown["front"]]
    assert latencies == sorted(latencies)
    assert min(child["measurements"]["latency_ms"] for child in measured) == latencies[0]
    assert read(capfd, "status", "quick")["pareto"]["front"] == shown["front"]
    best = read(capfd, "best", "quick")
    assert best["front"] == shown["front"]
    assert best["latency_ms"] == by_id[best["child_id"]]["measurements"]["latency_ms"]
    assert read(capfd, "pareto", "quick", "--x", "flops")["units"] == {"flops": ""}

    assert nascluster("best", "quick") == 0
    text = capfd.readouterr().out
    assert f"latency {best['latency_ms']:.4g} ms" in text
    assert f"Pareto front of validation accuracy and latency: {len(latencies)} of 4 children" in text
    assert nascluster("report", "quick") == 0
    page = (run / "report.html").read_text()
    assert "latency, ms" in page
    assert "The search is for low latency, too." in page

    assert nascluster("resume", "quick", "--max-children", "6") == 0
    assert children(run)[:4] == measured
    assert len(children(run)) == 6


@pytest.fixture
def small_search(folder: Path) -> tuple[object, ...]:
    """The words of a search of the table by Pareto rank, of latency on a phone."""
    return (
        *(
            "launch",
            "nasbench201",
            "--data",
            real("nasbench201"),
            "--local",
            "--searcher",
            "evolution",
            "--replicas",
            1,
        ),
        *("--population", 8, "--tournament", 4, "--max-children", 24, "--objective", "latency", "--latency-device"),
        "pixel3",
    )


def test_a_table_gives_the_latency_of_a_device_and_a_killed_search_comes_out_the_same(
    small_search: tuple[object, ...],
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert nascluster(*small_search, "--name", "whole") == 0
    whole = children(folder / "nascluster_runs/whole")
    rows = (Path(str(real("nasbench201"))) / "latency_ms.csv").read_text().splitlines()
    column = rows[0].split(",").index("pixel3")
    latencies = {float(row.split(",")[column]) for row in rows[1:]}
    assert {child["measurements"]["latency_ms"] for child in whole} <= latencies
    assert {child["reward"] for child in whole} == {child["curve"][0] for child in whole}

    trained, train = [0], Trainer.train

    def dying(self: Trainer, *arguments: Any, **options: Any) -> Any:
        trained[0] += 1
        if trained[0] == 14:
            raise RuntimeError("killed")
        return train(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", dying)
        assert nascluster(*small_search, "--name", "killed") == 1
    assert nascluster("resume", "killed") == 0
    assert children(folder / "nascluster_runs/killed") == whole

    capfd.readouterr()
    assert nascluster("pareto", "whole", "--x", "flops") == 2
    assert "no child of the run 'whole' has FLOPs of one example: give `--x` parameters" in capfd.readouterr().err
    assert nascluster("pareto", "whole", "--x", "size") == 2
    assert "`--x` must be one of parameters, flops, seconds, latency, memory, got 'size'" in capfd.readouterr().err


def test_a_table_without_its_latencies_is_refused(
    small_search: tuple[object, ...], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = folder / "data"
    data.mkdir()
    for name in ("nasbench201.csv", "times_1000.csv", "train_time_model.json"):
        shutil.copy(Path(str(real("nasbench201"))) / name, data)
    assert nascluster(*small_search, "--data", data) == 2
    assert f"{data}/latency_ms.csv cannot be read" in capfd.readouterr().err
    (data / "latency_ms.csv").write_text("index,pixel3\n0,1.5\n")
    assert nascluster(*small_search, "--data", data) == 2
    assert "latency_ms.csv must have 15,625 cells, got 1" in capfd.readouterr().err
    assert not (folder / "nascluster_runs").exists()


def test_a_run_without_children_has_no_front(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from cluster.config.run_config import RunConfig

    RunFolder(folder / "nascluster_runs/new").create(RunConfig())
    assert nascluster("pareto", "new") == 1
    assert capfd.readouterr().out == "No child has finished yet.\n"
