"""Every searcher of the catalogue in the real loop: as one replica and as three, in both modes, and after any death."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.replay.difference import NotReplayable
from cluster.replay.record import read_record
from cluster.replay.replay import replay
from cluster.storage.run_folder import RunFolder
from controller.catalogue import SEARCHERS
from tests.cluster.search.test_replica import Run
from tests.lengths import FACTOR
from tests.searcher_cases import FLAGS, SHARING, case

CHILDREN = 6

APART_SHARING = 13 if FACTOR > 1 else 40
"""How many calls lie between two deaths where children share weights, as paths take time to train and score.

Each searcher's deaths begin at another call. `test_steps.py` dies at each call to shared weights.
"""

APART = 1 if FACTOR > 1 else 5
"""How many calls lie between two deaths of the others; `test_replica.py` always dies at each call."""


def make(folder: Path, searcher: str, replicas: int, batching: str) -> Run:
    words = f"--replicas {replicas} --shards 2 --children 2 --max-children {CHILDREN} --batching {batching}"
    return Run(folder, case(searcher, *words.split()))


def contents(run: Run) -> list[tuple[Any, ...]]:
    """The record of a search, without times and the searcher's figures.

    If a process dies between a push and its record, the figures are computed once more, from the weights after it.
    """
    children = run.rows(
        "SELECT id, replica, batch, tokens, graph, log_prob, seed, state, reward, metric, notes, same_as, completion"
        " FROM children ORDER BY id"
    )
    return children + run.rows("SELECT replica, number, pushed, learned_at IS NULL FROM batches ORDER BY 1, 2")


def weights(run: Run) -> dict[str, list[float]]:
    values = getattr(run, "values", {}) | getattr(run, "weights", {})
    return {name: value.flatten().tolist() for name, value in values.items()}


def check_replay(run: Run, searcher: str) -> None:
    """Replay it, or see why that is refused."""
    (run.folder / "config.json").write_text(json.dumps(replace(run.config, name="run").to_json()))
    folder = RunFolder(run.folder)
    if searcher in ("darts", "snas", "proxyless"):
        with pytest.raises(NotReplayable, match="its parameters are learnt with the weights that its children share"):
            read_record(folder)
    else:
        assert replay(read_record(folder)).children == CHILDREN


def test_every_searcher_has_a_case() -> None:
    assert FLAGS.keys() == SEARCHERS.keys()


@pytest.mark.parametrize("batching", ["barrier", "stream"])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("searcher", FLAGS)
def test_a_search_is_whole_and_fixed_by_its_seed(tmp_path: Path, searcher: str, replicas: int, batching: str) -> None:
    runs = [make(tmp_path / str(number), searcher, replicas, batching) for number in range(2)]
    for run in runs:
        run.start()
        assert run.rows("SELECT count(*) FROM children WHERE state != 'finished' OR batch = 0") == [(0,)]
        assert run.rows("SELECT count(*) FROM batches WHERE learned_at IS NULL") == [(0,)]
        assert run.rows("SELECT count(*) FROM children") == [(CHILDREN,)]
        assert sorted(run.trained) == [row[0] for row in run.rows("SELECT id FROM children WHERE same_as IS NULL")]
        space = run.config.search_space
        for tokens, architecture in run.rows("SELECT tokens, architecture_id FROM children WHERE graph IS NOT NULL"):
            assert space.decode([int(token) for token in tokens[1:-1].split(",")]).id == architecture
    assert contents(runs[0]) == contents(runs[1])
    assert weights(runs[0]) == weights(runs[1])
    if FACTOR > 1 or (replicas, batching) == (3, "stream"):
        check_replay(runs[0], searcher)


@pytest.mark.parametrize("batching", ["barrier", "stream"])
@pytest.mark.parametrize("searcher", FLAGS)
def test_a_search_that_dies_before_any_call_is_resumed_to_the_same_end(
    tmp_path: Path, searcher: str, batching: str
) -> None:
    undisturbed = make(tmp_path / "undisturbed", searcher, 1, batching)
    calls = undisturbed.start()
    apart = APART_SHARING if searcher in SHARING else APART
    for dies_at in range(list(FLAGS).index(searcher) % apart, calls, apart):
        run = make(tmp_path / str(dies_at), searcher, 1, batching)
        run.start(dies_at)
        run.start()
        assert contents(run) == contents(undisturbed), f"call {dies_at} of {calls}"
        assert weights(run) == weights(undisturbed), f"call {dies_at} of {calls}"
