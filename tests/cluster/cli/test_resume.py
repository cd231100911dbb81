"""A finished run that is given more children."""

import json
from pathlib import Path

import pytest

from cluster.storage.ledger.ledger import Ledger
from tests.command_line import nascluster

SMALL = ["--local", "--max-children", "6", "--replicas", "1", "--children", "2", "--name", "demo"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Where the run is kept, as arguments."""
    return [] if request.param == "folder" else ["--storage-path", (tmp_path / "objects").as_uri()]


def told(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capfd.readouterr()
    assert nascluster("status", "demo", "--json", *words) == 0
    return json.loads(capfd.readouterr().out)


def test_a_finished_run_goes_on_to_a_higher_number(storage: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("launch", "synthetic", *SMALL, *storage) == 0
    assert nascluster("resume", "demo", *storage) == 2
    assert "all 6 children have ended; give `--max-children` a number above 6" in capfd.readouterr().err
    assert nascluster("resume", "demo", "--max-children", 9, *storage) == 0
    status = told(capfd, *storage)
    assert status["state"] == "finished"
    assert status["children"] == {"sampled": 9, "running": 0, "finished": 9, "failed": 0, "max": 9}
    assert nascluster("resume", "demo", *storage) == 2  # the number is kept


def test_a_number_that_was_raised_in_the_file_is_told_and_reached(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster("launch", "synthetic", *SMALL) == 0
    file = home / "nascluster_runs/demo/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_children": 8}))
    assert nascluster("status", "demo") == 0
    assert "0 running, 6 finished, 0 failed, of at most 8\n" in capfd.readouterr().out
    assert nascluster("doctor", "demo") in (0, 1)
    assert "it has finished, with 6 of 8 children" in capfd.readouterr().out
    assert nascluster("resume", "demo") == 0
    assert told(capfd)["children"] == {"sampled": 8, "running": 0, "finished": 8, "failed": 0, "max": 8}


@pytest.mark.parametrize(
    ("number", "message"),
    [(3, "must be at least 6, the children that the run 'demo' has sampled, got 3"), (0, "at least 1"), (6, "above 6")],
)
def test_a_number_that_would_change_nothing_is_refused(
    number: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster("launch", "synthetic", *SMALL) == 0
    assert nascluster("resume", "demo", "--max-children", number) == 2
    assert message in capfd.readouterr().err
    assert told(capfd)["children"] == {"sampled": 6, "running": 0, "finished": 6, "failed": 0, "max": 6}


def test_a_stopped_run_is_shortened_to_what_is_sampled(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("launch", "synthetic", *SMALL) == 0
    ledger = Ledger(home / "nascluster_runs/demo/ledger.sqlite", 0, 20)
    ledger.end("stopped", "as asked")
    ledger.close()
    assert nascluster("resume", "demo", "--max-children", 8) == 0
    assert told(capfd)["state"] == "finished"
