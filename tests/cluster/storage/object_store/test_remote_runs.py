"""Whole searches that are kept in an object store: machines vanish, drivers meet, the network goes away."""

import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console

from cluster.cli import main as cli
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.driver import execute
from cluster.storage.find_run import existing_run, run_folder
from cluster.storage.object_store import working_copy
from cluster.storage.object_store.driver_lease import acquire_lease, newest_lease
from cluster.storage.object_store.object_names import CONFIG, STOP, files, segments, start_name
from cluster.storage.object_store.store import open_storage
from cluster.storage.run_folder import RunFolder
from tests.cluster.conftest import ObjectService
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

BOUND_S = 5.0
"""What was recorded longer ago than this is in the object store."""

Process = subprocess.Popen[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(working_copy, "LEASE_TIMEOUT_S", 6.0)
    return tmp_path / "home"


def nascluster(*arguments: object) -> int:
    return cli.run([str(a) for a in arguments])


def driver(url: str, *arguments: object) -> Process:
    """A driver in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *map(str, arguments), "--storage-path", url],
        cwd=Path(__file__).parents[4],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@contextmanager
def running(url: str, *arguments: object) -> Iterator[Process]:
    process = driver(url, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def finished(folder: RunFolder) -> int:
    try:
        return rows(folder.ledger, "SELECT count(*) FROM children WHERE completion IS NOT NULL")[0][0]
    except sqlite3.OperationalError:
        return 0


ENDED = "SELECT id, completion, ended_at, outcome FROM children WHERE completion IS NOT NULL ORDER BY id"
TRAINED = "SELECT child, count(*) FROM attempts WHERE verdict = 'outcome' GROUP BY child"


def check_whole(folder: RunFolder, children: int) -> None:
    """Every child has its one outcome, and every batch that was learnt from was pushed once to every shard."""
    assert rows(folder.ledger, "SELECT count(*), count(completion) FROM children") == [(children, children)]
    assert {times for _, times in rows(folder.ledger, TRAINED)} == {1}
    batches = rows(
        folder.ledger, "SELECT replica, max(number), count(*) FROM batches WHERE pushed = 1 GROUP BY replica"
    )
    assert all(last == count for _, last, count in batches)
    for path in folder.shards.glob("shard-???.safetensors"):
        header = path.read_bytes()
        state = json.loads(json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]["state"])
        assert {client: entry[0] for client, entry in state["clients"].items()} == {
            f"replica-{replica}": last for replica, last, _ in batches
        }


@pytest.fixture(params=["s3", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("s3_url") if request.param == "s3" else f"{request.param}://{tmp_path}/store"


def test_a_run_is_resumed_from_its_url_alone(
    url: str, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.runners.trainer import Trainer

    train, count = Trainer.train, iter(range(100))

    def interrupted(self: Trainer, *args: Any, **options: Any) -> Any:
        if next(count) == 19:
            raise KeyboardInterrupt
        return train(self, *args, **options)

    where = ("--storage-path", url)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", interrupted)
        assert nascluster("launch", "synthetic", "--local", "--max-children", 32, "--name", "demo", *where) == 130
    said = capfd.readouterr().out
    assert f"Run demo in {url}/demo" in said
    assert f"All files are in {url}/demo" in said
    assert f"Resume with: nascluster resume demo --storage-path {url}" in said
    before = rows(run_folder(url, "demo").ledger, ENDED)
    assert len(before) == 19

    shutil.rmtree(home)
    assert nascluster("status", "demo", "--json", *where) == 0
    assert json.loads(capfd.readouterr().out)["children"]["finished"] == 19
    assert nascluster("best", "demo", "--json", *where) == 0
    capfd.readouterr()
    assert not home.exists()  # looking leaves nothing behind
    assert nascluster("resume", "demo", *where) == 0
    assert "32 children finished" in capfd.readouterr().out
    folder = run_folder(url, "demo")
    assert set(rows(folder.ledger, ENDED)).issuperset(before)
    check_whole(folder, 32)

    assert nascluster("resume", "demo", *where) == 2
    assert "has finished" in capfd.readouterr().err
    names = open_storage(f"{url}/demo").names()
    assert {name.start for name in (*segments(names), *files(names))} == {2}  # the first start's were removed
    assert nascluster("launch", "synthetic", "--name", "demo", *where) == 2
    assert re.search(f"a run named 'demo' exists in {url}: resume it with", capfd.readouterr().err)
    assert nascluster("status", "other", *where) == 2
    assert f"no run named 'other' in {url}; the runs there are demo" in capfd.readouterr().err


LONG = ("launch", "synthetic", "--local", "--name", "demo", "--child-seconds", 0.05)


def test_a_run_is_resumed_on_another_machine_after_the_loss_of_the_first(
    s3_url: str, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--storage-path", s3_url)
    folder = run_folder(s3_url, "demo")
    with running(s3_url, *LONG, "--max-children", 160) as process:
        until(lambda: finished(folder) > 20, "progress of the run", timeout_s=60)
        # Another machine looks at it, and is kept out.
        monkeypatch.setenv("HOME", str(home / "elsewhere"))
        assert nascluster("status", "demo", "--json", *where) == 0
        assert json.loads(capfd.readouterr().out)["state"] == "running"
        assert nascluster("resume", "demo", *where) == 2
        assert f"is running: the driver on {os.uname().nodename} (process {process.pid}) is alive" in (
            capfd.readouterr().err
        )
        monkeypatch.setenv("HOME", str(home))
        assert nascluster("resume", "demo", *where) == 2
        assert "the run 'demo' is running" in capfd.readouterr().err
        until(lambda: finished(folder) > 100, "progress of the run", timeout_s=60)
        process.send_signal(signal.SIGKILL)
        killed_at = time.time()
        process.wait()
    known = [row for row in rows(folder.ledger, ENDED) if row[2] < killed_at - BOUND_S]
    assert known
    monkeypatch.setenv("HOME", str(home / "elsewhere"))
    assert nascluster("status", "demo", "--json", *where) == 0
    assert json.loads(capfd.readouterr().out)["message"] == "its driver died"
    copy = existing_run(s3_url, "demo")
    restored = rows(copy.ledger, ENDED)
    assert set(restored).issuperset(known)
    assert nascluster("resume", "demo", *where) == 0
    said = capfd.readouterr().out
    assert "did not report its end; waiting up to" in said
    again = run_folder(s3_url, "demo")
    assert set(rows(again.ledger, ENDED)).issuperset(restored)
    trained = dict(rows(again.ledger, "SELECT child, count(*) FROM attempts GROUP BY child"))
    assert all(trained[row[0]] == 1 for row in restored)
    check_whole(again, 160)


def test_a_run_resumes_at_once_from_the_killed_drivers_own_copy(s3_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(s3_url, "demo")
    with running(s3_url, *LONG, "--max-children", 60) as process:
        until(lambda: finished(folder) > 20, "progress of the run", timeout_s=60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = rows(folder.ledger, ENDED)
    assert nascluster("resume", "demo", "--storage-path", s3_url) == 0
    assert "for a heartbeat" not in capfd.readouterr().out
    assert set(rows(folder.ledger, ENDED)).issuperset(before)
    check_whole(folder, 60)


def test_a_driver_that_was_replaced_stops_and_writes_no_more(s3_url: str) -> None:
    folder = run_folder(s3_url, "demo")
    storage = open_storage(f"{s3_url}/demo")
    with running(s3_url, *LONG, "--max-children", 10_000) as process:
        until(lambda: finished(folder) > 10, "progress of the run", timeout_s=60)
        acquire_lease(storage, newest_lease(storage), "another")
        out, err = process.communicate(timeout=30)
        assert process.returncode == 1, out + err
        assert "Failed after" in out
        assert "another driver has taken over the run: the driver on" in out
    before = {name: storage.read(name) for name in storage.names()}
    time.sleep(3)
    assert {name: storage.read(name) for name in storage.names()} == before
    assert json.loads(before[start_name(1)] or b"")["released"] is False


def test_the_search_continues_while_the_network_is_unavailable(
    s3_url: str, object_service: ObjectService, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(s3_url, "demo")
    with running(s3_url, *LONG, "--max-children", 250) as process:
        until(lambda: finished(folder) > 10, "progress of the run", timeout_s=60)
        object_service.stop()
        try:
            there = finished(folder)
            until(lambda: finished(folder) > there + 60, "progress without the network", timeout_s=60)
        finally:
            object_service.start()
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, out + err
    assert out.count("failed and will be retried until it works") == 1
    assert out.count("works again; everything has been uploaded") == 1
    before = rows(folder.ledger, ENDED)
    shutil.rmtree(home)
    assert rows(existing_run(s3_url, "demo").ledger, ENDED) == before


def test_a_run_is_stopped_from_another_machine(
    s3_url: str, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(s3_url, "demo")
    with running(s3_url, *LONG, "--max-children", 10_000) as process:
        until(lambda: finished(folder) > 1, "progress of the run", timeout_s=60)
        monkeypatch.setenv("HOME", str(home / "elsewhere"))
        assert nascluster("stop", "demo", "--storage-path", s3_url) == 0
        assert "demo: stopped (as asked)" in capfd.readouterr().out
        assert process.wait(timeout=10) == 130
    # The wish is for that driver, not for the next one.
    with running(s3_url, "resume", "demo") as process:
        again = run_folder(s3_url, "demo")
        until(lambda: finished(again) > finished(folder) + 5, "progress of the resumed run", timeout_s=60)
        assert process.poll() is None


class LooksFirst(MemoryFileSystem):
    """A store like most that fsspec knows, of which nobody says that one only can create an object."""

    protocol = "looks-first"


def test_a_store_that_may_let_two_drivers_start_is_reported_at_each_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def starts_and_resumes(url: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr("cluster.runners.local.run_locally", interrupted)
            assert nascluster(*LONG, "--max-children", 2, "--storage-path", url) == 130
        assert nascluster("resume", "demo", "--storage-path", url) == 0
        return capfd.readouterr().out

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    register_implementation("looks-first", LooksFirst, clobber=True)
    url = f"looks-first://{tmp_path}/store"
    warning = f"{url}/demo is in a store that may not detect two drivers that start at the same time"
    assert starts_and_resumes(url).count(warning) == 2
    assert "may not detect" not in starts_and_resumes(f"memory://{tmp_path}/store")


def test_a_working_copy_that_is_out_of_date_is_renamed_and_kept(tmp_path: Path, home: Path) -> None:
    url = f"file://{tmp_path}/store"
    config = RunConfig(storage_path=url)
    folder = run_folder(url, "demo")

    def drive(folder: RunFolder) -> None:
        with working_copy.driving(folder, config, print, print):
            pass

    drive(folder)
    (folder.path / "mark").write_text("here")
    moved = home.with_name("moved")
    home.rename(moved)
    drive(working_copy.resumable_copy(url, "demo", print))  # another machine went on meanwhile
    shutil.rmtree(home)
    moved.rename(home)
    resumed = working_copy.resumable_copy(url, "demo", print)
    assert resumed == folder
    assert not (folder.path / "mark").exists()
    (aside,) = folder.path.parent.glob(".demo.*.aside")
    assert (aside / "mark").read_text() == "here"
    drive(resumed)
    assert (newest := newest_lease(open_storage(f"{url}/demo"))) and newest.number == 3


def test_a_stop_is_for_the_driver_of_a_new_run_and_not_for_a_later_one(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    config, folder = RunConfig(storage_path=url), run_folder(url, "demo")
    storage = open_storage(f"{url}/demo")

    def stops(folder: RunFolder) -> Iterator[bool]:
        with working_copy.driving(folder, config, print, print, folder.request_stop):
            yield folder.stop_requested()
        storage.write(STOP, b"{}")
        with working_copy.driving(folder, config, print, print):
            yield STOP in storage.names() or folder.stop_requested()

    storage.write(STOP, b"{}")  # of a removed run
    assert list(stops(folder)) == [True, False]
    assert STOP not in storage.names()


@pytest.mark.parametrize("dies_at", ["acquire_lease", "HeldLease"])
def test_a_copy_stays_up_to_date_if_its_driver_dies_around_its_lease(
    dies_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/store"
    config = RunConfig(storage_path=url)
    folder = run_folder(url, "demo")
    with working_copy.driving(folder, config, print, print):
        pass
    (folder.path / "mark").write_text("newer than all objects")

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(working_copy, dies_at, die)
        with pytest.raises(Died), working_copy.driving(folder, config, print, print):
            pass
    resumed = working_copy.resumable_copy(url, "demo", print)
    assert (resumed.path / "mark").exists()
    with working_copy.driving(resumed, config, print, print):
        pass


def test_a_restored_copy_is_not_trusted_when_the_objects_have_changed(tmp_path: Path, home: Path) -> None:
    url = f"file://{tmp_path}/store"
    config = RunConfig(storage_path=url)
    with working_copy.driving(run_folder(url, "demo"), config, print, print):
        pass
    shutil.rmtree(home)
    copy = working_copy.resumable_copy(url, "demo", print)
    storage = open_storage(f"{url}/demo")
    lease = newest_lease(storage)
    assert lease is not None
    storage.write(start_name(1), b"a heartbeat")
    with (
        pytest.raises(ValueError, match="changed by another driver"),
        working_copy.driving(copy, config, print, print),
    ):
        pass


def test_a_launch_that_died_before_its_first_start_can_be_resumed(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    config = RECIPES["synthetic"]()
    storage = open_storage(f"{url}/demo")
    storage.write(CONFIG, json.dumps(config.to_json()).encode())
    assert nascluster("resume", "demo", "--storage-path", url, "--on", "local") == 0


def test_a_run_in_a_local_folder_has_no_files_of_the_object_store(tmp_path: Path) -> None:
    folder = run_folder(str(tmp_path), "demo")
    config = replace(RECIPES["synthetic"](), local=True, max_children=4)
    assert execute(config, folder, Console(file=io.StringIO())).state == "finished"
    names = {path.name for path in folder.path.iterdir()}
    files_of_sqlite = {"ledger.sqlite-wal", "ledger.sqlite-shm"}
    assert names - files_of_sqlite == {
        "config.json",
        "ledger.sqlite",
        "ledger.begun",
        "shards",
        "run.log",
        "driver.lock",
        "writers.lock",
    }
