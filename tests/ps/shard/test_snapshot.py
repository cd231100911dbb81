import base64
import json
import logging
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ps.errors import CorruptSnapshot, WrongRun
from ps.local import LocalStore
from ps.shard.shard import Shard, ShardState
from ps.shard.snapshot import SnapshotFile
from ps.store import Group, Layout, Push
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


def test_threads_that_make_contents_of_different_tensors_do_not_mix_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A commit makes one while an older state, which may have other tensors, goes into the file."""
    states = [ShardState({f"value/{n}": torch.ones(1) for n in range(size)}, {"version": size}) for size in (2, 3)]
    expected = [b"".join(SnapshotFile(tmp_path, LAYOUT, 0).content(state)) for state in states]
    file, dumps = SnapshotFile(tmp_path, LAYOUT, 0), json.dumps

    def dumps_while_the_other_thread_runs(value: Any) -> str:
        time.sleep(1e-4)
        return dumps(value)

    def mixed(number: int) -> int:
        return sum(b"".join(file.content(states[number])) != expected[number] for _ in range(300))

    monkeypatch.setattr(json, "dumps", dumps_while_the_other_thread_runs)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(mixed, range(2))) == [0, 0]


FORMAT_1 = (
    "c-oaxOK#gR5H-*PblauDH3LheLdiyfWYwOatJn}m{KQ1{D@nN@Lq{plGj!KYn*;R_9m;8q#7O}Qco1ja%zGmZzrC1E&z_WJqXQ@i"
    "P?lu1Cq6*XWJUICVp|(5)b@*3YqFXLH)uLvlbv?nc5O`Y7~58YYa!g{(wOT9zt#R<iE>@vA5@YU%i8KTOg#EPeBWRp+l-O*L(?3J"
    "k(`RsDc|U(Lhr5Z@3~r=F!gRCUF)5$CyQ|;l$g#n5b#S{@Uk9!(C)%-!KsTB+3AF2f@ita@;#bj2zjcjrGTZ#IY7ly#mtiDc_J#t"
    "c+RB+UPz{L1&S3$fWa~)(gO39k(a3Eh8BgoTE!V`d#hdVY#Rs3CC{18K$=7{ewmYzlCBT7!9VO4`cq%R?soApZb605ecZwu&JM%I"
    "=!R`5nKsoK<8|<uN@%fpN~ZK5&QvOBDjrHTU4vU1nz9;<!Pq~q$4~WALD{3(a0mVWraBd21?BNp#5-}OKW8+{V(Sj-K`*N3o72<g"
    "ETdU*Y(CF9E2v10&F8H_BvhdDIG>*HUteBDyn3r&N6cn-S4Ui5Kg0}i_v<fyy!-t#;t$|=If("
)
"""A file of format 1 after three pushes of 1, 2 and 3 to `w` and `s`: compressed, in base 85."""


def test_a_shard_continues_from_a_file_of_format_1(tmp_path: Path):
    groups = (
        Group(name="policy", shapes={"w": (2,), "b": ()}, optimizer="adam", options={"lr": 0.5}),
        Group(name="sums", shapes={"s": (3,)}, optimizer="sgd", options={"lr": 1.0, "momentum": 0.5}, accumulate=2),
    )
    layout = Layout(run="old", groups=groups, shards=1)
    content = bytearray(zlib.decompress(base64.b85decode(FORMAT_1)))
    (tmp_path / NEWEST).write_bytes(content)
    resumed, twin = LocalStore(layout, tmp_path), LocalStore(layout)
    twin.initialize({"w": torch.ones(2), "b": torch.tensor(2.0), "s": torch.zeros(3)})
    for number in range(1, 7):
        # `b` takes its first steps only after the restart: Adam counts the steps of each tensor.
        gradients = {"w": torch.full((2,), float(number)), "s": torch.full((3,), float(number))}
        gradients |= {"b": torch.tensor(1.0)} if number > 3 else {}
        push = Push(client="a", sequence=number, gradients=gradients, versions=(0,))
        assert resumed.push(push).duplicate == (number <= 3)
        twin.push(push)
    one, other = resumed.pull(), twin.pull()
    assert one.versions == other.versions
    assert all(torch.equal(one.values[name], value) for name, value in other.values.items())
    content[-1] ^= 1
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / NEWEST).write_bytes(content)
    with pytest.raises(CorruptSnapshot, match="does not match its checksum"):
        SnapshotFile(tmp_path / "damaged", layout, 0).load()
