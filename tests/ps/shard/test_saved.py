"""Tensors are read from the shards' files as the shards have them, and no file is touched."""

from pathlib import Path

import pytest
import torch

from ps.errors import CorruptSnapshot, WrongRun
from ps.local import LocalStore
from ps.shard.saved import saved_values
from ps.store import Group, Layout, Push


def layout(shards: int, run: str = "run") -> Layout:
    shapes = {"a": (3, 5), "b": (7,)}
    group = Group(name="w", shapes=shapes, optimizer="sgd", options={"lr": 0.1, "momentum": 0.9})
    return Layout(run=run, shards=shards, groups=(group,))


def stepped(directory: Path, shards: int, interval_s: float, steps: int = 3) -> LocalStore:
    store = LocalStore(layout(shards), directory, interval_s)
    store.initialize({"a": torch.arange(15.0).reshape(3, 5), "b": torch.ones(7)})
    for number in range(1, steps + 1):
        versions = store.pull().versions
        gradients = {"a": torch.full((3, 5), float(number)), "b": torch.full((7,), 2.0)}
        store.push(Push(client="lane", sequence=number, gradients=gradients, versions=versions))
    return store


@pytest.mark.parametrize("interval_s", [0.0, 600.0])
@pytest.mark.parametrize("shards", [1, 3])
def test_they_are_what_the_shards_have(tmp_path: Path, shards: int, interval_s: float) -> None:
    store = stepped(tmp_path, shards, interval_s)
    expected = store.pull()
    store.close()
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = saved_values(layout(shards), tmp_path)
    assert found is not None
    assert found.versions == expected.versions == (3,) * shards
    assert all(torch.equal(found.values[name], value) for name, value in expected.values.items())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("shards", [1, 3])
def test_a_store_that_runs_may_be_read(tmp_path: Path, shards: int) -> None:
    store = stepped(tmp_path, shards, 0.0)
    found = saved_values(layout(shards), tmp_path)
    assert found is not None
    assert all(torch.equal(found.values[name], value) for name, value in store.pull().values.items())
    store.close()


def test_nothing_was_written_yet(tmp_path: Path) -> None:
    assert saved_values(layout(2), tmp_path / "none") is None
    LocalStore(layout(2), tmp_path, 0.0).close()  # without values
    assert saved_values(layout(2), tmp_path) is None


def test_a_damaged_file_gives_the_one_before_and_is_left_where_it_is(tmp_path: Path) -> None:
    stepped(tmp_path, 1, 600.0).close()
    stepped(tmp_path, 1, 600.0, steps=4).close()
    newest = tmp_path / "shard-000.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert saved_values(layout(1), tmp_path) is not None
    assert newest.exists()
    (tmp_path / "shard-000.previous.safetensors").unlink()
    with pytest.raises(CorruptSnapshot):
        saved_values(layout(1), tmp_path)


def test_files_of_another_run_are_refused(tmp_path: Path) -> None:
    stepped(tmp_path, 1, 600.0).close()
    with pytest.raises(WrongRun):
        saved_values(layout(1, run="another"), tmp_path)
