"""A whole one-shot search in one process: its weights survive any death, and what cannot be mended is refused."""

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.cli import main as cli
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.shared_weights import check_weights, loss_bound, make_weights, weights_layout
from cluster.storage.object_store.mirror import Mirror
from cluster.storage.object_store.restore import restore
from cluster.storage.run_folder import BEGUN, RunFolder
from ps.shard.snapshot import SnapshotFile
from tests.cluster.runners.killed_runs import copies, copying
from tests.cluster.storage.object_store.test_mirror import Objects

SPACE = ("--space", "enas-macro", "--layers", "3", "--operations", "conv_3x3", "max_3x3", "--filters", "4")

FLAGS = (
    *SPACE,
    *("--searcher", "one-shot", "--supernet-steps", "10", "--steps-per-child", "4", "--ghost-groups", "2"),
    *("--refit-batches", "2", "--batch-size", "16", "--max-children", "8", "--replicas", "1", "--children", "2"),
    *("--weights-shards", "3", "--reward", "accuracy"),
)
"""Three children train the supernet, with 4, 4 and 2 steps; five score paths of it."""

DEATHS = (1, 2, 3, 8, 11, 12, 20, 23)
"""At which calls to the weights' shards, of the 20 of steps and the 5 of scores."""


def launch(place: Path, *flags: str) -> None:
    assert cli.run(["launch", "digits", "--name", "run", "--local", "--storage-path", str(place), *FLAGS, *flags]) == 0


def resume(folder: RunFolder) -> int:
    return cli.run(["resume", "run", "--storage-path", str(folder.path.parent)])


def weights(folder: Path) -> dict[str, Tensor]:
    """All that the shards have of the weights, their momentum included."""
    files = sorted((folder / "weights").glob("shard-00?.safetensors"))
    assert len(files) == 3
    return {f"{file.stem}/{name}": value for file in files for name, value in load_file(file).items()}


def equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A search that went undisturbed (0), and copies of its folder as SIGKILL would have left it at some calls."""
    place = tmp_path_factory.mktemp("one-shot")
    with copying(place, DEATHS) as calls:
        launch(place / "0", "--weights-snapshot", "0")
    assert len(calls) == 25
    return copies(place)


def test_children_train_the_supernet_and_then_score_its_paths(killed: dict[int, Path]) -> None:
    found = rows(
        killed[0], "SELECT job, lane, steps_before, metric IS NULL, reward IS NULL, graph IS NULL FROM children"
    )
    jobs = [json.loads(row[0]) for row in found]
    assert [job.get("count") for job in jobs] == [4, 4, 2, *[None] * 5]
    assert [row[1:] for row in found] == [
        (0, 0, 1, 1, 1),
        (1, 0, 1, 1, 1),
        (0, 4, 1, 1, 1),
        *[(None, None, 0, 0, 0)] * 5,
    ]
    measured = rows(killed[0], "SELECT json_extract(outcome, '$.measurements') FROM children ORDER BY id")
    steps, *_, score = (json.loads(row[0]) for row in measured)
    traffic = {"pulls", "pulled_bytes", "pushes", "pushed_bytes", "wait_seconds"}
    assert steps.keys() == {"loss", "accuracy", "staleness", *traffic}
    assert score.keys() == {"loss", *traffic}
    assert (steps["pulls"], steps["pushes"], steps["staleness"], score["pulls"], score["pushes"]) == (4, 4, 0, 1, 0)
    assert 0 < steps["pushed_bytes"] <= steps["pulled_bytes"]
    assert 0 < score["pulled_bytes"] < steps["pulled_bytes"] / 4  # one path alone
    assert rows(killed[0], "SELECT count(*) FROM batches WHERE pushed = 1") == [(0,)]


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    killed: dict[int, Path], death: int, tmp_path: Path
) -> None:
    shutil.copytree(killed[death], tmp_path / "run")
    assert not equal(weights(killed[death]), weights(killed[0])) or death > 20
    assert resume(RunFolder(tmp_path / "run")) == 0
    assert equal(weights(tmp_path / "run"), weights(killed[0]))
    scores = "SELECT id, tokens, metric, reward FROM children ORDER BY id"
    assert rows(tmp_path / "run", scores) == rows(killed[0], scores)


def test_a_start_says_what_the_loss_of_a_shard_costs(killed: dict[int, Path]) -> None:
    log = (killed[0] / "run.log").read_text()
    assert "weights on 3 shards: one that is killed loses no step, as it writes each before it acknowledges it" in log
    bound = loss_bound(config()) or ""
    assert bound.endswith("loses the steps since its last snapshot, of up to 1 min 00 s (--weights-snapshot)")
    assert loss_bound(config().with_searcher("random")) is None


def test_the_end_of_a_run_writes_what_the_last_periodic_snapshot_lacks(killed: dict[int, Path], tmp_path: Path) -> None:
    launch(tmp_path, "--weights-snapshot", "1h")
    assert equal(weights(tmp_path / "run"), weights(killed[0]))


@pytest.fixture
def folder(killed: dict[int, Path], tmp_path: Path) -> RunFolder:
    shutil.copytree(killed[12], tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_a_ledger_that_lacks_steps_which_the_shards_have_is_refused(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
        db.execute("UPDATE children SET job = json_set(job, '$.count', 3) WHERE id = 1")
    assert resume(folder) == 2
    error = capsys.readouterr().err
    assert (
        "shard 0 of the shared weights has applied step 4 of replica-0.0, of which the ledger has none after 3" in error
    )
    assert f"move {folder.weights} away" in error


def test_weights_without_a_ledger_are_refused(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for file in folder.path.glob("ledger*"):
        file.unlink()
    assert not folder.ledger.with_suffix(BEGUN).exists()
    assert resume(folder) == 2
    assert "its record is gone" in capsys.readouterr().err


def test_a_shard_whose_snapshots_are_all_corrupt_has_lost_its_weights(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, previous = (folder.weights / f"shard-001{kind}.safetensors" for kind in ("", ".previous"))
    newest.write_bytes(b"torn")
    shutil.copytree(folder.path, folder.path.with_name("run2"))
    previous.write_bytes(b"torn")
    assert resume(folder) == 2
    error = capsys.readouterr().err
    assert f"are lost: no snapshot of their shard 1 can be read, of which the newest is {newest}" in error
    # One good snapshot is enough: here it lacks one step, which is made again.
    assert cli.run(["resume", "run2", "--storage-path", str(folder.path.parent)]) == 0


def config(*flags: str) -> RunConfig:
    return parse_run(RECIPES["digits"](), [*FLAGS, *flags], "digits")


def test_there_must_not_be_more_shards_than_weights() -> None:
    weights = make_weights(config(), config().make_searcher())
    assert weights is not None
    count = sum(value.numel() for value in weights.values.values())
    check_weights(config("--weights-shards", str(count)), "run")
    with pytest.raises(ValueError, match=rf"`weights_shards` must be at most the number of weights \({count:,}\)"):
        check_weights(config("--weights-shards", str(count + 1)), "run")


def test_children_that_wait_for_each_other_need_a_worker_each() -> None:
    sync = ("--weights-consistency", "sync")
    check_weights(config(*sync), "run")
    check_weights(config(*sync, "--workers", "2"), "run")
    with pytest.raises(ValueError, match=r"`workers` must be at least 2 with `weights_consistency` sync"):
        check_weights(config(*sync, "--workers", "1"), "run")
    with pytest.raises(ValueError, match="`weights_consistency` must be async with `--local`"):
        check_weights(config(*sync, "--local"), "run")


def test_a_task_without_images_has_nothing_to_train_a_supernet_on() -> None:
    with pytest.raises(ValueError, match="the task 'synthetic' has none: use another searcher, or a task such as"):
        check_weights(config("--task", "synthetic"), "run")


def test_a_comparison_refuses_children_that_share_weights_and_a_simulation_asks_for_their_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["compare", "one-shot", "random", "--recipe", "digits", "--seeds", "2", "--budget", "200", *SPACE]
    assert cli.run(words) == 2
    assert "the children share weights" in capsys.readouterr().err
    assert cli.run(["simulate", "digits", "--child-seconds", "lognormal:10:0.5", *FLAGS]) == 2
    assert "make steps on shared weights, whose times are unknown" in capsys.readouterr().err


def test_what_an_object_store_has_of_a_search_is_resumed_to_the_same_weights(
    folder: RunFolder, killed: dict[int, Path], tmp_path: Path
) -> None:
    objects: Any = Objects({"config.json": folder.config.read_bytes()})
    Mirror(objects, folder, 1, lambda: None).round()
    elsewhere = RunFolder(tmp_path / "elsewhere" / "run")
    elsewhere.path.parent.mkdir()
    restore(objects, elsewhere, with_files=True)
    assert equal(weights(elsewhere.path), weights(folder.path))
    assert resume(elsewhere) == 0
    assert equal(weights(elsewhere.path), weights(killed[0]))


def test_steps_of_children_that_ended_after_the_copy_of_the_weights_stay_lost_and_no_others(
    killed: dict[int, Path], tmp_path: Path
) -> None:
    """An object store has the ledger's rows of a moment after the files: of the lost machine, two children had ended.

    The first had made its four steps before the copy of the weights, and the second one of its four. The third makes
    both of its own.
    """
    shutil.copytree(killed[20], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "weights")
    shutil.copytree(killed[11] / "weights", tmp_path / "run" / "weights")
    assert rows(tmp_path / "run", "SELECT count(*) FROM children WHERE completion IS NOT NULL") == [(2,)]
    objects: Any = Objects({"config.json": (tmp_path / "run" / "config.json").read_bytes()})
    Mirror(objects, RunFolder(tmp_path / "run"), 1, lambda: None).round()
    elsewhere = RunFolder(tmp_path / "elsewhere" / "run")
    elsewhere.path.parent.mkdir()
    restore(objects, elsewhere, with_files=True)
    assert resume(elsewhere) == 0
    log = (elsewhere.path / "run.log").read_text()
    assert "The shared weights lack 3 steps of children that have ended, which no snapshot has: they stay lost" in log
    assert "they stay lost" not in (killed[0] / "run.log").read_text()
    group = make_weights(config(), config().make_searcher())
    assert group
    layout = weights_layout(config("--weights-snapshot", "0"), elsewhere.identity(elsewhere.read_config()), group)
    for index in range(3):
        loaded = SnapshotFile(elsewhere.weights, layout, index).load()
        assert loaded is not None
        assert loaded[0].metadata["pushes"] == 4 + 1 + 2
