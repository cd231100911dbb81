"""A search that begins with architectures of another run, of files or of the command line."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nascluster as api
from cluster.compare.comparison import plan_comparison
from cluster.compare.plan import Limit
from cluster.config.flags import UsageError
from cluster.config.recipes import RECIPES
from cluster.runners.retraining import parse_launch
from cluster.simulation.experiment import plan_simulation
from cluster.simulation.options import SimulationOptions
from tests.command_line import nascluster

CELLS = ("--space", "nasbench201", "--cells-per-stage", "1", "--stem-channels", "2")

LOOKED_UP = ("launch", "synthetic", "--local", *CELLS)

EVOLUTION = ("--searcher", "evolution", "--population", 4, "--tournament", 4, "--max-children", 12, "--name", "next")

SAMPLES = ("0,1,2,3,4,0", "3,3,3,3,3,3", "1,1,1,1,1,1", "2,0,2,0,2,0")


def rows(place: Path, name: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / name / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `search`, of four children."""
    place = tmp_path_factory.mktemp("runs")
    words = ("--searcher", "given", "--samples", *SAMPLES, "--name", "search", "--storage-path", place)
    assert nascluster(*LOOKED_UP, *words, "--replicas", 1, "--max-children", 4) == 0
    return place


@pytest.fixture
def place(searched: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    return tmp_path


def first_tokens(place: Path, count: int) -> list[str]:
    found = rows(place, "next", f"SELECT tokens FROM children ORDER BY id LIMIT {count}")
    return [",".join(map(str, json.loads(tokens))) for (tokens,) in found]


@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_the_search_begins_with_the_best_of_another_run_once_each_and_goes_on(batching: str, place: Path) -> None:
    replicas = ("--replicas", 2, "--children", 2, "--batching", batching)
    words = (*EVOLUTION, *replicas, "--storage-path", place, "--warm-start", "search", "--top", 3)
    assert nascluster(*LOOKED_UP, *words) == 0
    best = rows(place, "search", "SELECT tokens, id, metric FROM children ORDER BY reward DESC, id LIMIT 3")
    begun = rows(place, "next", "SELECT tokens, json_extract(notes, '$.source') FROM children ORDER BY id")
    assert begun[:3] == [
        (tokens, f"child {child} of the run search, trained to {metric:.4f}") for tokens, child, metric in best
    ]
    assert len(begun) == 12 and all(source is None for _, source in begun[3:])
    parents = rows(place, "next", "SELECT json_extract(notes, '$.parent') FROM children WHERE notes LIKE '%parent%'")
    assert parents  # evolution has chosen among them
    shutil.rmtree(place / "search")
    assert nascluster("resume", "next", "--storage-path", place, "--max-children", 14) == 0
    assert rows(place, "next", "SELECT count(*) FROM children WHERE state = 'finished'") == [(14,)]


def test_files_have_their_decisions_and_are_checked(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert nascluster("best", "search", "--storage-path", place, "--json") == 0
    best = json.loads(capfd.readouterr().out)
    Path("best.json").write_text(json.dumps(best))
    Path("two.json").write_text(json.dumps([{"tokens": [4, 4, 4, 4, 4, 4]}, {"tokens": [1, 0, 0, 0, 0, 0]}]))
    words = (*EVOLUTION, "--storage-path", place, "--start-with", "best.json", "0,0,0,0,0,0", "two.json")
    assert nascluster(*LOOKED_UP, *words) == 0
    tokens = ",".join(map(str, best["tokens"]))
    assert first_tokens(place, 4) == [tokens, "0,0,0,0,0,0", "4,4,4,4,4,4", "1,0,0,0,0,0"]
    sources = rows(place, "next", "SELECT json_extract(notes, '$.source') FROM children WHERE id <= 3 ORDER BY id")
    assert sources == [("the file best.json",), ("the command line",), ("the file two.json",)]
    shutil.rmtree(place / "next")

    other = [word if word != "2" else "3" for word in LOOKED_UP]  # of another width
    assert nascluster(*other, *words) == 2
    assert "the decisions of best.json mean another network in the space 'nasbench201'" in capfd.readouterr().err
    assert not (place / "next").exists()


def test_a_simulation_takes_files_too_and_a_comparison_refuses_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.json").write_text(json.dumps({"tokens": [4, 4, 4, 4, 4, 4]}))
    words = [*CELLS, "--start-with", "one.json", SAMPLES[0]]
    options = SimulationOptions(recipe="synthetic", child_seconds="constant:1")
    simulated, _ = plan_simulation(options, [*words, "--searcher", "evolution", "--max-children", "8"])
    assert simulated.start_with == ("4,4,4,4,4,4", SAMPLES[0])
    assert simulated.start_sources == ("the file one.json", "the command line")
    with pytest.raises(UsageError, match="`--start-with` is not for a comparison"):
        plan_comparison("synthetic", ["evolution"], words, 2, Limit(children=8))


def test_other_architectures_than_the_recipes_have_their_own_sources() -> None:
    recipe = replace(
        RECIPES["synthetic"](), searcher="random", searcher_options=None, space="nasbench201", space_options=None,
        max_children=8, start_with=(SAMPLES[0],), start_sources=("the file old.json",),
    )  # fmt: skip
    kept, _ = parse_launch(recipe, [], "own")
    assert kept.start_sources == ("the file old.json",)
    for words in ([SAMPLES[1]], [SAMPLES[1], SAMPLES[2]]):
        config, _ = parse_launch(recipe, ["--start-with", *words], "own")
        assert (config.start_with, config.start_sources) == (tuple(words), ())


def test_it_begins_so_in_python_too(place: Path) -> None:
    run = api.launch(
        "synthetic", local=True, searcher="random", max_children=3, show=False, start_with=[SAMPLES[1]],
        storage_path=str(place), name="next", space="nasbench201",
    )  # fmt: skip
    assert run.status().finished == 3
    assert first_tokens(place, 1) == [SAMPLES[1]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--searcher reinforce --start-with 0,0,0,0,0,0", "`start_with` is for searchers that learn from any archi"),
        ("--searcher reinforce --warm-start search --top 2", "learns only from its own"),
        ("--start-with 9,9,9,9,9,9", "`start_with` must be samples of the space 'nasbench201', and the 1. is none:"),
        ("--start-with x", "`start_with` must be whole numbers such as 0,3,1, got 'x'"),
        ("--start-with 1,1 1,1", "`start_with` must be different ones, got '1,1' twice"),
        ("--start-with 0,0,0,0,0,0 1,0,0,0,0,0 --max-children 1", "`max_children` must be at least 2, one for each"),
        ("--start-with none.json", "none.json cannot be read: No such file or directory"),
        ("--start-with bad.json", "bad.json is no JSON: "),
        ("--start-with graph.json", "graph.json must have the decisions behind its architecture, whole numbers called"),
        ("--warm-start search --start-with 0,0,0,0,0,0", "`--start-with` and `--warm-start` both say which"),
        ("--warm-start search --from-run search", "`--warm-start` before it: give one"),
        ("--warm-start search --top 5", "`--top` must be at most 4, got 5"),
        ("--warm-start other", "no run named 'other'"),
        ("--warm-start", "as in `--warm-start NAME --top 5`"),
    ],
)
def test_what_cannot_begin_a_search_is_refused_before_it_is_made(
    words: str, message: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    Path("bad.json").write_text("{")
    Path("graph.json").write_text('{"kind": "feedforward", "nodes": []}')
    all_words = (*LOOKED_UP, "--searcher", "evolution", "--storage-path", place, "--name", "next", *words.split())
    capfd.readouterr()
    assert nascluster(*all_words) == 2
    err = capfd.readouterr().err
    assert message in err and err.count("\n") == 1, err
    assert not (place / "next").exists()


def test_the_other_run_must_be_of_the_same_space(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--searcher", "random", "--warm-start", "search", "--name", "next", "--storage-path", place)
    assert nascluster("launch", "synthetic", "--local", *words) == 2
    assert "the new run 'convolutional': give `--space nasbench201`" in capfd.readouterr().err
