"""`nascluster remove`: the whole run goes or none of it, and nothing outside of it."""

import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import remove as command
from cluster.config.recipes import RECIPES
from cluster.storage import removal
from cluster.storage.find_run import run_folder
from cluster.storage.locks import exclusive_within
from cluster.storage.object_store import stored_runs
from cluster.storage.object_store.driver_lease import acquire_lease, new_owner
from cluster.storage.object_store.store import FsspecStorage, open_storage
from cluster.storage.object_store.working_copy import driving
from cluster.storage.starting import starting
from tests.command_line import nascluster

SMALL = ("synthetic", "--local", "--max-children", "3", "--replicas", "1", "--children", "3", "--name", "demo")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("runs")
    assert nascluster("launch", *SMALL, "--storage-path", storage) == 0
    return storage / "demo"


@pytest.fixture
def run(folder: Path, finished: Path) -> Path:
    """The folder of a finished run called demo, which is in the usual place."""
    shutil.copytree(finished, folder / "nascluster_runs" / "demo")
    return folder / "nascluster_runs" / "demo"


def said(capfd: pytest.CaptureFixture[str], status: int, *words: object) -> str:
    """What `nascluster remove` says that ends with this status."""
    capfd.readouterr()
    assert nascluster("remove", *words) == status
    text = capfd.readouterr()
    return text.err if status == 2 else text.out


def files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


def test_a_run_is_removed_and_its_name_is_free(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, 0, "demo", "--yes").startswith(f"Removed {run} (")
    assert list(run.parent.iterdir()) == []
    assert nascluster("status", "demo") == 2
    assert nascluster("launch", *SMALL) == 0


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1), ("", 2)])
def test_it_asks(
    answer: str, status: int, run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(run)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    text = said(capfd, status, "demo")
    if status == 2:
        assert text == ("nascluster: a removal is asked about, and there is no answer to read: give `--yes`\n")
    else:
        assert text.startswith("Remove the run 'demo' (finished, 3 children ended), ")
    assert run.exists() == bool(status)
    assert not status or files(run) == before


def test_a_running_run_is_refused_with_how_that_is_known(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for lock, what in (
        ("driver.lock", f"is running: its driver holds the lock {run}/driver.lock; `nascluster stop demo` stops it"),
        ("writers.lock", "processes of an earlier start of the run 'demo' still write to it"),
    ):
        held = exclusive_within(run / lock, 0.0)
        assert held is not None
        with held, pytest.MonkeyPatch.context() as patch:
            patch.setattr("cluster.storage.run_folder.WRITERS_TIMEOUT_S", 0.2)
            if lock == "writers.lock":
                fcntl.flock(held, fcntl.LOCK_SH)
            assert what in said(capfd, 2, "demo", "--yes")
        assert (run / "config.json").exists()
    for name in ("soon", "demo"):
        with starting(run_folder(run.parent, name)):
            text = said(capfd, 2, name, "--yes")
        assert f"the run {name!r} is being launched: its driver holds the lock {run.parent}/.{name}.starting" in text


def test_what_is_no_run_is_left_alone(run: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "photos").mkdir()
    (folder / "photos/a.jpg").write_bytes(b"x")
    for config in ("", '{"model_type": "bert", "max_children": 1}', "[]", "{"):
        if config:  # as other programs have one
            (folder / "photos/config.json").write_text(config)
        assert "photos is no run: it has neither a ledger nor a run's configuration" in said(
            *(capfd, 2, "photos", "--yes", "--storage-path", folder)
        )
    assert "no run named 'other'" in said(capfd, 2, "other", "--yes") and "the runs there are demo" in said(
        *(capfd, 2, "other", "--yes")
    )
    for name in ("..", ".", "../nascluster_runs/demo", "/etc", ""):
        assert "a run's name must be the name of its folder" in said(capfd, 2, name, "--yes")
    assert "`--objects` is for runs in an object store" in said(capfd, 2, "demo", "--yes", "--objects")
    assert (folder / "photos/a.jpg").exists() and (run / "config.json").exists()


def test_no_link_is_followed(run: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outside = folder / "outside"
    shutil.copytree(run, outside)
    kept = {file: (outside / file).stat().st_size for file in files(outside)}
    (run.parent / "linked").symlink_to(outside)
    assert f"linked is a link to {outside}, and no link is followed" in said(capfd, 2, "linked", "--yes")
    shutil.rmtree(run / "outputs", ignore_errors=True)
    (run / "outputs").symlink_to(outside)
    (run / "data").symlink_to(outside / "config.json")
    (run / "driver.lock").unlink()
    (run / "driver.lock").symlink_to(outside / "config.json")
    assert f"driver.lock is a link to {outside}/config.json" in said(capfd, 2, "demo", "--yes")
    (run / "driver.lock").unlink()
    said(capfd, 0, "demo", "--yes")
    assert {file: (outside / file).stat().st_size for file in files(outside)} == kept
    assert [path.name for path in run.parent.iterdir()] == ["linked"]


@pytest.mark.parametrize("damage", ["no config", "no ledger", "bad config"])
def test_a_damaged_run_can_be_removed(damage: str, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if damage == "no ledger":
        for file in run.glob("ledger.sqlite*"):
            file.unlink()
    else:
        (run / "config.json").write_text("[]") if damage == "bad config" else (run / "config.json").unlink()
    said(capfd, 0, "demo", "--yes")
    assert not run.exists()


class Killed(BaseException):
    """Ends the command at once, as a kill would: nothing catches it."""


@pytest.mark.parametrize("victim", ["rename", "sync", "delete", "half", "lock"])
def test_a_kill_leaves_the_whole_run_or_none(
    victim: str, run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(run)

    def die(*_: object, **__: object) -> None:
        raise Killed

    def half(path: Path) -> None:
        for file in path.glob("ledger*"):
            file.unlink()
        raise Killed

    with monkeypatch.context() as patch:
        match victim:
            case "lock":
                patch.setattr("cluster.storage.run_folder.exclusive_within", die)
            case "rename":
                patch.setattr(Path, "rename", die)
            case "sync":
                patch.setattr(removal, "sync", die)
            case _:
                patch.setattr(removal.shutil, "rmtree", half if victim == "half" else die)
        with pytest.raises(Killed):
            nascluster("remove", "demo", "--yes")
    if victim in ("lock", "rename"):
        assert files(run) == before
        assert nascluster("status", "demo") == 0
        return
    assert not run.exists() and len(list(run.parent.iterdir())) == 1
    capfd.readouterr()
    assert nascluster("list") == 0
    assert capfd.readouterr().out.startswith("There are no runs in ")
    assert "no run named 'demo'" in _refused(capfd, "status", "demo")
    assert said(capfd, 0, "demo").startswith("Removed what 1 interrupted removal had left of the run 'demo'")
    assert list(run.parent.iterdir()) == []


def _refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    assert nascluster(*words) == 2
    return capfd.readouterr().err


def test_a_file_that_cannot_be_deleted_is_told(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path / "x"))

    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", fail)
        text = said(capfd, 2, "demo", "--yes")
    (rest,) = run.parent.iterdir()
    assert text == (
        f"nascluster: the run 'demo' is removed, but not {rest}: `nascluster remove demo` tries again"
        " (Permission denied)\n"
    )
    said(capfd, 0, "demo")


@pytest.fixture
def url(folder: Path) -> str:
    """The URL of the objects of a finished run called demo, of which this machine has a working copy."""
    place = (folder / "objects").as_uri()
    assert nascluster("launch", *SMALL, "--storage-path", place) == 0
    return place


def test_objects_are_removed_only_if_asked(url: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    where = ("--yes", "--storage-path", url)
    copy = run_folder(url, "demo").path
    assert f"{url}/demo is as it was" in said(capfd, 0, "demo", *where)
    assert not copy.exists()
    assert nascluster("status", "demo", "--storage-path", url) == 0
    assert "this machine has no working copy of the run 'demo': `--objects` removes" in said(capfd, 2, "demo", *where)
    assert said(capfd, 0, "demo", "--objects", *where).startswith(f"Removed {url}/demo (")
    assert [path for path in (folder / "objects").rglob("*") if path.is_file()] == []
    assert "no run named 'demo'" in said(capfd, 2, "demo", "--objects", *where)
    assert nascluster("launch", *SMALL, "--storage-path", url) == 0
    said(capfd, 0, "demo", "--objects", *where)
    assert not copy.exists()


@pytest.mark.parametrize("name", ["../../nascluster_runs/demo", "{run}", "..", ""])
def test_with_a_url_a_name_leads_to_no_other_folder(
    name: str, run: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, where = files(run), ("--yes", "--storage-path", (folder / "objects").as_uri())
    for more in ((), ("--objects",)):
        assert "a run's name must be the name of its folder" in said(capfd, 2, name.format(run=run), *where, *more)
    assert files(run) == before


def test_objects_that_no_run_has_made_are_left(url: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    where, images = ("--objects", "--yes", "--storage-path", url), folder / "objects" / "images"
    (images / "logs").mkdir(parents=True)
    for name in ("logs/000001.log", "a.jpg", "config.json"):
        (images / name).write_text('{"model_type": "bert"}')
        before = files(images)
        assert f"{url}/images is no run" in said(capfd, 2, "images", *where)
        assert files(images) == before
    nascluster("list", "--storage-path", url)
    assert "images" not in capfd.readouterr().out
    (folder / "objects/demo/mine").write_text("x")
    assert "Left 1 object there that no run has made, such as mine" in said(capfd, 0, "demo", *where)
    assert [path.name for path in (folder / "objects/demo").rglob("*") if path.is_file()] == ["mine"]
    assert "demo is no run" in said(capfd, 2, "demo", *where)
    # A start, and what is no run's: not what a removal leaves.
    start = folder / "objects/demo/starts/000001.json"
    start.write_text("{}")
    assert "demo is no run" in said(capfd, 2, "demo", *where)
    (folder / "objects/demo/mine").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_runs, "LEASE_TIMEOUT_S", 0.0)
        said(capfd, 0, "demo", *where)
    assert not start.exists()


def test_a_removal_that_was_interrupted_at_the_working_copy_is_repeated(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    copy = run_folder(url, "demo").path
    aside = copy.with_name(".demo.20260101-010203-17.aside")
    aside.mkdir()
    where = ("demo", "--objects", "--yes", "--storage-path", url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", die)
        with pytest.raises(Killed):
            nascluster("remove", *where)
    assert f"Left what was set aside of its earlier working copies: {aside}" in said(capfd, 0, *where)
    assert open_storage(url).below("demo").names() == []
    assert [path.name for path in copy.parent.iterdir() if "demo" in path.name and path.is_dir()] == [aside.name]


def test_a_driver_on_another_machine_keeps_its_objects(
    url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run_folder(url, "demo").path)
    storage = open_storage(url).below("demo")
    last = stored_runs.newest_lease(storage)
    other = acquire_lease(storage, last, new_owner())
    where = ("demo", "--objects", "--yes", "--storage-path", url)
    with monkeypatch.context() as patch:
        patch.setattr(stored_runs, "is_alive", lambda *_: True)
        text = said(capfd, 2, *where)
    assert f"the run 'demo' is running: {other} sends heartbeats to {url}/demo/starts" in text
    # It starts when nobody is known to run.
    with pytest.raises(ValueError, match="started first"):
        stored_runs.remove_objects(run_folder(url, "demo"), last)
    assert storage.read("config.json") is not None
    monkeypatch.setattr(stored_runs, "LEASE_TIMEOUT_S", 0.0)
    assert said(capfd, 0, *where).startswith(f"{other} did not report its end; waiting up to 0 s")
    assert storage.names() == []


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_a_kill_among_the_objects_leaves_no_run_and_no_new_one_mixes_with_the_rest(
    calls: int, url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_runs, "LEASE_TIMEOUT_S", 0.0)
    monkeypatch.setattr("cluster.storage.object_store.working_copy.STATUS_TIMEOUT_S", 0.0)
    removed: list[int] = []
    remove: Callable[[FsspecStorage, Any], None] = FsspecStorage.remove

    def die_at_last(self: FsspecStorage, names: Any) -> None:
        removed.append(1)
        if len(removed) == calls:
            raise Killed
        remove(self, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FsspecStorage, "remove", die_at_last)
        with pytest.raises(Killed):
            nascluster("remove", "demo", "--yes", "--objects", "--storage-path", url)
    there = nascluster("status", "demo", "--storage-path", url)
    assert there == (0 if calls == 1 else 2)
    if calls > 1:
        capfd.readouterr()
        assert nascluster("launch", *SMALL, "--storage-path", url) == 2
        err = capfd.readouterr().err
        assert f"{url}/demo holds what is left of a run whose configuration is gone" in err
        assert f"`nascluster remove demo --storage-path {url} --objects` removes it" in err
        driver = driving(run_folder(url, "demo"), RECIPES["synthetic"](), print, print)
        with pytest.raises(ValueError, match="holds what is left of a run"), driver:
            pass
        assert open_storage(url).below("demo").read("config.json") is None
        assert not run_folder(url, "demo").path.exists()
        assert nascluster("resume", "demo", "--storage-path", url) == 2
    assert said(capfd, 0, "demo", "--yes", "--objects", "--storage-path", url).rpartition("Removed ")[2]
    assert open_storage(url).below("demo").names() == []


def test_the_answer_no_leaves_everything(
    url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert said(capfd, command.LEFT, "demo", "--objects", "--storage-path", url).endswith("Nothing was removed\n")
    assert nascluster("status", "demo", "--storage-path", url) == 0
    assert json.loads((run_folder(url, "demo").path / "config.json").read_text())["name"] == "demo"
    assert os.path.exists(run_folder(url, "demo").path)
