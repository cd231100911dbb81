"""A run whose files have come to harm: what cannot be known or mended is refused before any work, the rest reported."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cluster.cli import main as cli
from cluster.runners.trainer import Trainer
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import BEGUN, RunFolder
from tests.chaos.invariants import check
from tests.cluster.searches import finish, nascluster
from tests.lengths import LONG

FLAGS = [
    "--local",
    "--replicas",
    "2",
    "--shards",
    "2",
    "--children",
    "2",
    "--max-children",
    "16",
    "--reward",
    "accuracy",
]

Harm = Callable[[RunFolder], object]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a search that SIGKILL ended during its 1st or 11th child, with its write-ahead log."""
    place = tmp_path_factory.mktemp("killed")
    train, calls = Trainer.train, []

    def kept(self: Trainer, *args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) in (1, 11):
            shutil.copytree(place / searcher / "run", place / f"{searcher}-{len(calls)}" / "run")
        return train(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", kept)
        for searcher in ("reinforce", "random"):
            calls.clear()
            where = ["--storage-path", str(place / searcher), "--searcher", searcher]
            assert cli.run(["launch", "synthetic", "--name", "run", *FLAGS, *where]) == 0
    return {path.name: path / "run" for path in place.iterdir()}


@pytest.fixture
def folder(killed: dict[str, Path], tmp_path: Path) -> RunFolder:
    shutil.copytree(killed["reinforce-11"], tmp_path / "run")
    return RunFolder(tmp_path / "run")


def resume(folder: RunFolder) -> int:
    return cli.run(["resume", folder.name, "--storage-path", str(folder.path.parent)])


def everything(folder: RunFolder) -> dict[str, bytes]:
    """All files but the locks, which any start makes, and what any reader of a SQLite file may leave beside it."""
    files = (path for path in sorted(folder.path.rglob("*")) if path.is_file() and path.suffix != ".lock")
    contents = {path: path.read_bytes() for path in files if not path.name.endswith("-shm")}
    return {str(path): content for path, content in contents.items() if content or not path.name.endswith("-wal")}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def remove(*names: str) -> Harm:
    return lambda folder: [(folder.path / name).unlink() for name in names]


def empty(folder: RunFolder) -> None:
    remove("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm")(folder)
    folder.ledger.touch()


def without_the_last_batches(folder: RunFolder) -> None:
    with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
        db.execute("DELETE FROM attempts WHERE child IN (SELECT id FROM children WHERE batch > 1)")
        db.execute("DELETE FROM children WHERE batch > 1")
        db.execute("DELETE FROM batches WHERE number > 1")


def mark(folder: RunFolder) -> None:
    """Test a run of a version that did not mark starts."""
    empty(folder)
    folder.ledger.with_suffix(BEGUN).unlink()


GONE = "the run 'run' had begun, but its record is gone: {ledger} is {what}. Restore it, ledger.sqlite together with"


@pytest.mark.parametrize("searcher", ["reinforce", "random"])
@pytest.mark.parametrize("child", [1, 11])
@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (remove("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"), "missing"),
        (remove("ledger.sqlite"), "missing"),
        (remove("ledger.sqlite-wal"), "empty"),
        (empty, "empty"),
    ],
)
def test_a_run_that_has_lost_its_ledger_does_not_start_over(
    searcher: str, child: int, harm: Harm, what: str, killed: dict[str, Path], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(killed[f"{searcher}-{child}"], tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    harm(folder)
    before = everything(folder)
    for _ in range(2):
        assert resume(folder) == 2
        assert GONE.format(ledger=folder.ledger, what=what) in capfd.readouterr().err
    assert everything(folder) == before
    where = ["run", "--storage-path", str(folder.path.parent)]
    assert cli.run(["status", *where]) == 0
    assert "failed (it had begun, but its ledger is missing or empty)" in capfd.readouterr().out
    assert cli.run(["doctor", *where]) == 1
    assert "FAIL  it had begun, but its ledger is missing or empty  ->  put it back" in capfd.readouterr().out


def test_the_shards_tell_as_well_that_there_was_a_ledger(folder: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    mark(folder)
    assert resume(folder) == 2
    assert "its record is gone" in capfd.readouterr().err


def test_a_ledger_that_lacks_what_a_shard_was_pushed_is_refused_until_the_shards_are_moved_away(
    folder: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    without_the_last_batches(folder)
    before = everything(folder)
    assert resume(folder) == 2
    said = capfd.readouterr().err
    assert "lacks the latest records: shard 0 has applied update 2 of replica-0" in said
    assert "ledger.sqlite together with its -wal file" in said
    assert everything(folder) == before
    folder.shards.rename(folder.path.parent / "away")  # as it says
    assert resume(folder) == 0
    assert (report := check(folder.path)).children == 16
    assert report.lost == report.duplicated == 0


@pytest.mark.parametrize("which", ["reinforce-1", "reinforce-11", "random-1", "random-11"])
def test_a_run_that_was_only_killed_goes_on(which: str, killed: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(killed[which], tmp_path / "run")
    assert resume(RunFolder(tmp_path / "run")) == 0
    if which.startswith("reinforce"):
        assert check(tmp_path / "run").children == 16


def test_a_run_whose_driver_died_before_its_ledger_had_anything_starts(folder: RunFolder) -> None:
    config = folder.config.read_text()
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    folder.config.write_text(config)
    folder.ledger.touch()  # SQLite makes the file before there is anything in it
    assert resume(folder) == 0
    assert check(folder.path).children == 16


def test_a_corrupt_snapshot_is_told_and_what_it_had_is_learnt_again(
    folder: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    flip(folder.shards / "shard-000.safetensors")
    assert resume(folder) == 0
    corrupt = folder.shards / "shard-000.corrupt"
    sentence = f"a snapshot of shard 0 was corrupt and was renamed to {corrupt}: the shard resumes from the previous"
    assert capfd.readouterr().out.count(f"Warning: {sentence}") == 1
    (line,) = [line for line in (folder.path / "run.log").read_text().splitlines() if sentence in line]
    assert " WARNING notice " in line
    assert check(folder.path).lost == 0
    assert cli.run(["doctor", "run", "--storage-path", str(folder.path.parent)]) == 0
    assert f"WARN  a snapshot of shard 0 was corrupt and was renamed to {corrupt}" in capfd.readouterr().out


def test_a_shard_without_any_good_snapshot_learns_all_again(
    folder: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("shard-001.safetensors", "shard-001.previous.safetensors"):
        flip(folder.shards / name)
    assert resume(folder) == 0
    out = capfd.readouterr().out
    assert "Warning: no snapshot of shard 1 could be read: the shard starts from the beginning, and all of its" in out
    assert f"{folder.shards}/shard-001.corrupt and {folder.shards}/shard-001.previous.corrupt" in out
    assert (report := check(folder.path)).children == 16
    assert report.lost == report.duplicated == report.repeated == 0


def test_a_corrupt_previous_snapshot_beside_a_good_one_is_nobodys_loss(
    folder: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    flip(folder.shards / "shard-001.previous.safetensors")
    assert resume(folder) == 0
    assert "Warning" not in capfd.readouterr().out
    assert check(folder.path).lost == 0


@pytest.mark.parametrize("copied", [False, True])
def test_a_run_goes_on_in_a_folder_of_another_name(copied: bool, folder: RunFolder) -> None:
    other = RunFolder(folder.path.with_name("other"))
    (shutil.copytree if copied else shutil.move)(folder.path, other.path)
    assert resume(other) == 0
    assert check(other.path).children == 16
    if copied:
        assert resume(folder) == 0
        assert check(folder.path).children == 16


def test_shards_that_changed_places_are_refused_before_any_work(
    folder: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = (folder.shards / f"shard-00{index}.safetensors" for index in range(2))
    one.rename(one.with_suffix(".x"))
    two.rename(one)
    one.with_suffix(".x").rename(two)
    before = everything(folder)
    assert resume(folder) == 2
    assert "shard-000.safetensors belongs to (run, layout, shard)" in capfd.readouterr().err
    assert everything(folder) == before


@LONG
@pytest.mark.timeout(180)
def test_the_same_holds_on_ray(folder: RunFolder, tmp_path: Path) -> None:
    where = ["--storage-path", str(tmp_path), "--on", "ray"]
    for name in ("shard-000.safetensors", "shard-001.safetensors", "shard-001.previous.safetensors"):
        flip(folder.shards / name)
    shutil.copytree(folder.path, tmp_path / "other")
    said = finish(nascluster("resume", "run", *where))
    assert said.count("Warning: a snapshot of shard 0 was corrupt") == 1
    assert said.count("Warning: no snapshot of shard 1 could be read") == 1
    assert (report := check(folder.path)).children == 16
    assert report.lost == report.duplicated == report.repeated == 0
    other = RunFolder(tmp_path / "other")
    empty(other)
    before = everything(other)
    process = nascluster("resume", "other", *where)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2, out + err
    assert f"its record is gone: {other.ledger} is empty" in err
    assert everything(other) == before


def test_a_ledger_in_memory_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(Path(":memory:"), 0, 8)
    ledger.begin(workers=1)
    ledger.close()
    assert list(tmp_path.iterdir()) == []
