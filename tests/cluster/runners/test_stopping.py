"""`nascluster stop`, on Ray and in one process: what is in training ends or is given back, and a resume finishes."""

import subprocess
from typing import Any

import pytest

from tests.cluster.searches import finish, nascluster, run_folder, select, status, wait_for
from tests.lengths import FACTOR

pytestmark = pytest.mark.timeout(180)

FLAGS = ("--replicas", 1, "--children", 3, "--epochs", 4)

LOCAL = ("--local",)

ON_RAY = ("--workers", 2)


def checkpoints(name: str) -> list[str]:
    return sorted(path.name for path in (run_folder(name) / "checkpoints").glob("*"))


def stop(name: str, running: "subprocess.Popen[str]") -> str:
    """Stop the run while children are in training; what its driver printed."""
    out = finish(nascluster("stop", name))
    assert f"{name}: stop requested;" in out
    assert f"{name}: stopped (as asked)" in out
    assert f"Resume with: nascluster resume {name}" in out
    printed = finish(running, code=130)
    assert f"Resume with: nascluster resume {name}" in printed
    assert status(name)["state"] == "stopped"
    assert select(name, "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(0,)]
    return printed


def check_whole(name: str, children: int, fates: set[tuple[str, str | None]]) -> None:
    """Every child has ended, none was trained twice, and no attempt has another fate than these."""
    assert status(name)["state"] == "finished"
    assert select(name, "SELECT count(*), count(DISTINCT completion) FROM children WHERE state = 'finished'") == [
        (children, children)
    ]
    assert select(name, "SELECT count(*) FROM attempts WHERE verdict = 'outcome'") == [(children,)]
    assert set(select(name, "SELECT DISTINCT verdict, cause FROM attempts")) == fates


@pytest.fixture(
    params=[pytest.param(False, id="ray", marks=pytest.mark.xdist_group("ray")), pytest.param(True, id="local")]
)
def local(request: pytest.FixtureRequest) -> bool:
    """Return whether the search runs in one process, without Ray."""
    return request.param


@pytest.fixture
def where(local: bool, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the arguments of `nascluster` that set where the search runs."""
    return {} if local else {"address": request.getfixturevalue("shared_ray")}


def test_what_is_in_training_ends_first_and_a_resume_goes_on(local: bool, where: dict[str, Any]) -> None:
    name = f"stopped-{'local' if local else 'ray'}"
    flags = [*FLAGS, "--max-children", 6, "--child-seconds", 1.0, *(LOCAL if local else ON_RAY)]
    run = nascluster("launch", "synthetic", "--name", name, *flags, **where)
    wait_for(name, finished=1)
    stop(name, run)
    assert select(name, "SELECT count(*) FROM children WHERE state = 'running'") == [(0,)]
    assert 1 <= status(name)["children"]["finished"] < 6
    finish(nascluster("resume", name, **where))
    check_whole(name, 6, {("outcome", None)})


def test_children_that_save_their_state_are_given_back_at_once(local: bool, where: dict[str, Any]) -> None:
    if not local and FACTOR == 1:
        pytest.skip("takes long on Ray: `make chaos` runs it")
    name = f"given-back-{'local' if local else 'ray'}"
    # On Ray the word that a child is to be given back comes with a sign of life, which takes some seconds.
    seconds = 2.0 if local else 8.0
    flags = ["--max-children", 3, "--child-seconds", seconds, "--checkpoint-children", *(LOCAL if local else ON_RAY)]
    run = nascluster("launch", "synthetic", "--name", name, *FLAGS, *flags, **where)
    wait_for(name, finished=1)
    stop(name, run)
    given_back = select(name, "SELECT DISTINCT child FROM attempts WHERE cause = 'preempted' AND verdict = 'retry'")
    assert given_back
    assert checkpoints(name) == sorted(f"child-{child:08d}.safetensors" for (child,) in given_back)

    # As a killed run may leave them: of a child that has ended, and half written.
    folder = run_folder(name) / "checkpoints"
    ((ended,),) = select(name, "SELECT max(id) FROM children WHERE state = 'finished'")
    (folder / f"child-{ended:08d}.safetensors").write_bytes(b"left over")
    (folder / f"child-{given_back[0][0]:08d}.safetensors.tmp").write_bytes(b"half")

    finish(nascluster("resume", name, **where))
    check_whole(name, 3, {("outcome", None), ("retry", "preempted")})
    assert checkpoints(name) == []
    assert status(name)["retries"] == {"preempted": len(given_back)}
    assert status(name)["failures"] == {}
    # From the beginning they would have taken all of their time again.
    for (child,) in given_back:
        last = f"SELECT ended_at - started_at FROM attempts WHERE child = {child} AND verdict = 'outcome'"
        assert select(name, last)[0][0] < seconds
