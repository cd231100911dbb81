"""`nascluster finish` on a small search for recurrent cells: final trainings on text, one look at the test text."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.networks.language_model import build_language_model
from child_trainer.networks.language_weights import load
from child_trainer.tasks.language import LanguageTask, load_test_text
from cluster.runners.trainer import loaded_task
from cluster.storage.ledger.queries.final_tests import final_tests, finished_networks
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from tests.command_line import nascluster

SEARCH = (
    *("launch", "text-rnn", "--local", "--searcher", "random", "--replicas", "1", "--children", "2", "--epochs", "1"),
    *("--max-children", "2", "--seed", "3", "--train-fraction", "0.03", "--hidden-size", "6", "--cell-layers", "1"),
    *("--max-vocabulary", "60", "--name", "search"),
)

FINISH = (
    *("finish", "search", "--top", "2", "--seeds", "2", "--epochs", "1", "--train-fraction", "0.05", "--learning-rate"),
    *("0.5", "--hidden-size", "8", "--grid", "embedding-dropout=0,.5"),
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `search`."""
    place = tmp_path_factory.mktemp("runs")
    assert nascluster(*SEARCH, "--storage-path", place) == 0
    return place


def test_models_are_trained_with_larger_layers_and_tested_once(
    searched: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    capfd.readouterr()
    assert nascluster(*FINISH, "--storage-path", tmp_path) == 0
    text = capfd.readouterr().out
    folder = RunFolder(tmp_path / "search-final")
    config = folder.read_config()
    task = loaded_task(config.task)
    assert isinstance(task, LanguageTask)
    assert (config.reward, config.task.all_training, task.options.hidden_size) == ("perplexity", False, 8)
    test = load_test_text(task, None)
    with reading(folder) as db:
        networks, tests = finished_networks(db), final_tests(db)
    assert [(network.child_id, network.cause) for network in networks] == [(child, None) for child in sorted(tests)]
    assert len(tests) == 4
    for network in networks:
        (file,) = folder.child_weights.glob(f"child-{network.child_id:08d}-*")
        weights = TrainedWeights.from_bytes(file.read_bytes())
        assert dict(weights.architecture.hyperparameters).keys() == {"embedding_dropout"}
        model = build_language_model(weights.architecture, 60, task.options, generator=torch.Generator())
        load(model, task.vocabulary, weights.tensors)
        found = tests[network.child_id]
        assert found.metric == task.perplexity(model, test)
        assert (found.weights, found.examples) == (weights.checksum, len(test))
    best = min(networks, key=lambda one: one.metric or 0.0)
    exported = folder.path / "exports" / f"child-{best.child_id}.pt2"
    assert "The order is that of the validation perplexity" in text
    assert f"Each training has looked at the {len(test):,} words of the test text once" in text
    assert f"Child {best.child_id}, the best by its validation perplexity, is in {exported}" in text
    readme = Path(f"{exported}.README.md").read_text()
    assert f"| test perplexity | {tests[best.child_id].metric:.4f} |" in readme
    assert f"| validation perplexity | {best.metric:.4f} |" in readme
    written = exported.stat().st_mtime_ns
    assert nascluster(*FINISH, "--storage-path", tmp_path, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["measure"], told["test_words"], told["child"]) == ("perplexity", len(test), best.child_id)
    assert exported.stat().st_mtime_ns == written
    assert nascluster("best", "search-final", "--storage-path", tmp_path) == 0
    told = capfd.readouterr().out
    assert f"Best child: {best.child_id} " in told
    assert f"test perplexity {tests[best.child_id].metric:.4f}" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--grid", "cutout=2"), "`--grid`: cutout cannot be 2: `cutout` is for images only"),
        (("--max-vocabulary", "50"), "`task` of the final trainings follows from the run 'search': leave it out"),
        (("--grid", "embedding-dropout=1.5"), "the setting embedding-dropout cannot be 1.5"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    searched: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert nascluster("finish", "search", *words, "--storage-path", searched) == 2
    assert message in capfd.readouterr().err
    assert [path.name for path in searched.iterdir()] == ["search"]
