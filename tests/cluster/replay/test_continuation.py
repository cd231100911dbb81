"""Runs that go on from the beginning of a recorded one, with the same options and with others."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from cluster.cli.main import run as nascluster
from cluster.config.run_config import RunConfig
from cluster.replay.changes import FIXED, change, is_changeable, options_of
from cluster.replay.continuation import Continuation, check_recorded, continuation_of
from cluster.replay.difference import NotReplayable
from cluster.replay.record import read_record
from cluster.replay.replay import replay, replay_to_states
from cluster.replay.until import beginning_of
from cluster.runners.driver import execute
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.continued import continued
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from ps.shard.messages import ShardState
from tests.cluster.replay.searches import PPO, REINFORCE, config, search
from tests.lengths import LONG
from tests.searcher_cases import case

ROW = "id, tokens, architecture_id, log_prob, seed, replica, batch, versions, metric, reward, completion, same_as"
"""What a child's row says of the search, and not of its time."""


def rows(folder: RunFolder, columns: str = ROW) -> list[tuple[Any, ...]]:
    with reading(folder) as db:
        return db.execute(f"SELECT {columns} FROM children ORDER BY id").fetchall()


def batches(folder: RunFolder) -> list[tuple[Any, ...]]:
    with reading(folder) as db:
        return db.execute("SELECT replica, number, versions, staleness, figures FROM batches ORDER BY 1, 2").fetchall()


def states(folder: RunFolder) -> tuple[ShardState, ...]:
    return read_record(folder).states


def single(children: int = 12) -> RunConfig:
    """Return a search in this process by one replica, of one child at a time."""
    run = config(replicas=1, children=children)
    return replace(run, topology=replace(run.topology, children=1), local=True, name="run")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    execute(single(), folder, Console(quiet=True))
    return folder


@pytest.fixture
def recorded(original: RunFolder, tmp_path: Path) -> RunFolder:
    """A run of 12 children in a place of its own."""
    return RunFolder(shutil.copytree(original.path, tmp_path / "run"))


def goes_on(folder: RunFolder, until: int, *settings: str, name: str = "run-then", status: int = 0) -> RunFolder:
    where = ("--storage-path", str(folder.path.parent), "--name", name)
    assert nascluster(["replay", folder.name, *where, "--until", str(until), "--then", *settings]) == status
    return RunFolder(folder.path.parent / name)


def planned(folder: RunFolder, name: str) -> tuple[Continuation, tuple[ShardState, ...]]:
    """Plan a run that goes on after 5 children as the recorded one did; return the states of its shards, too."""
    beginning = beginning_of(read_record(folder), 5)
    plan = continuation_of(folder, beginning, ["searcher.entropy-bonus=0.0"], name, str(folder.path.parent))
    return plan, replay_to_states(beginning.record)[1]


def test_without_a_change_the_same_happens_to_the_bit(recorded: RunFolder) -> None:
    """The property that makes the others mean something: what differs in a new run is due to what was changed."""
    new = goes_on(recorded, 5, "searcher.entropy-bonus=0.0")
    assert rows(new) == rows(recorded)
    assert batches(new) == batches(recorded)
    for one, other in zip(states(new), states(recorded), strict=True):
        assert {key: one.metadata[key] for key in ("version", "clients", "pushes")} == {
            key: other.metadata[key] for key in ("version", "clients", "pushes")
        }
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_a_change_alters_what_comes_after_it_and_nothing_before(recorded: RunFolder) -> None:
    before = [file.read_bytes() for file in sorted(recorded.path.rglob("*.safetensors"))]
    new = goes_on(recorded, 5, "searcher.entropy-bonus=2.0", "max-children=15")
    every = "*"
    assert rows(new, every)[:5] == rows(recorded, every)[:5]
    # The next child is sampled from the weights of that moment; what it gives is learnt from otherwise.
    assert rows(new)[5][1:4] == rows(recorded)[5][1:4]
    assert rows(new)[6][3] != rows(recorded)[6][3]
    assert len(rows(new)) == 15
    assert replay(read_record(new)).children == 15
    assert [file.read_bytes() for file in sorted(recorded.path.rglob("*.safetensors"))] == before
    assert replay(read_record(recorded)).children == 12


RUNS: dict[str, tuple[RunConfig, int]] = {
    "stream": (config(replicas=4, shards=3), 21),
    "ppo": (config("ppo", PPO, batching="barrier", shards=3), 4),
    "summed": (config(accumulate=3), 2),
    "queue": (config(options=replace(REINFORCE, queue_size=3, importance_clip=1.0)), 4),
    "scaled": (config(on_stale="scale", consistency="ssp", staleness_bound=2), 7),
    "evolution": (config("evolution", None, children=30), 0),
}
"""Name -> a search of several replicas that die, on shards that fall back, and what decides when."""


@pytest.mark.parametrize(
    "name", ["stream", "evolution", *(pytest.param(name, marks=LONG) for name in ("ppo", "summed", "queue", "scaled"))]
)
def test_a_run_with_deaths_goes_on_and_is_computed_again_whole(tmp_path: Path, name: str) -> None:
    run, seed = RUNS[name]
    old = RunFolder(tmp_path / "run")
    search(run, old, seed, dies=0.2, falls=0.15)
    setting = "searcher.tournament=3" if name == "evolution" else "searcher.entropy-bonus=0.5"
    new = goes_on(old, 13, setting, "local=true")
    record = read_record(new)
    assert replay(record).children == run.max_children
    ended = [child for child in rows(old) if child[10] is not None and child[10] <= 13]
    known = {child[0]: child for child in rows(new)}
    assert [known[child[0]][1:4] for child in ended] == [child[1:4] for child in ended]
    for until in (8, 13, 15):
        assert replay(beginning_of(record, until).record).children >= until
    again = goes_on(new, 15, "max-children=20", name="again")
    assert replay(read_record(again)).children == max(20, beginning_of(record, 15).sampled)


def test_a_run_that_was_stopped_before_it_went_on_is_resumed(recorded: RunFolder) -> None:
    """Killed right after it was made, or stopped before its first child."""
    plan, ends = planned(recorded, "run-then")
    new = RunFolder(recorded.path.parent / "run-then")
    replace(new, first_files=lambda draft: plan.write(draft, ends)).create(plan.config)
    where = ("--storage-path", str(new.path.parent))
    assert nascluster(["resume", "run-then", *where]) == 0
    assert rows(new) == rows(recorded)

    other, ends = planned(recorded, "stopped")

    def write(draft: RunFolder) -> None:
        other.write(draft, ends)
        draft.request_stop()

    stopped = RunFolder(recorded.path.parent / "stopped", first_files=write)
    assert execute(other.config, stopped, Console(quiet=True)).sampled == 5
    assert nascluster(["resume", "stopped", *where]) == 0
    assert rows(stopped) == rows(recorded)


@pytest.mark.parametrize("place", ["ledger", "shards"])
def test_an_interrupt_while_it_is_made_leaves_nothing(recorded: RunFolder, place: str) -> None:
    plan, ends = planned(recorded, "run-then")

    def write(draft: RunFolder) -> None:
        plan.write(draft, ends if place == "shards" else ())
        raise KeyboardInterrupt

    new = RunFolder(recorded.path.parent / "run-then", first_files=write)
    with pytest.raises(KeyboardInterrupt):
        execute(plan.config, new, Console(quiet=True))
    assert [path.name for path in new.path.parent.iterdir()] == ["run"]


def test_a_ledger_that_cannot_be_written_is_an_error_of_the_new_run(recorded: RunFolder) -> None:
    plan, ends = planned(recorded, "run-then")

    def write(draft: RunFolder) -> None:
        draft.ledger.mkdir()
        plan.write(draft, ends)

    new = RunFolder(recorded.path.parent / "run-then", first_files=write)
    with pytest.raises(RunFolderError, match="run-then cannot be created: unable to open database file"):
        new.create(plan.config)
    assert [path.name for path in new.path.parent.iterdir()] == ["run"]


def test_a_run_that_goes_on_has_options_of_its_own_from_there_only(
    recorded: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    new = goes_on(recorded, 5, "searcher.entropy-bonus=2.0")
    for until in (1, 5):
        goes_on(new, until, "max-children=14", name="again", status=2)
        assert (
            f"`--until` must be above 5, from where on the run 'run-then' has options of its own, got {until}:"
            " until then it is the run 'run', from which another one can go on"
        ) in capsys.readouterr().err
    again = goes_on(new, 6, "max-children=14", name="again").read_config()
    assert (again.searcher_options.__dict__["entropy_bonus"], again.max_children) == (2.0, 14)


def test_commands_say_where_a_run_comes_from(recorded: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    new = goes_on(recorded, 5, "searcher.entropy-bonus=2.0", "budget.epochs=2")
    from_where = (
        "from the run run until 5 children had ended, then with searcher.entropy-bonus=2.0 (was 0.0), budget.epochs=2"
        " (was 1)"
    )
    where = ("--storage-path", str(new.path.parent))
    outputs: dict[str, str] = {}
    for command in ("status", "best", "report"):
        capsys.readouterr()
        assert nascluster([command, new.name, *where]) == 0
        outputs[command] = " ".join(capsys.readouterr().out.split())
    assert f"goes on {from_where}" in outputs["status"]
    assert f"goes on {from_where}" in outputs["best"]
    assert from_where in (new.path / "report.html").read_text()
    with reading(new) as db:
        (stage,) = continued(db)
    assert (stage.run, stage.until, stage.sampled, stage.config) == ("run", 5, 5, recorded.read_config().to_json())
    assert nascluster(["status", new.name, "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["continues"][0]["until"] == 5
    assert nascluster(["best", new.name, "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out)
    (best,) = (row for row in rows(new) if row[0] == found["child_id"])
    assert ("run" in found) == (best[10] <= 5)
    assert f"--epochs {1 if best[10] <= 5 else 2} " in outputs["best"]


def test_every_option_can_be_changed_or_has_a_reason() -> None:
    for key in options_of(config()):
        assert is_changeable(key) or key.partition(".")[0] in FIXED, key


@pytest.mark.parametrize(
    "setting, message",
    [
        ("searcher.entropy-bonu=1", "no option 'searcher.entropy-bonu' .* did you mean 'searcher.entropy-bonus'"),
        ("entropy-bonus=1", "did you mean 'searcher.entropy-bonus'"),
        ("searcher.entropy-bonus", "takes KEY=VALUE, as in searcher.entropy-bonus=0.02, got 'searcher.entropy-bonus'"),
        ("searcher.entropy-bonus=much", "searcher.entropy-bonus must be a number, got much"),
        ("searcher.entropy-bonus=-1", "`entropy_bonus` must be 0 or more, got -1"),
        ("local=perhaps", "local must be true or false, got perhaps"),
        ("searcher.controller-units=7", "cannot change searcher.controller-units: the searcher would have other param"),
        ("searcher=random", "cannot change searcher: another searcher has another state"),
        ("space.max-depth=3", "cannot change space.max-depth: "),
        ("topology.shards=1", "cannot change topology.shards: the shards and the replicas have the state"),
        ("task.task=digits", "cannot change task.task: "),
        ("seed=2", "cannot change seed: the data are split by it"),
        ("max-children=4", "max-children must be at least 5, the children that had been sampled then, got 4"),
        ("max-children=5", "nothing is left to do after 5 children, with which the run ends"),
    ],
)
def test_what_cannot_be_changed_is_refused_before_anything_starts(
    recorded: RunFolder, setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not goes_on(recorded, 5, setting, status=2).path.exists()
    error = capsys.readouterr().err
    assert re.search(message, error), error


@pytest.mark.parametrize(
    "searcher, message",
    [
        ("enas", "the weights that its children share are not recorded as they were then"),
        ("eas", "its children begin with the weights of others, which are kept only while the search needs them"),
    ],
)
def test_searches_with_weights_that_are_not_recorded_are_refused(tmp_path: Path, searcher: str, message: str) -> None:
    with pytest.raises(NotReplayable, match=rf"no run can go on from a beginning of the run 'run': {message}"):
        check_recorded(RunFolder(tmp_path / "run"), case(searcher))


def test_options_are_named_as_in_the_configuration() -> None:
    run = config()
    changed = change(run, ["searcher_options.entropy_bonus=0.5", "budget.regime.clip_norm=5", "searcher.queue-size=0"])
    assert changed.then == ("searcher.entropy-bonus=0.5 (was 0.0)", "budget.regime.clip-norm=5.0 (was none)")
    assert change(changed.config, ["budget.regime.clip-norm=none"]).config.budget == run.budget
    assert change(run, ["logs.replay-log=false"]).config.logs.replay_log is False


def test_options_of_the_command_that_belong_together(recorded: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("run", "--storage-path", str(recorded.path.parent))
    cases: dict[str, tuple[str, ...]] = {
        "give `--until`, too": ("--then", "max-children=20"),
        "`--then` needs an option to change": ("--until", "5", "--then"),
        "`--name` names the new run of `--then`": ("--until", "5", "--name", "other"),
        "`--json` prints what a replay found": ("--until", "5", "--then", "max-children=20", "--json"),
        "a run named 'run' exists": ("--until", "5", "--then", "max-children=20", "--name", "run"),
    }
    for message, flags in cases.items():
        assert nascluster(["replay", *where, *flags]) == 2
        assert message in capsys.readouterr().err
