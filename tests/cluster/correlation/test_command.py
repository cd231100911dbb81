"""`nascluster correlation` on small runs: scores, stand-alone trainings that survive an interruption, and refusals."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.scoring import score
from child_trainer.tasks.image import ImageTask
from child_trainer.training.image_classifier import standardise
from cluster.correlation.shared_scores import Sample, Scored, score_all
from cluster.runners import trainer
from cluster.runners.shared_weights import local_weights, saved_weights
from cluster.runners.trainer import loaded_task
from cluster.search.seeding import derive
from cluster.storage.run_folder import RunFolder
from controller.space import HasSupernet
from tests.command_line import nascluster
from tests.real_data import real

CELLS = ("--space", "nasbench201", "--cells-per-stage", "1", "--stem-channels", "2", "--batch-size", "16")

SUPERNET = (
    *("launch", "digits", "--local", *CELLS, "--searcher", "one-shot", "--supernet-steps", "6"),
    *("--steps-per-child", "3", "--ghost-groups", "2", "--refit-batches", "2", "--max-children", "4"),
    *("--reward", "accuracy", "--weights-shards", "2"),
)

TRAINING = ("--children", "6", "--epochs", "1", "--train-fraction", "0.1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `supernet`, whose weights have had six steps."""
    place = tmp_path_factory.mktemp("runs")
    assert nascluster(*SUPERNET, "--name", "supernet", "--storage-path", place) == 0
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def compared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that folder, where six architectures have also been trained from scratch."""
    place = tmp_path_factory.mktemp("compared")
    shutil.copytree(trained, place, dirs_exist_ok=True)
    assert correlation(place, *TRAINING) == 0
    return place


def correlation(place: Path, *words: object) -> int:
    return nascluster("correlation", "supernet", "--storage-path", place, *words)


def rows(place: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / "supernet-correlation" / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


def test_the_weights_are_those_that_the_run_goes_on_with(place: Path) -> None:
    folder = RunFolder(place / "supernet")
    config = folder.read_config()
    saved = saved_weights(config, folder)
    store = local_weights(config, folder.identity(config), folder.weights)
    assert saved is not None
    assert store is not None
    assert saved.versions == (6, 6)
    assert all(torch.equal(saved.values[name], value) for name, value in store.pull().values.items())
    store.close()


def test_a_table_is_the_truth(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = real("nasbench201")
    before = {path: path.read_bytes() for path in sorted((place / "supernet").rglob("*")) if path.is_file()}
    assert correlation(place, "--children", 12, "--data", table, "--json") == 0
    data = json.loads(capfd.readouterr().out)
    assert (data["architectures"], data["best"], data["steps"]) == (12, 2, 6)
    assert data["truth"] == f"CIFAR-10 test accuracy after 200 epochs by the table in {table}"
    assert len({sample["architecture_id"] for sample in data["samples"]}) == 12
    assert data["predictors"]["parameters"]["kendall"] > 0
    assert {path: path.read_bytes() for path in before} == before  # it only reads


def test_a_path_is_scored_as_the_search_scores_it(place: Path) -> None:
    """Without refit there is no chance in it; with it the images are others, and so may be the score."""
    folder = RunFolder(place / "supernet")
    config = folder.read_config()
    weights = saved_weights(config, folder)
    assert weights is not None
    with closing(sqlite3.connect(folder.ledger)) as db:
        children = db.execute("SELECT tokens, parameters, flops FROM children WHERE graph IS NOT NULL").fetchall()
    space = config.search_space
    samples = [Sample(tokens, space.decode(tokens)) for tokens in (tuple(json.loads(row[0])) for row in children)]
    found = list(score_all(config, weights.values, samples))
    task = loaded_task(config.task, seed=derive(config.seed, "split"))
    assert isinstance(task, ImageTask)
    network = SupernetNetwork(cast(HasSupernet, space).supernet(), task)
    images, labels = task.centred(standardise(task.validation.pixels)), task.validation.labels
    for sample, scored, (_, parameters, flops) in zip(samples, found, children, strict=True):
        assert isinstance(scored, Scored)
        gates = cast(HasSupernet, space).gates(sample.tokens)
        assert scored.plain == score(network, weights.values, gates, [(images, labels)]).accuracy
        assert (scored.parameters, scored.flops) == (parameters, flops)
        assert scored.refit > 0
        assert 0 < scored.likelihood < 1


def test_without_a_table_they_are_trained_and_an_interruption_loses_none(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, times = trainer.train, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        times.append(options["seed"])
        if len(times) == 4:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(trainer, "train", interrupted)
    assert correlation(place, *TRAINING) == 130
    assert rows(place, "SELECT count(*) FROM children WHERE state = 'finished'") == [(3,)]
    capfd.readouterr()
    assert correlation(place, *TRAINING) == 0
    said = capfd.readouterr().out
    assert "truth: validation accuracy after 1 epoch from scratch, of the run supernet-correlation" in said
    assert rows(place, "SELECT count(*), sum(state = 'finished') FROM children") == [(6, 6)]
    assert len(times) == 7  # only the interrupted one twice
    assert correlation(place, *TRAINING) == 0
    assert capfd.readouterr().out == said
    assert len(times) == 7
    assert correlation(place, "--children", 5, *TRAINING[2:]) == 0  # the first five of them


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--children", "4"), "`--children` must be at least 5, got 4"),
        (("--children", "7", *TRAINING[2:]), "trains other architectures: give the `--children` and `--seed`"),
        (("--children", "6", "--seed", "1", *TRAINING[2:]), "trains other architectures"),
        (("--children", "6", "--epochs", "2"), "was begun with another budget: give the same flags, or remove"),
        (("--task", "cifar10"), "`task` of the stand-alone trainings follows from the run 'supernet': leave it out"),
        (("--name", "x"), "`name` of the stand-alone trainings follows from the run 'supernet'"),
        (("--data", "t.csv", "--epochs", "3"), "`--epochs` is for stand-alone trainings, which a table"),
        (("--data", "nowhere"), "`--data` must be a folder with nasbench201.csv"),
        (("--nonsense", "3"), "Unrecognized options: --nonsense"),
        (("--early-stop", "median"), "`early-stop` is for searches, and `correlation` trains each architecture to its"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    compared: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    capfd.readouterr()
    assert correlation(compared, *words) == 2
    said = capfd.readouterr()
    assert message in said.err
    assert not said.out


def test_steps_that_wait_for_the_end_of_a_batch_are_counted_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    causal = (
        *SUPERNET,
        "--replicas",
        "1",
        "--weights-consistency",
        "causal",
        "--name",
        "supernet",
        "--storage-path",
        tmp_path,
    )
    assert nascluster(*causal) == 0
    capfd.readouterr()
    assert correlation(tmp_path, *TRAINING, "--children", "5", "--json") == 0
    assert json.loads(capfd.readouterr().out)["steps"] == 6


def test_a_run_without_shared_weights(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("launch", "synthetic", "--local", "--searcher", "random", "--max-children", "2", "--name", "supernet")
    assert nascluster(*words, "--storage-path", tmp_path) == 0
    assert correlation(tmp_path) == 2
    assert "the children of the run 'supernet' share no weights: its searcher 'random'" in capfd.readouterr().err


def test_a_run_whose_shards_have_written_no_step(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(place / "supernet")
    shutil.rmtree(folder.weights)
    for made in (False, True):
        if made:  # shards that have only their first values
            config = folder.read_config()
            store = local_weights(config, folder.identity(config), folder.weights)
            assert store is not None
            store.close()
        assert correlation(place) == 2
        assert "has no trained weights yet: its shards write them every 60s" in capfd.readouterr().err


def test_damaged_weights(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (place / "supernet" / "weights").glob("shard-001*"):
        path.write_bytes(b"")
    assert correlation(place) == 2
    assert "cannot be read" in capfd.readouterr().err


def test_no_such_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert correlation(tmp_path) == 2
    assert "supernet" in capfd.readouterr().err
