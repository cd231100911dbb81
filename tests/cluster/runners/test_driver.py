"""How a run ends: what its last writers bring is waited for, and an interrupt says what it leaves behind."""

import io
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from child_trainer.outcome import Outcome
from cluster.cli import main as cli
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.monitoring.metrics.shard_probe import Observe
from cluster.monitoring.status import read_status
from cluster.runners.driver import execute
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import existing_run, run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.locks import sole_writer, writing
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.cluster.searches import finish, nascluster, status, wait_until
from tests.contracts.evaluator import architecture

CONFIG = replace(RECIPES["synthetic"](), local=True, max_children=2)

SMALL = ["launch", "synthetic", "--local", "--max-children", "2", "--name", "demo"]

OUTCOME = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (
            "--searcher evolution --population 100 --tournament 50",
            "the first 100 children of a search, its population, are random; with --population 3 --tournament 2 it"
            " would begin to choose sooner",
        ),
        (
            "--searcher q-learning --space nasbench201 --schedule-models 100",
            "the first 56 unique models of a search are random; with --schedule-models 30 epsilon would fall to 0.1",
        ),
        ("--searcher evolution", None),
    ],
    ids=["evolution", "q-learning", "suited"],
)
def test_a_search_too_short_for_its_searcher_is_noted(
    words: str, note: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["launch", "synthetic", "--local", "--max-children", "30", "--storage-path", str(tmp_path)]
    assert cli.run([*arguments, *words.split()]) == 0
    notes = [line for line in capfd.readouterr().out.splitlines() if line.startswith("Note: ")]
    assert notes == ([f"Note: {note}. This search has 30 children"] if note else [])


EndsAfter = Callable[[float], None]


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "shards" / "shard-000"
    first = sole_writer(path, 0.0)
    sole_writer(path.with_name("shard-001"), 0.0).close()
    with pytest.raises(RunFolderError, match=r"shard-000 must have one writer, .* has held shard-000.lock for 0.2 s"):
        sole_writer(path, 0.2)
    later = threading.Timer(0.3, first.close)
    later.start()
    sole_writer(path, 30.0).close()
    later.join()


@pytest.fixture
def last_writer_goes(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndsAfter]:
    """Make a search end at once whose ledger has another writer, which ends child 2 this many seconds later."""
    threads: list[threading.Thread] = []

    def last_writer_goes(after_s: float) -> None:
        def linger(folder: RunFolder) -> None:
            with writing(folder.path):
                began.set()
                time.sleep(after_s)
                ledger = Ledger(folder.ledger, CONFIG.seed, CONFIG.max_children)
                ledger.finish(2, OUTCOME, 0.5)
                ledger.close()

        def run_locally(config: RunConfig, folder: RunFolder, ledger: Ledger, *, gpu: bool, observe: Observe) -> None:
            ledger.admit(0, 1, [Proposal(tokens=(0,), architecture=architecture())] * 2, ())
            ledger.finish(1, OUTCOME, 0.5)
            threads.append(threading.Thread(target=linger, args=(folder,)))
            threads[0].start()
            assert began.wait(10)

        began = threading.Event()
        monkeypatch.setattr("cluster.runners.local.run_locally", run_locally)

    yield last_writer_goes
    for thread in threads:
        thread.join()


def run(folder: RunFolder) -> str:
    said = io.StringIO()
    assert execute(replace(CONFIG, name="demo"), folder, Console(file=said)).state == "finished"
    return said.getvalue()


def interrupt_in(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def test_the_last_outcome_of_an_actor_that_outlives_the_run_is_in_its_record(
    last_writer_goes: EndsAfter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the object store, too: this machine may vanish."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    last_writer_goes(3.0)
    url = f"file://{tmp_path}/store"
    said = run(run_folder(url, "demo"))
    assert "Waiting for the run's last processes to end" in said
    assert "2 children finished" in said
    shutil.rmtree(tmp_path / "home")
    found = read_status(existing_run(url, "demo"), time.time())
    assert (found.state, found.finished) == ("finished", 2)


def test_a_writer_that_does_not_go_is_waited_for_in_vain_but_not_for_ever(
    last_writer_goes: EndsAfter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.runners.end_of_run.READER_TIMEOUT_S", 0.1)
    monkeypatch.setattr("cluster.runners.end_of_run.WRITERS_TIMEOUT_S", 0.1)
    last_writer_goes(2.0)
    folder = run_folder(tmp_path, "demo")
    said = run(folder)
    assert f"Not all processes of the run have ended: what they still record is in {folder.path}" in said.replace(
        "\n", " "
    )
    assert "Finished after" in said
    assert "1 child finished" in said


def test_ctrl_c_ends_the_waiting_for_the_last_writer_and_not_the_record(
    last_writer_goes: EndsAfter, tmp_path: Path
) -> None:
    last_writer_goes(4.0)
    timer = interrupt_in(1.5)
    began = time.monotonic()
    said = run(run_folder(tmp_path, "demo"))
    assert time.monotonic() - began < 3.5
    timer.join()
    assert "Finished after" in said


def test_nobody_writes_until_the_last_copy_is_made(
    last_writer_goes: EndsAfter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An actor that the cluster starts again in this moment waits."""
    from cluster.storage.object_store.mirror_thread import MirrorThread

    finish, writers = MirrorThread.finish, []

    def finish_and_look(self: MirrorThread) -> bool:
        writers.append(run_folder(url, "demo").without_writers(0.0))
        return finish(self)

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(MirrorThread, "finish", finish_and_look)
    last_writer_goes(0.0)
    url = f"file://{tmp_path}/store"
    run(run_folder(url, "demo"))
    assert writers == [None]
    free = run_folder(url, "demo").without_writers(0.0)
    assert free is not None
    free.close()


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("cluster.runners.local.check_locally", "interrupted before anything was written"),
        (
            "cluster.runners.integrity.check_whole",
            "interrupted while the run 'demo' was being started: `nascluster status demo` shows whether it is there,"
            " and `nascluster resume demo` goes on with it",
        ),
        (
            "cluster.storage.ledger.ledger.Ledger.end",
            "interrupted before the end of the run 'demo' was recorded: what it has done until then is there,"
            " and `nascluster resume demo` goes on",
        ),
        (
            "cluster.runners.driver.summary",
            "interrupted, but the run 'demo' has finished and that is recorded:"
            " `nascluster status demo` shows the rest",
        ),
    ],
)
def test_an_interrupt_says_what_it_leaves_behind(
    where: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(where, interrupted)
        assert cli.run(SMALL) == 130
    assert capfd.readouterr().err == f"nascluster: {message}\n"
    ended = {"check_locally": None, "check_whole": 0, "end": 2, "summary": 2}[where.rpartition(".")[2]]
    folder = run_folder(tmp_path / "nascluster_runs", "demo")
    assert (read_status(folder, time.time()).finished if folder.path.exists() else None) == ended
    if ended == 0:
        assert cli.run(["resume", "demo"]) == 0


def test_ctrl_c_while_a_stop_is_waited_for_leaves_the_stop_asked() -> None:
    flags = ("--local", "--replicas", 1, "--children", 2, "--max-children", 4, "--child-seconds", 4.0)
    search = nascluster("launch", "synthetic", "--name", "waited", *flags)
    wait_until("waited", "SELECT 1 FROM attempts")
    waiting = nascluster("stop", "waited")
    assert waiting.stdout is not None
    assert "waited: stop requested" in waiting.stdout.readline()
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert err == (
        "nascluster: interrupted, but the stop of the run 'waited' stays requested:"
        " `nascluster status waited` shows it\n"
    )
    finish(search, code=130)
    assert (status("waited")["state"], status("waited")["message"]) == ("stopped", "as asked")
