"""A table of the user's own: searched by samples or by architecture, evaluated, refused where it cannot be read."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.table_file_options import TableFileOptions
from child_trainer.training.task import TaskError
from cluster.monitoring.status import read_status
from cluster.storage.run_folder import RunFolder
from controller.decisions import enumerate_samples
from controller.spaces.convolutional import ConvolutionalSpace
from tests.command_line import nascluster

SPACE = ConvolutionalSpace(
    filter_heights=(3,), filter_widths=(3,), num_filters=(4, 6), initial_depth=2, max_depth=2, skip_connections=False
)
FLAGS = (
    *("--filter-heights", "3", "--filter-widths", "3", "--num-filters", "4", "6", "--initial-depth", "2"),
    *("--max-depth", "2", "--no-skip-connections"),
)
SAMPLES = list(enumerate_samples(SPACE.decisions(0)))


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def launch(place: Path, table: Path, *words: object) -> int:
    options = ("--task", "table-file", "--data", table, "--searcher", "grid", "--space", "convolutional", "--local")
    return nascluster(
        "launch", "synthetic", *options, *FLAGS, "--name", "own", "--storage-path", place / "runs", *words
    )


def test_a_table_by_samples_is_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(SAMPLES) == 4
    rows = [
        {
            "tokens": " ".join(map(str, tokens)),
            "accuracy": "" if number == 3 else 0.5 + number / 10,
            "seconds": 60 * number,
            "test": 0.4 + number / 10,
            "failure": "diverged" if number == 3 else "",
        }
        for number, tokens in enumerate(SAMPLES)
    ]
    assert launch(tmp_path, written(tmp_path / "table.csv", rows)) == 0
    status = read_status(RunFolder(tmp_path / "runs" / "own"), 0.0)
    assert (status.finished, status.failed, status.causes) == (3, 1, {"diverged": 1})
    assert status.best is not None
    assert (status.best.tokens, status.best.metric, status.best.seconds) == (SAMPLES[2], 0.7, 120.0)
    capsys.readouterr()
    assert nascluster("best", "own", "--storage-path", tmp_path / "runs") == 0
    assert "test accuracy 0.6000 (shown only after the search)" in capsys.readouterr().out


def test_a_table_by_architecture_is_searched_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON by key, the id of one network and the JSON of the other, in a folder; the measure is a perplexity."""
    networks = [SPACE.decode(tokens) for tokens in SAMPLES]
    keys = (networks[0].id, json.dumps(networks[1].to_json()))
    (tmp_path / "table.json").write_text(json.dumps({key: {"perplexity": 90.5 + i} for i, key in enumerate(keys)}))
    words = ("--table-metric", "perplexity", "--reward", "perplexity")
    assert launch(tmp_path, tmp_path, *words) == 0
    status = read_status(RunFolder(tmp_path / "runs" / "own"), 0.0)
    assert (status.finished, status.causes) == (2, {"invalid": 2})
    assert status.best is not None
    assert status.best.metric == 90.5
    (tmp_path / "one.json").write_text(json.dumps([network.to_json() for network in networks[1:3]]))
    capsys.readouterr()
    evaluate = ("evaluate", tmp_path / "one.json", "--task", "table-file", "--data", tmp_path, "--local", "--json")
    assert nascluster(*evaluate, *words, "--name", "e", "--storage-path", tmp_path / "runs") == 0
    found, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["status"], found["metrics"]) == ("finished", {"perplexity": 91.5})
    assert (other["status"], other["cause"]) == ("invalid", "invalid")
    assert f"architecture {networks[2].id}" in other["failure"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"architecture": "0123456789abcdef", "accuracy": 93.0},
            "row 1': `metric` must be a number from 0 to 1, got 93.0; divide",
        ),
        ({"architecture": "0123456789abcdef", "accuracy": ""}, "row 1: `accuracy` must be a number, got ''"),
        ({"architecture": "{", "accuracy": 0.5}, "row 1: `architecture` must be a canonical id or an architecture"),
        ({"architecture": "", "accuracy": 0.5}, "row 1: `architecture` must be a text, got ''"),
        ({"tokens": "1,x", "accuracy": 0.5}, "row 1: `tokens` must be whole numbers, such as 1,0,2, got '1,x'"),
        ({"name": "x", "accuracy": 0.5}, "must be a table with a column `architecture` or `tokens`, and has neither"),
        ({"architecture": "0123456789abcdef", "loss": 0.5}, "row 1 has no `accuracy`"),
        (
            {"architecture": "0123456789abcdef", "accuracy": "", "failure": "bad"},
            "row 1: `failure` must be one of out_of_memory",
        ),
        ({"tokens": "9 9", "accuracy": 0.5}, "row 1: `tokens` is no sample of the search space"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], message: str
) -> None:
    assert launch(tmp_path, written(tmp_path / "table.csv", [row])) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_other_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"architecture": "0123456789abcdef", "accuracy": 0.5}
    assert launch(tmp_path, written(tmp_path / "table.csv", [row, row])) == 2
    assert "row 2: its architecture is that of" in capsys.readouterr().err
    with pytest.raises(TaskError, match=r"the task 'table-file' needs `--data`, a .csv or .json file, or a folder"):
        load_task("table-file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match=r"must be .* and has neither"):
        load_task("table-file", data=tmp_path / "empty")
    with pytest.raises(ValueError, match="`table_metric` must be"):
        TableFileOptions(table_metric="loss")  # pyright: ignore[reportArgumentType]
    samples = written(tmp_path / "samples.csv", [{"tokens": "0", "accuracy": 0.5}])
    (tmp_path / "one.json").write_text(json.dumps(SPACE.decode(SAMPLES[0]).to_json()))
    words = ("--task", "table-file", "--data", samples, "--local", "--storage-path", tmp_path / "runs")
    assert nascluster("evaluate", tmp_path / "one.json", *words) == 2
    assert "samples of another space than 'listed': name them by `architecture`" in capsys.readouterr().err
