"""Searches for recurrent cells, whose children are language models, with one process and with Ray."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from child_trainer.architectures.architecture import Architecture
from child_trainer.language_options import MEDIUM_PARAMETERS, LanguageOptions
from child_trainer.outcome import Budget
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from controller.spaces.recurrent import RecurrentSpace
from tests.cluster.searches import finish, nascluster, status
from tests.lengths import LONG

pytestmark = pytest.mark.timeout(180)

SIZES = "--max-children 6 --children 2 --hidden-size 8 --max-vocabulary 200 --epochs 1 --base 2 --train-fraction 0.1"
SMALL = shlex.split(SIZES)


def check(name: str, out: str) -> None:
    found = status(name)
    assert found["children"]["finished"] == 6
    assert found["measure"] == "perplexity"
    assert found["best"]["reward"] == pytest.approx(80 / found["best"]["metric"] ** 2)
    assert 1 < found["best"]["metric"] < 200
    assert f"validation perplexity {found['best']['metric']:.4f}, reward " in out


@LONG
@pytest.mark.xdist_group("ray")
def test_a_real_search_under_ray(shared_ray: str) -> None:
    out = finish(nascluster("launch", "text-rnn", "--name", "cells-ray", *SMALL, address=shared_ray))
    check("cells-ray", out)


def test_a_search_in_one_process_and_its_best_child_trained_once_more_by_hand(tmp_path: Path) -> None:
    check("cells", finish(nascluster("launch", "text-rnn", "--name", "cells", "--local", *SMALL)))
    text = finish(nascluster("best", "cells"))
    best = json.loads(finish(nascluster("best", "cells", "--json")))
    assert Architecture.from_json(best["architecture"]).kind == "recurrent"
    command = next(line for line in text.splitlines() if "python -m child_trainer" in line)
    words = shlex.split(command[command.index("python -m") :])
    words[words.index("child_trainer") + 1] = str(tmp_path / "cell.json")
    (tmp_path / "cell.json").write_text(json.dumps(best))
    again = subprocess.run(
        [sys.executable, *words[1:], "--device", "cpu", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout)["curve"][-1] == best["metric"]
    page = finish(nascluster("report", "cells"))
    html = next(Path(word) for word in page.split() if word.endswith(".html")).read_text()
    assert "best validation perplexity" in html


# --- Recipes and settings ----------------------------------------------------------------------------------------


def test_the_papers_recipe_has_the_papers_constants() -> None:
    """Spec §2.3."""
    config = RECIPES["zoph2017-ptb"]()
    assert (config.topology.shards, config.topology.replicas, config.topology.children) == (20, 400, 1)
    assert config.topology.accumulate == 10
    assert config.searcher_options.controller_learning_rate == 0.0005
    assert (config.space, config.space_options) == ("recurrent", RecurrentSpace(base=8))
    assert config.reward == "perplexity"
    assert config.budget.epochs == 35
    language = config.task.options
    assert (language.cell_layers, language.target_parameters, language.hidden_size) == (2, MEDIUM_PARAMETERS, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"space": "recurrent", "task": TaskOptions(task="digits")},
            "the task 'digits' trains feedforward architectures; the space 'recurrent' has recurrent ones",
        ),
        (
            {"task": TaskOptions(task="ptb"), "reward": "perplexity"},
            "the task 'ptb' trains recurrent architectures; the space 'convolutional' has feedforward ones",
        ),
        (
            {"space": "recurrent", "task": TaskOptions(task="text")},
            "the reward 'cubed-accuracy' does not judge the perplexity of the task 'text'; use perplexity or"
            " inverse-perplexity",
        ),
        (
            {"task": TaskOptions(task="digits"), "reward": "perplexity"},
            "the reward 'perplexity' does not judge the accuracy of the task 'digits'; use cubed-accuracy or accuracy"
            " or tangent-accuracy",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        RunConfig(**settings)
    assert str(refused.value) == message


def test_options_of_language_models_survive_the_configurations_file() -> None:
    task = TaskOptions(task="text", options=LanguageOptions(hidden_size=7, tied_embeddings=True))
    config = RunConfig(space="recurrent", reward="perplexity", task=task, budget=Budget(epochs=1))
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert RunConfig.from_json({**config.to_json(), "task": {"task": "text"}}).task.options == LanguageOptions()


@pytest.mark.parametrize(
    ("recipe", "words", "expected"),
    [
        ("text-rnn", "", (MEDIUM_PARAMETERS, 32)),
        ("text-rnn", "--target-parameters 90000", (90_000, None)),
        ("text-rnn", "--target_parameters=90000 --hidden-size None", (90_000, None)),
        ("text-rnn", "--hidden-size 40", (MEDIUM_PARAMETERS, 40)),
        ("wikitext2-rnn", "--hidden-size 40", (4_000_000, 40)),
    ],
)
def test_what_is_said_of_the_width_is_never_without_effect(recipe: str, words: str, expected: tuple) -> None:
    """A recipe's own width gives way to the size of the model that is asked for."""
    language = parse_run(RECIPES[recipe](), words.split(), recipe).task.options
    assert (language.target_parameters, language.hidden_size) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--base", "1"), "`base` must be at least 2, got 1"),
        (("--unroll", "0"), "nascluster: `unroll` must be at least 1, got 0"),
        (("--target-parameters", "50", "--hidden-size", "None"), "`target_parameters` is 50; raise it"),
        (("--target-parameters=50",), "`target_parameters` is 50; raise it"),
        (("--target-parameters", "90000", "--hidden-size", "32"), "give `--hidden-size` or `--target-parameters`"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_starts(options: tuple, message: str, tmp_path: Path) -> None:
    process = nascluster("launch", "text-rnn", "--local", "--storage-path", tmp_path, *options)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
