"""Latency as the cost of a search: the table is measured once, kept with the run, and holds the slow options down."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from child_trainer.architectures.gates import gate_sizes
from cluster.cli import main as cli
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.job_trainer import JobTrainer
from cluster.runners.latencies import with_latencies
from cluster.runners.shared_weights import local_weights
from cluster.runners.trainer import loaded_task
from cluster.storage.run_folder import RunFolder
from controller.searcher import shared_weights_of
from controller.space import HasSupernet

SPACE = (
    "--space mbconv --widths 8 16 --blocks 1 2 --strides 1 2 --kernels 3 7 --stem-filters 4 --stem-stride 1"
    " --first-filters 4 --last-filters 16"
)
SEARCH = (
    f"{SPACE} --searcher proxyless --weights-only-epochs 0 --search-epochs 2 --steps-per-epoch 20 --steps-per-child 20"
    " --strengths-period 1 --strengths-learning-rate 0.2 --batch-size 8 --refit-batches 1 --replicas 1 --children 1"
    " --reward accuracy --cost latency --cost-loss add#linear --cost-reference 10"
)


def config(*words: str) -> RunConfig:
    return parse_run(RECIPES["digits"](), [*SEARCH.split(), *words], "digits")


def test_each_option_of_each_gate_is_measured_and_the_run_keeps_the_table() -> None:
    said: list[str] = []
    measured = with_latencies(config(), said.append)
    shared = shared_weights_of(measured.make_searcher())
    assert shared is not None
    table = measured.option_latencies
    assert {gate: len(costs) for gate, costs in table.items()} == gate_sizes(shared.supernet)
    assert all(max(costs) > 1 for costs in table.values())  # µs
    assert said == ["Measuring the latency of each option on this machine, with 1 thread ..."]
    again = RunConfig.from_json(json.loads(json.dumps(measured.to_json())))
    assert again == measured
    assert with_latencies(again, said.append) is again
    assert len(said) == 1
    task, store = loaded_task(again.task), local_weights(again, "run")
    assert store is not None
    assert JobTrainer(again, task, store)._costs == table  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("words", [("--cost", "none"), ("--cost", "parameters"), ("--searcher", "random")])
def test_nothing_is_measured_where_latency_does_not_count(words: tuple[str, str]) -> None:
    flags = SPACE if words[0] == "--searcher" else SEARCH
    of = parse_run(RECIPES["digits"](), [*flags.split(), *words], "digits")
    assert with_latencies(of, pytest.fail) is of


def test_a_heavy_weight_leads_to_the_options_that_were_measured_to_be_fastest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*SEARCH.split(), "--cost-weight", "1000", "--max-children", "4", "--storage-path", str(tmp_path)]
    assert cli.run(["launch", "digits", "--local", "--name", "fast", *flags]) == 0
    folder = RunFolder(tmp_path / "fast")
    table = folder.read_config().option_latencies
    fastest = {gate: min(range(len(costs)), key=costs.__getitem__) for gate, costs in table.items()}
    assert options(folder, "SELECT max(id) FROM children WHERE tokens != '[]'") == fastest
    capsys.readouterr()
    assert cli.run(["best", "fast", "--json", "--storage-path", str(tmp_path)]) == 0
    best = json.loads(capsys.readouterr().out)
    chosen = options(folder, str(best["child_id"]))
    assert best["options_latency_us"] == pytest.approx(sum(table[gate][option] for gate, option in chosen.items()))
    assert cli.run(["best", "fast", "--storage-path", str(tmp_path)]) == 0
    assert f"{best['options_latency_us']:,.0f} µs for its options by the run's table" in capsys.readouterr().out
    assert cli.run(["report", "fast", "--storage-path", str(tmp_path)]) == 0
    text = (folder.path / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"{best['options_latency_us']:,.0f} µs for its options" in text


def options(folder: RunFolder, child: str) -> dict[str, int]:
    """The option of each gate in a child's architecture; `child` is an SQL expression for its id."""
    with closing(sqlite3.connect(folder.ledger)) as db:
        (tokens,) = db.execute(f"SELECT tokens FROM children WHERE id = ({child})").fetchone()
    space = cast(HasSupernet, folder.read_config().search_space)
    return {gate: vector.index(1) for gate, vector in space.gates(json.loads(tokens)).items()}
