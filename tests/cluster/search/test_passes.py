"""A searcher that makes several gradient steps on each batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cluster.search.learning import last_batch_of
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Searcher, Update, View
from tests.cluster.search.test_replica import Run

PASSES = 3


@dataclass
class Repeating:
    """The configured searcher, which makes three steps on each batch, and tells which."""

    inner: Searcher
    passes: int = PASSES

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        return self.inner.parameters(seed)

    def ask(self, n: int, view: View) -> list[Proposal]:
        return self.inner.ask(n, view)

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        update = self.inner.learn(children, view)
        return Update(gradients=update.gradients, figures={"turn": float(view.turn)})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("undisturbed"), searcher=Repeating)
    run.calls = run.start()
    return run


def test_each_batch_is_pushed_three_times_and_each_step_pulls(undisturbed: Run) -> None:
    assert undisturbed.pushes == [9, 9]
    assert undisturbed.rows("SELECT number, figures FROM batches") == [(n, '{"turn": 2.0}') for n in (1, 2, 3)]
    assert undisturbed.rows("SELECT DISTINCT staleness FROM batches") == [("[0, 0]",)]


def test_another_number_of_steps_gives_other_weights(undisturbed: Run, tmp_path: Path) -> None:
    once = Run(tmp_path)
    once.start()
    assert any(not torch.equal(once.values[name], value) for name, value in undisturbed.values.items())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_between_two_steps_ends_at_the_undisturbed_weights(undisturbed: Run, tmp_path: Path, after: bool) -> None:
    """Once the first batch was sampled, nothing of the rest depends on when the process died."""
    for dies_at in range(undisturbed.calls):
        run = Run(tmp_path / str(dies_at), searcher=Repeating)
        run.start(dies_at, after=after)
        run.start()
        assert run.pushes == [9, 9], f"call {dies_at}: a push was lost or applied twice"
        for name, value in undisturbed.values.items():
            assert torch.equal(run.values[name], value), f"call {dies_at}: {name}"


def test_a_damaged_snapshot_between_two_steps_loses_nothing(undisturbed: Run, tmp_path: Path) -> None:
    damaged = 0
    for dies_at in range(undisturbed.calls):
        run = Run(tmp_path / str(dies_at), searcher=Repeating)
        run.start(dies_at, after=True)
        newest = run.folder / "shards" / "shard-001.safetensors"
        if (newest.parent / "shard-001.previous.safetensors").exists():
            newest.write_bytes(b"")
            damaged += 1
        run.start()
        assert run.pushes == [9, 9], f"call {dies_at}: an acknowledged push was lost or applied twice"
        assert run.rows("SELECT count(*) FROM batches WHERE learned_at IS NULL") == [(0,)]
    assert damaged > 5


def test_the_batch_behind_a_push_is_counted_from_one() -> None:
    assert [last_batch_of(sequence, 4) for sequence in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]
    assert [last_batch_of(sequence, 1) for sequence in (0, 1, 2)] == [0, 1, 2]
