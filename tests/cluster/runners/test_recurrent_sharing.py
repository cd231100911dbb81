"""Searches for recurrent cells whose children share weights: what is refused, and what a user sees."""

import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from child_trainer.networks.language_model import count_parameters
from child_trainer.outcome import Measure, Outcome
from cluster.cli import main as cli
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.runners.retraining import parse_launch
from cluster.runners.shared_weights import check_weights
from cluster.storage.run_folder import RunFolder
from controller.reward import REWARDS
from controller.spaces.darts_rnn import DartsRnnSpace
from controller.zoo.published_cells import darts_rnn_v2
from tests.cluster.runners.killed_runs import copies, copying

SMALL = "--layers 2 --hidden-size 8 --max-vocabulary 50 --unroll 6 --batch-size 8"
SEARCHES = {
    "darts-rnn": f"{SMALL} --search-epochs 2 --steps-per-epoch 12 --steps-per-child 6 --max-children 6",
    "enas-rnn": f"{SMALL} --search-epochs 2 --steps-per-epoch 20 --steps-per-child 10 --policy-children 4 --children 2"
    " --max-children 14",
}


def run(recipe: str, words: str = "") -> RunConfig:
    return parse_launch(RECIPES[recipe], words.split(), recipe)[0]


def children(folder: Path) -> list[tuple[str, float | None, float | None]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute("SELECT tokens, metric, reward FROM children ORDER BY id").fetchall()


@pytest.mark.parametrize("recipe", SEARCHES)
def test_a_real_search(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"launch {recipe} --name run --local --storage-path {tmp_path} {SEARCHES[recipe]}"
    assert cli.run(words.split()) == 0
    shown = capsys.readouterr().out
    assert "in DARTS's notation\nGenotype(recurrent=[('" in shown
    assert "scored with shared weights" in shown and " 0 failed" in shown
    scored = [(metric, reward) for tokens, metric, reward in children(tmp_path / "run") if metric is not None]
    assert scored
    for metric, reward in scored:
        assert 1 < metric < 60  # of 50 words
        assert reward == pytest.approx(80 / metric)
    html = page(read_facts(RunFolder(tmp_path / "run"), 0.0))
    assert "best validation perplexity" in html


def test_a_text_of_ones_own_is_searched_on(tmp_path: Path) -> None:
    for part, lines in (("train", 200), ("valid", 40), ("test", 40)):
        (tmp_path / f"ptb.{part}.txt").write_text("the cat sat on the mat\n" * lines)
    words = f"launch darts-rnn --name run --local --storage-path {tmp_path} {SEARCHES['darts-rnn']}"
    words += f" --task ptb --data {tmp_path} --search-epochs 1"
    assert cli.run(words.split()) == 0
    assert [metric is not None for _, metric, _ in children(tmp_path / "run")] == [False, False, True]


def test_on_other_texts_the_recipes_have_the_constants_of_the_codes() -> None:
    """Spec §12.4: emb = hid = 300, batches of 256, 50 epochs of one pass over the text, strengths by Adam at 3e-3."""
    config = run("darts-rnn", "--task ptb --data DIR")
    options = config.searcher_options
    assert (config.task.task, config.task.options.hidden_size, config.space_options.layers) == ("ptb", 300, 8)
    assert (config.budget.batch_size, options.search_epochs, options.steps_per_epoch) == (256, 50, 103)
    assert (options.strengths_learning_rate, options.weights_learning_rate, options.rate(49)) == (0.003, 20, 20)
    assert run("darts-rnn", "--task text") == run("darts-rnn")
    config = run("enas-rnn", "--task wikitext2 --data DIR")
    options = config.searcher_options
    assert (config.task.task, config.task.options.hidden_size, config.space_options.layers) == ("wikitext2", 200, 12)
    assert (options.temperature, options.tanh_constant, options.controller_init) == (5.0, 2.25, 0.01)
    assert (options.controller_learning_rate, options.baseline_decay, options.score_batches) == (5e-5, 0.999, 1)


def test_the_published_cell_has_its_size_in_the_final_training_of_ptb() -> None:
    """Spec §12.4: 22,960,000 with 850 units and ten thousand words, as the docs' command trains what was found."""
    config = run("darts-rnn", "--task ptb --data DIR --searcher random --network final --hidden-size 850")
    space, options = config.search_space, config.task.options
    assert isinstance(space, DartsRnnSpace)
    cell = space.decode(space.tokens_of(darts_rnn_v2()))
    assert count_parameters(cell, 10_000, options.hidden_size, options) == 22_960_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cell-layers 2", "`cell_layers` must be 1 where cells share weights, got 2"),
        ("--target-parameters 100000", "`hidden_size` must be given where cells share weights"),
        ("--network final", "`network` must be 'search' for networks that share weights"),
        (
            "--searcher smash --supernet-steps 20 --hyper-depths 2",
            "the searcher 'smash' generates weights of convolutions, which is for images: the task 'tex",
        ),
        (
            "--searcher snas --cost flops --search-epochs 2 --steps-per-epoch 2",
            "the searcher 'snas' counts what each option of a network costs, which is for",
        ),
        (
            "--early-stop-skips 2",
            "`early_stop_skips` must be 0 with the space 'darts-rnn', whose cells have no skip connect",
        ),
        ("--task wikitext2", "the task 'wikitext2' needs `--data DIR`"),
    ],
)
def test_what_cannot_share_weights_is_refused_in_a_sentence(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_weights(run("darts-rnn", words), "run")


# --- Deaths of an ENAS search --------------------------------------------------------------------------------------

DEATHS = (3, 8, 14, 22, 31, 40)
"""Calls to the shards before each of which a process dies once: in both phases, and among the last scores."""


def state(folder: Path) -> dict[str, Tensor]:
    files = sorted([*folder.glob("weights/shard-00?.safetensors"), *folder.glob("shards/shard-00?.safetensors")])
    return {f"{file.parent.name}/{file.stem}/{key}": value for file in files for key, value in load_file(file).items()}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A search that went undisturbed (0), and copies of its folder as SIGKILL would have left it at some calls."""
    place = tmp_path_factory.mktemp("enas-rnn")
    words = f"{SMALL} --search-epochs 2 --steps-per-epoch 5 --steps-per-child 2 --policy-children 3 --children 1"
    words += " --max-children 14 --controller-units 8 --weights-shards 2 --weights-snapshot 0"
    with copying(place, DEATHS) as calls:
        assert (
            cli.run(
                ["launch", "enas-rnn", "--name", "run", "--local", "--storage-path", f"{place / '0'}", *words.split()]
            )
            == 0
        )
    assert len(calls) > max(DEATHS)
    return copies(place)


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_that_was_killed_ends_as_one_that_was_not(killed: dict[int, Path], death: int, tmp_path: Path) -> None:
    shutil.copytree(killed[death], tmp_path / "run")
    expected = state(killed[0])
    assert any(not torch.equal(value, expected[name]) for name, value in state(killed[death]).items())
    assert cli.run(["resume", "run", "--storage-path", str(tmp_path)]) == 0
    found = state(tmp_path / "run")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert children(tmp_path / "run") == children(killed[0])


def test_the_reward_of_a_perplexity_is_enas_s() -> None:
    """Spec §6.3: 80 / perplexity, not squared."""
    reward = REWARDS["inverse-perplexity"]
    assert reward.measures == (Measure.PERPLEXITY,)

    def of(*curve: float) -> float:
        seconds = 0.0
        outcome = Outcome(curve=curve, seconds=seconds, parameters=1, flops=1, seed=0, measure=Measure.PERPLEXITY)
        return reward.compute(outcome)

    assert of(160.0) == 0.5
    assert of() == 0.0
    assert math.isclose(of(200.0, 100.0), 0.8)
