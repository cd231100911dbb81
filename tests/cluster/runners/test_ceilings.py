"""A search ends at its ceiling: what is in training ends, no child begins, and a resume with a higher one goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.runners.trainer import Trainer
from tests.cluster.searches import nascluster as process
from tests.cluster.searches import select, status
from tests.command_line import nascluster

SEARCH = ("synthetic", "--child-seconds", 0.05, "--searcher", "random", "--max-children", 5_000, "--name", "demo")

LATE_S = 10.0
"""Seconds by which a busy machine may be late; without a ceiling the searches take four minutes."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.9f}"


def told(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capfd.readouterr()
    assert nascluster("status", "demo", "--json") == 0
    return json.loads(capfd.readouterr().out)


class Killed(BaseException):
    """Ends the driver as a kill would: nobody records an end."""


@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_a_ceiling_holds_for_100_replicas_over_a_kill_and_a_resume(
    batching: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = Trainer.train

    def dies(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        trained.append(1)
        if len(trained) == 6:
            raise Killed
        return train(self, *args, **kwargs)

    many = ("--local", "--replicas", 100, "--children", 8, "--batching", batching, "--max-hours", hours(1.2))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", dies)
        with pytest.raises(Killed):
            nascluster("launch", *SEARCH, *many)
    assert told(capfd)["state"] == "failed"
    assert nascluster("resume", "demo") == 0
    out = capfd.readouterr().out
    assert "(its ceiling --max-hours is reached: " in out
    assert "To go on: nascluster resume demo --max-hours N" in out
    after = told(capfd)
    assert (after["state"], after["children"]["running"]) == ("finished", 0)
    assert after["message"].startswith("its ceiling --max-hours is reached: 0.00")
    assert 1.2 <= after["seconds"] <= 1.2 + LATE_S
    assert 5 <= after["children"]["finished"] < after["children"]["sampled"]
    assert select("demo", "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(0,)]
    used = after["ceilings"]["used"]["hours"]
    assert used == pytest.approx(after["seconds"] / 3600, abs=1e-6)

    assert nascluster("resume", "demo") == 2
    err = capfd.readouterr().err
    assert err.startswith("nascluster: the run 'demo' has used up a ceiling, 0.00") and err.count("\n") == 1
    assert nascluster("resume", "demo", "--max-hours", hours(1.1)) == 2
    higher = hours(after["seconds"] + 0.5)
    assert nascluster("resume", "demo", "--max-hours", higher, "--max-children", 830) == 0
    last = told(capfd)
    assert last["children"]["finished"] > after["children"]["finished"]
    assert last["ceilings"]["max_hours"] == float(higher)
    assert last["children"]["max"] == 830


def test_what_waits_at_a_ceiling_is_trained_when_it_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    few = ("--local", "--replicas", 2, "--children", 4, "--batching", "stream", "--max-children", 12)
    assert nascluster("launch", *SEARCH, *few, "--max-hours", hours(0.2)) == 0
    first = told(capfd)["children"]
    assert first["finished"] < 12  # perhaps none: a busy machine trains none in this time
    assert nascluster("report", "demo") == 0
    assert nascluster("doctor", "demo") in (0, 1)
    diagnosed = capfd.readouterr().out
    assert "children: its ceiling --max-hours is reached" in diagnosed
    assert "`nascluster resume demo --max-hours N` goes on" in diagnosed
    page = Path("nascluster_runs/demo/report.html").read_text()
    assert "its ceiling --max-hours is reached" in page and "used of what the whole search may" in page
    assert nascluster("resume", "demo", "--max-hours", "1") == 0
    assert told(capfd)["children"] == {"sampled": 12, "running": 0, "finished": 12, "failed": 0, "max": 12}
    assert select("demo", "SELECT count(*), count(DISTINCT child) FROM attempts WHERE verdict = 'outcome'") == [
        (12, 12)
    ]


def test_a_ceiling_on_gpu_hours_and_their_cost_counts_the_childrens_seconds(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with a GPU is only pretended: the task trains nothing."""
    words = ("--local", "--replicas", 1, "--children", 2, "--max-cost", 0.25, "--cost-per-gpu-hour", 3600)
    with monkeypatch.context() as patch:
        patch.setattr("cluster.runners.local.check_locally", lambda config: 0.5)
        assert nascluster("launch", *SEARCH, *words) == 0
    after = told(capfd)
    assert after["message"].startswith("its ceiling --max-cost is reached: a cost of 0.")
    ((seconds,),) = select("demo", "SELECT sum(ended_at - started_at) FROM attempts")
    assert after["ceilings"]["used"]["cost"] == pytest.approx(0.5 * seconds, rel=1e-6)
    assert 0.25 <= 0.5 * seconds <= 0.25 + LATE_S
    # Without a GPU a resume goes on, and says that it cannot come to this ceiling.
    assert nascluster("resume", "demo", "--max-cost", 9, "--max-hours", hours(after["seconds"] + 0.3)) == 0
    out = capfd.readouterr().out
    assert "Children have no GPU here: this start adds nothing to the GPU hours, which --max-cost limits" in out
    assert told(capfd)["ceilings"]["used"]["cost"] == pytest.approx(after["ceilings"]["used"]["cost"])


@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(180)
def test_on_ray_what_is_in_training_ends_and_nothing_begins(shared_ray: str) -> None:
    flags = ("--replicas", 2, "--children", 3, "--batching", "stream", "--workers", 2, "--checkpoint-children")
    words: tuple[object, ...] = ("launch", *SEARCH, "--child-seconds", 0.5, *flags)
    for ceiling_s in (20.0, 60.0):  # a busy machine may need the first for starting the workers
        run = process(*words, "--max-hours", hours(ceiling_s), address=shared_ray)
        out, err = run.communicate(timeout=150)
        assert err == "" and "Ending, as its ceiling --max-hours is reached: " in out
        after = status("demo")
        if after["children"]["finished"]:
            break
        words = ("resume", "demo")
    assert run.returncode == 0
    assert (after["state"], after["children"]["running"]) == ("finished", 0)
    assert set(select("demo", "SELECT DISTINCT verdict, cause FROM attempts")) == {("outcome", None)}
    values = {key: value for key, value in select("demo", "SELECT key, value FROM run")}
    ((last,),) = select("demo", "SELECT max(started_at) FROM attempts")
    assert last - values["started_at"] + values["seconds_before"] <= ceiling_s + LATE_S
    assert after["children"]["finished"] < after["children"]["sampled"]
