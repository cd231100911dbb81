"""DARTS, SNAS and ProxylessNAS whole, in one process: what shards and deaths change, which is nothing, to the bit."""

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor

from child_trainer.seeding import derive
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from child_trainer.threads import computing_with
from cluster.cli import main as cli
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.runners.build import initial_values, local_store, make_parameters
from cluster.runners.shared_data import data_of
from cluster.runners.shared_weights import GROUP, check_weights, local_weights, make_network
from cluster.runners.trainer import Trainer, loaded_task
from cluster.search import seeding
from cluster.search.evaluator import Assignment
from cluster.storage.run_folder import RunFolder
from controller.searcher import Lane, shared_weights_of
from controller.strengths import strengths_in, strengths_name
from tests.cluster.runners.first_jobs import first_job
from tests.cluster.runners.killed_runs import copies, copying
from tests.lengths import LONG

CELLS = "--space darts --operations max_3x3 identity sep_3x3 --blocks 2 --num-cells 3 --filters 4"
SEARCHES: Mapping[str, str] = {
    "darts": f"{CELLS} --searcher darts --order 1",
    "darts-second": f"{CELLS} --searcher darts --order 2",
    "darts-weighted": f"{CELLS} --searcher darts --strengths-objective weighted --validation-weight 3",
    "snas": f"{CELLS} --searcher snas",
    "proxyless": "--space mbconv --widths 8 16 --blocks 1 2 --strides 1 2 --kernels 3 --stem-filters 4 --stem-stride 1"
    " --first-filters 4 --last-filters 16 --searcher proxyless --weights-only-epochs 0 --strengths-period 2",
    "darts-rnn": "--space darts-rnn --layers 2 --searcher darts --task text --cell-layers 1 --hidden-size 6"
    " --max-vocabulary 50 --unroll 4",
}
REWARDS = dict.fromkeys(SEARCHES, "accuracy") | {"darts-rnn": "inverse-perplexity"}

STEPS = 20


def config(search: str, *words: str) -> RunConfig:
    flags = f"{SEARCHES[search]} --search-epochs 1 --batch-size 8 --refit-batches 1 --replicas 1 --children 1"
    return parse_run(RECIPES["digits"](), [*flags.split(), "--reward", REWARDS[search], *words], "digits")


def sharded(of: RunConfig) -> dict[str, Tensor]:
    """The weights and the strengths after the steps of one child, as a worker makes them on the shards."""
    store, weights = local_store(of, "run"), local_weights(of, "run")
    assert store is not None
    assert weights is not None
    trainer = Trainer(of, weights=weights, policy=store)
    lane, seed = Lane(0, 0, 0), seeding.child_seed(of.seed, 1)
    outcome = trainer.train(Assignment(child_id=1, seed=seed, architecture=None, job=first_job(of, STEPS), lane=lane))
    assert outcome.failure is None
    kept = {name: value for name, value in store.pull().values.items() if name.startswith("strengths/")}
    return weights.pull().values | kept


def plain_loop(of: RunConfig) -> dict[str, Tensor]:
    """The same without shards, lanes and half-steps' bookkeeping: PyTorch's optimizers on tensors in this process."""
    searcher, job, seed = of.make_searcher(), first_job(of, STEPS), seeding.child_seed(of.seed, 1)
    shared = shared_weights_of(searcher)
    assert shared is not None
    network = make_network(of, shared)
    weights = network.initial(seeding.derive(of.seed, GROUP))
    groups = make_parameters(of, searcher)
    alphas = strengths_in(groups[0].values)
    rules, rule = shared.options, groups[0].options
    sgd = torch.optim.SGD(
        weights.values(),
        lr=job.rate or 0,
        momentum=rules["momentum"],
        weight_decay=rules["weight_decay"],
        nesterov=bool(rules.get("nesterov")),
        foreach=False,
    )
    betas = rule["beta1"], rule["beta2"]
    decay = rule["weight_decay"]
    adam = torch.optim.Adam(alphas.values(), lr=rule["lr"], betas=betas, weight_decay=decay, foreach=False)
    task: Any = loaded_task(of.task, seed=seeding.derive(of.seed, "split"))
    data = data_of(task)
    objective = OBJECTIVES[job.objective]
    for step in range(STEPS):
        settings = replace(objective.settings_of(job.settings), progress=step / STEPS)
        for half in objective.due(step, settings):
            place = objective.half_steps.index(half)
            words = f"step {step}" + (f", part {place}" if place else "")
            draw = half.draw(
                network.gate_sizes, alphas, settings, Generator().manual_seed(derive(seed, f"gates of {words}"))
            )
            generator = Generator().manual_seed(derive(seed, f"images of {words}"))
            batches = data.batches(of.budget.batch_size, generator)
            found = half.step(network, batches, weights, draw, settings)
            for optimizer, values, gradients in ((sgd, weights, found.weights), (adam, alphas, found.strengths)):
                for name, value in values.items():
                    value.grad = gradients.get(name)
                optimizer.step()
    return weights | {strengths_name(gate): value for gate, value in alphas.items()}


@pytest.mark.parametrize(
    "search", [pytest.param(name, marks=LONG) if name == "darts-second" else name for name in SEARCHES]
)
def test_sharding_changes_no_bit_and_twenty_steps_are_those_of_a_plain_loop(search: str) -> None:
    words = ("--steps-per-epoch", str(STEPS), "--steps-per-child", str(STEPS))
    with computing_with(1):
        expected = plain_loop(config(search, *words))
        begun = initial_values(make_parameters(config(search), config(search).make_searcher()))
        assert any(not torch.equal(value, expected.get(name, value)) for name, value in begun.items())
        strengths = sum(value.numel() for value in begun.values())
        for shards in (1, 3, 20):
            own = ("--shards", str(min(shards, strengths)), "--weights-shards", str(shards))
            found = sharded(config(search, *words, *own))
            assert found.keys() == expected.keys()
            different = [name for name in found if not torch.equal(found[name], expected[name])]
            assert not different, f"{shards} shards"


def test_the_weight_of_the_validation_loss_changes_what_a_search_learns() -> None:
    words = ("--steps-per-epoch", str(STEPS), "--steps-per-child", str(STEPS), "--validation-weight")
    found = [sharded(config("darts-weighted", *words, weight)) for weight in ("0", "1", "1")]
    alphas = [{name: value for name, value in each.items() if name.startswith("strengths/")} for each in found]
    assert alphas[1].keys() == alphas[2].keys()
    assert all(torch.equal(value, alphas[2][name]) for name, value in alphas[1].items())
    assert any(not torch.equal(value, alphas[0][name]) for name, value in alphas[1].items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--consistency", "sync"), "`consistency` must be async where steps move the strengths of 'snas', got sync"),
        (("--consistency", "ssp"), "`consistency` must be async where steps move the strengths of 'snas', got ssp"),
        (("--accumulate", "2"), "`accumulate` must be 1 where steps move the strengths of 'snas', got 2"),
    ],
)
def test_replicas_do_not_wait_for_one_another_where_steps_move_strengths(words: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_weights(config("snas", *words), "run")


def test_each_option_of_the_loss_with_a_cost_changes_what_a_search_learns() -> None:
    words = ("--steps-per-epoch", str(STEPS), "--steps-per-child", str(STEPS), "--mode", "two", "--cost", "parameters")
    changes = ("", "--cost-scale 0.4", "--cost-power 0.6", "--cost-reference 300", "--cost-loss add")
    found = [sharded(config("proxyless", *words, *change.split())) for change in changes]
    alphas = [torch.cat([each[name] for name in sorted(each) if name.startswith("strengths/")]) for each in found]
    assert all(not torch.equal(one, other) for one, other in combinations(alphas, 2))


@pytest.mark.parametrize("mode", ["full", "two", "reinforce"])
def test_paths_that_cost_nothing_fail_no_step(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each path here is of options without parameters."""
    words = "--space darts --operations max_3x3 avg_3x3 --blocks 2 --num-cells 3 --filters 4"
    words += f" --searcher proxyless --mode {mode} --cost parameters --weights-only-epochs 1 --search-epochs 1"
    words += " --steps-per-epoch 4 --steps-per-child 2 --strengths-period 2 --paths-per-step 2 --batch-size 8"
    place = ["--storage-path", str(tmp_path)]
    assert cli.run(["launch", "digits", "--name", "run", "--local", *place, *words.split()]) == 0
    assert cli.run(["status", "run", *place]) == 0
    assert "6 finished, 0 failed" in capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "run/ledger.sqlite")) as db:
        measured = [json.loads(found)["measurements"] for (found,) in db.execute("SELECT outcome FROM children")]
    assert [child for child, found in enumerate(measured, start=1) if "strengths_reward" in found] == (
        [4, 5] if mode == "reinforce" else []
    )


# --- Deaths --------------------------------------------------------------------------------------------------------

KILLED = ("darts-second", "snas", "proxyless", "darts-rnn")
DEATHS = range(8, 15)
"""Calls to the shards of both kinds, before each of which a process dies once: more than those of one step."""


def launch(place: Path, search: str) -> None:
    words = (
        f"launch digits --name run --local --storage-path {place} {SEARCHES[search]} --search-epochs 1"
        " --steps-per-epoch 4 --steps-per-child 3 --batch-size 8 --refit-batches 1 --replicas 1 --children 1"
        f" --reward {REWARDS[search]} --max-children 3 --shards 2 --weights-shards 2 --weights-snapshot 0"
    )
    assert cli.run(words.split()) == 0


def state(folder: Path) -> dict[str, Tensor]:
    """All that the shards of both kinds have, what their optimizers keep included."""
    files = sorted([*folder.glob("weights/shard-00?.safetensors"), *folder.glob("shards/shard-00?.safetensors")])
    assert len(files) == 4
    return {f"{file.parent.name}/{file.stem}/{key}": value for file in files for key, value in load_file(file).items()}


def record(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute("SELECT id, tokens, job, notes, metric, reward, lane, steps_before FROM children").fetchall()


def test_a_search_launched_with_the_weighted_objective_trains_by_it(tmp_path: Path) -> None:
    launch(tmp_path, "darts-weighted")
    steps, _, score = record(tmp_path / "run")
    assert '"objective": "weighted"' in json.dumps(json.loads(steps[2]))
    assert score[4] is not None


@pytest.fixture(scope="module", params=KILLED)
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A search that went undisturbed (0), and copies of its folder as SIGKILL would have left it at some calls."""
    place = tmp_path_factory.mktemp(request.param)
    with copying(place, DEATHS) as calls:
        launch(place / "0", request.param)
    assert len(calls) > max(DEATHS)
    return copies(place)


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_that_was_killed_ends_with_the_weights_and_strengths_of_one_that_was_not(
    killed: dict[int, Path], death: int, tmp_path: Path
) -> None:
    shutil.copytree(killed[death], tmp_path / "run")
    expected, before = state(killed[0]), state(killed[death])
    assert any(not torch.equal(before[name], expected[name]) for name in expected)
    assert cli.run(["resume", "run", "--storage-path", str(tmp_path)]) == 0
    found = state(tmp_path / "run")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert record(tmp_path / "run") == record(killed[0])
    assert [row[1] == "[]" for row in record(killed[0])] == [True, True, False]


def test_early_stopping_is_the_recorded_reason_of_the_search_s_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every connection can only be a skip connection, so that the first epoch is the last."""
    words = "--space darts --operations identity --blocks 2 --num-cells 3 --filters 4 --searcher darts"
    words += " --search-epochs 3 --steps-per-epoch 2 --early-stop-skips 2 --batch-size 8 --refit-batches 1"
    place = ["--storage-path", str(tmp_path)]
    assert cli.run(["launch", "digits", "--name", "run", "--local", *place, *words.split()]) == 0
    assert cli.run(["status", "run", *place]) == 0
    shown = capsys.readouterr().out
    reason = "early stopping: the cell that the strengths favour has 4 skip connections, and --early-stop-skips is 2"
    assert f"run: finished ({reason})" in shown
    assert "2 finished, 0 failed, of at most" in shown
    assert reason in page(read_facts(RunFolder(tmp_path / "run"), 0.0))
