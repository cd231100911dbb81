"""Options of early stopping: what is refused before anything starts, and what has no effect."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Budget
from cluster.cli.main import run as nascluster
from cluster.config.idle_options import idle_options
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from controller.stopping.options import StoppingOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"early_stop": "bandit"}, "`early_stop` must be one of curve, median, halving or unset, got 'bandit'"),
        ({"stop_min_epochs": 0}, "`stop_min_epochs` must be at least 1, got 0"),
        ({"stop_delta": 0.0}, "`stop_delta` must be above 0 and below 1, got 0.0"),
        ({"stop_delta": float("nan")}, "`stop_delta` must be above 0 and below 1, got nan"),
        ({"halving_factor": 1}, "`halving_factor` must be at least 2, got 1"),
        ({"halving_factor": 1_001}, "`halving_factor` must be at most 1,000, got 1,001"),
        ({"halving_brackets": 0}, "`halving_brackets` must be at least 1, got 0"),
        ({"early_stop": "curve", "stop_min_children": 9}, "`stop_min_children` must be at least 10, got 9"),
        ({"early_stop": "median", "stop_min_children": -1}, "`stop_min_children` must be at least 0, got -1"),
    ],
)
def test_an_impossible_value_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        StoppingOptions(**values)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["digits", "--early-stop", "curve"],
            "`stop_min_children` must be below `max_children`, 96, got 100",
        ),
        (["digits", "--early-stop", "median", "--stop-min-children", "96"], "below `max_children`, 96, got 96"),
        (["digits", "--early-stop", "median", "--epochs", "1"], "`stop_min_epochs` must be below `epochs`, 1, got 2"),
        (["digits", "--early-stop", "median", "--stop-min-epochs", "8"], "below `epochs`, 8, got 8"),
        (
            ["digits", "--early-stop", "halving", "--halving-brackets", "3"],
            "as the first rung of the last of 3 is at epoch 32, and children have 8 `epochs`",
        ),
        (["synthetic", "--early-stop", "median"], "the task 'synthetic' trains nothing"),
        (["nasbench201", "--data", "DIR", "--early-stop", "median"], "the task 'nasbench201' trains nothing"),
        (
            ["digits", "--early-stop", "median", "--objective", "seconds=min", "--target", "seconds=5s"],
            "compare children by their metric alone, and `objective` seconds counts beside it: leave one of the two",
        ),
        (["enas-macro-digits", "--early-stop", "median"], "those of the searcher 'enas' share weights: leave it out"),
    ],
)
def test_what_could_stop_no_child_is_refused_in_one_sentence(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster(["launch", *words]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_options_of_another_rule_have_no_effect() -> None:
    def idle(*words: str, **options: Any) -> list[str]:
        config = RunConfig(budget=Budget(epochs=8), stopping=StoppingOptions(**options))
        return [text for text in idle_options(config, words) if "stop" in text]

    assert idle("--stop-delta", "0.1") == [
        "`--stop-delta` has no effect: without `--early-stop` every child is trained to its last epoch"
    ]
    assert idle("--stop-delta", "0.1", "--halving-factor", "2", early_stop="median") == [
        "`--stop-delta` has no effect: `--early-stop median` predicts nothing",
        "`--halving-factor` has no effect: `--early-stop median` has no rungs",
    ]
    assert idle("--early-stop", "halving", "--halving-factor", "2", early_stop="halving") == []


def test_a_configuration_of_an_earlier_version_stops_no_child() -> None:
    data = RECIPES["digits"]().to_json()
    assert "stopping" not in data  # so that earlier versions can read it
    assert RunConfig.from_json(data).stopping == StoppingOptions()
    early = RunConfig(stopping=StoppingOptions(early_stop="halving", halving_factor=3))
    assert RunConfig.from_json(early.to_json()) == early


OWN = """
from dataclasses import dataclass


class Mine:
    def __init__(self, space):
        raise SystemError("a reader has made it")

    def parameters(self, seed):
        return ()

    def ask(self, n, view):
        return []

    def learn(self, children, view):
        return None
"""


def test_a_reader_of_a_configuration_makes_no_searcher(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    stopping = StoppingOptions(early_stop="median")
    data = [
        RunConfig(searcher=searcher, stopping=stopping).to_json()
        for searcher in ("reinforce", f"{tmp_path / 'own.py'}:Mine")
    ]
    code = (
        "import json, sys; from cluster.config.run_config import RunConfig;"
        "[RunConfig.from_json(data) for data in json.loads(sys.argv[1])]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(data)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
