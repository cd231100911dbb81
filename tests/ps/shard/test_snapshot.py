import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ps.errors import CorruptSnapshot, WrongRun
from ps.local import LocalStore
from ps.shard.shard import Shard, ShardState
from ps.shard.snapshot import SnapshotFile
from ps.store import Layout, Push
from tests.contracts.parameter_store import sgd_layout

LAYOUT = sgd_layout(shards=1)
NEWEST, PREVIOUS = "shard-000.safetensors", "shard-000.previous.safetensors"


def state(number: int) -> ShardState:
    return ShardState({"value/x": torch.full((10,), float(number)), "scalar": torch.tensor(1.0)}, {"version": number})


def written(directory: Path, *numbers: int) -> SnapshotFile:
    file = SnapshotFile(directory, LAYOUT, 0)
    for number in numbers:
        file.write(state(number))
    return file


def test_load_without_files_returns_none(tmp_path: Path):
    assert SnapshotFile(tmp_path / "none", LAYOUT, 0).load() is None


def test_the_newest_state_comes_back_and_the_one_before_is_kept(tmp_path: Path):
    file = written(tmp_path, 1, 2, 3)
    loaded = file.load()
    assert loaded is not None
    assert loaded[0].metadata == {"version": 3}
    assert not loaded[1]
    assert loaded[0].tensors["value/x"].tolist() == [3.0] * 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, NEWEST]


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def overwrite_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"contract", b"contrast"))


def replace_by_another_file(path: Path) -> None:
    save_file({"x": torch.ones(1)}, path)


DAMAGE = [flip_last_byte, truncate, overwrite_header, replace_by_another_file, lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_file_falls_back_with_a_warning(tmp_path: Path, damage, caplog: pytest.LogCaptureFixture):
    file = written(tmp_path, 1, 2)
    damage(tmp_path / NEWEST)
    with caplog.at_level(logging.WARNING):
        loaded = file.load()
    assert loaded is not None
    assert loaded[1]
    assert loaded[0].metadata == {"version": 1}
    assert NEWEST in caplog.text
    assert "falling back" in caplog.text
    file.write(state(3))
    damage(tmp_path / NEWEST)
    again = file.load()
    assert again is not None, "the good previous file must have outlived the damaged one"
    assert again[0].metadata == {"version": 1}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_without_a_previous_file_is_an_error_that_names_the_file(tmp_path: Path, damage):
    file = written(tmp_path, 1)
    damage(tmp_path / NEWEST)
    with pytest.raises(CorruptSnapshot, match=NEWEST):
        file.load()


def test_both_damaged_is_an_error_that_names_both(tmp_path: Path):
    file = written(tmp_path, 1, 2)
    truncate(tmp_path / NEWEST)
    flip_last_byte(tmp_path / PREVIOUS)
    with pytest.raises(CorruptSnapshot, match=f"{NEWEST} is not a comp.*; and the previous one: .*{PREVIOUS} does not"):
        file.load()


def test_read_all_returns_each_files_state_and_changes_nothing(tmp_path: Path):
    file = written(tmp_path, 1, 2)
    truncate(tmp_path / NEWEST)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    newest, previous = file.read_all().values()
    assert isinstance(newest, CorruptSnapshot)
    assert isinstance(previous, ShardState)
    assert previous.metadata == {"version": 1}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / NEWEST).unlink()
    assert list(file.read_all()) == [tmp_path / PREVIOUS]


def test_a_crash_between_the_renames_loses_nothing(tmp_path: Path):
    file = written(tmp_path, 1)
    (tmp_path / NEWEST).rename(tmp_path / PREVIOUS)
    loaded = file.load()
    assert loaded is not None
    assert loaded[0].metadata == {"version": 1}


def test_a_fallback_never_repeats_an_incarnation(tmp_path: Path):
    LocalStore(LAYOUT, tmp_path).initialize({"x": torch.zeros(10)})
    store = LocalStore(LAYOUT, tmp_path)
    assert store.status()[0].incarnation == 2
    truncate(tmp_path / NEWEST)  # what remains was written by incarnation 1
    assert LocalStore(LAYOUT, tmp_path).status()[0].incarnation == 3


@pytest.mark.parametrize(
    "other",
    [
        Layout(run="another", groups=LAYOUT.groups, shards=1),
        sgd_layout(shards=1, elements=11),
        sgd_layout(shards=1, accumulate=2),
        sgd_layout(shards=2),
    ],
)
def test_files_of_another_run_or_layout_are_refused(tmp_path: Path, other: Layout):
    store = LocalStore(LAYOUT, tmp_path)
    store.initialize({"x": torch.zeros(10)})
    store.push(Push(client="a", sequence=1, gradients={"x": torch.ones(10)}, versions=(0,)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(WrongRun, match=f"{NEWEST} belongs to"):
        LocalStore(other, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_write_counters_describe_the_last_write(tmp_path: Path):
    status = Shard(LAYOUT, 0).status()
    times = iter([100.0, 100.25, 107.25])
    file = SnapshotFile(tmp_path, LAYOUT, 0, clock=lambda: next(times))
    assert file.with_write_counters(status) is status
    file.write(state(1))
    counted = file.with_write_counters(status)
    assert (counted.writes, counted.snapshot_age_s, counted.snapshot_write_s) == (1, 7.0, 0.25)
    assert counted.snapshot_bytes == (tmp_path / NEWEST).stat().st_size
