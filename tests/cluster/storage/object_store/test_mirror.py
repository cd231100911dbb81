"""A run copied out while it goes on, killed at every call of the object store, and restored."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any, BinaryIO

import pytest
from safetensors import safe_open

import cluster.storage.object_store.mirror
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.runners.local import run_locally
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.schema import RECORDED
from cluster.storage.object_store.ledger_segments import export
from cluster.storage.object_store.mirror import NUM_KEPT, Mirror
from cluster.storage.object_store.mirror_thread import MirrorThread
from cluster.storage.object_store.object_names import files, segments
from cluster.storage.object_store.restore import restore
from cluster.storage.object_store.store import Storage
from cluster.storage.run_folder import RunFolder
from controller.spaces.convolutional import ConvolutionalSpace

CONFIG = RunConfig(
    task=TaskOptions(task="synthetic"),
    topology=Topology(replicas=2, shards=2, children=2),
    space_options=ConvolutionalSpace(initial_depth=1),
    max_children=60,
)


AT_ONCE = 9
"""Steps in which a batch is sampled, trained and learnt from."""


class Died(Exception):
    """The machine is gone."""


class Objects:
    """Objects in a dictionary. The call `bad_call` fails before it has an effect or after it.

    `on_call` happens at every call, as the run goes on meanwhile.
    """

    def __init__(self, objects: dict[str, bytes] | None = None, bad_call: int = 0, *, after: bool = False) -> None:
        self.objects = {"config.json": json.dumps(CONFIG.to_json()).encode()} if objects is None else objects
        self.calls = 0
        self.on_call: Callable[[], object] = lambda: None
        self._bad_call = bad_call
        self._after = after

    def _call(self, effect: Callable[[], Any]) -> Any:
        self.calls += 1
        self.on_call()
        if self.calls == self._bad_call and not self._after:
            raise Died
        result = effect()
        if self.calls == self._bad_call:
            raise Died
        return result

    def read(self, name: str) -> bytes | None:
        return self._call(lambda: self.objects.get(name))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: content for name in names if (content := self.read(name)) is not None}

    def write(self, name: str, content: bytes) -> None:
        self._call(lambda: self.objects.__setitem__(name, content))

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        for name, content in contents.items():
            self.write(name, content)

    def write_file(self, name: str, file: BinaryIO) -> None:
        self._call(lambda: self.objects.__setitem__(name, file.read()))

    def create(self, name: str, content: bytes) -> bool:
        return self._call(lambda: self.objects.setdefault(name, content) is content)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._call(lambda name=name: self.objects.pop(name, None))

    def names(self, folder: str = "") -> list[str]:
        return self._call(lambda: sorted(name for name in self.objects if name.startswith(folder)))


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folder of a whole run as it was after each of its steps, each write to a ledger or a shard being one."""
    folder = RunFolder(tmp_path_factory.mktemp("script") / "run")
    folder.create(CONFIG)
    kept: list[Path] = []

    def keep() -> None:
        copy = folder.path.parent / f"state-{len(kept)}"
        copytree(folder.path, copy, ignore=lambda *_: ["ledger.sqlite-wal", "ledger.sqlite-shm"])
        with closing(sqlite3.connect(folder.ledger)) as live, closing(sqlite3.connect(copy / "ledger.sqlite")) as saved:
            live.backup(saved)
        kept.append(copy)

    class Kept(Ledger):
        """Keeps a state after each thing that is recorded."""

        def admit(self, *args: Any) -> Any:
            result = super().admit(*args)
            keep()
            return result

        def finish(self, *args: Any) -> Any:
            result = super().finish(*args)
            keep()
            return result

        def learned(self, *args: Any) -> None:
            keep()  # the push is on the shards, and the ledger does not know it
            super().learned(*args)
            keep()

    ledger = Kept(folder.ledger, CONFIG.seed, CONFIG.max_children, clock=lambda: 1000.0)
    ledger.begin(workers=1)
    run_locally(CONFIG, folder, ledger)
    ledger.close()
    return kept


class Live:
    """The folder of a run that goes through the states, one or some at each call of `go_on`."""

    def __init__(self, states: list[Path], path: Path, begin: int = 0) -> None:
        self.folder = RunFolder(path)
        self._states = states
        self.now = begin - 1
        self.go_on()

    def go_on(self, steps: int = 1) -> None:
        self.now = min(self.now + steps, len(self._states) - 1)
        rmtree(self.folder.path, ignore_errors=True)
        copytree(self._states[self.now], self.folder.path, copy_function=os.link)
        self.folder.checkpoints.mkdir()
        if self.now % 2:
            (self.folder.checkpoints / f"child-{self.now // 4}").write_text(str(self.now))


@pytest.fixture(autouse=True)
def goes_on(monkeypatch: pytest.MonkeyPatch) -> dict[str, Live]:
    """The run goes on between the reading of its files and of its ledger, too."""
    live: dict[str, Live] = {}

    def moving_export(folder: RunFolder, after: int | None) -> Any:
        if "run" in live:
            live["run"].go_on(AT_ONCE)
        result = export(folder, after)
        if "run" in live:
            live["run"].go_on(AT_ONCE)
        return result

    monkeypatch.setattr(cluster.storage.object_store.mirror, "export", moving_export)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # some thousand times
    return live


def record(folder: RunFolder) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(folder.ledger)) as db:
        return {table: db.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall() for table in RECORDED}


@cache
def record_of(state: Path) -> dict[str, list[tuple[Any, ...]]]:
    return record(RunFolder(state))


def applied(folder: RunFolder) -> dict[str, dict[int, int]]:
    """For each shard's file, the last push of each replica that is in it."""
    found = {}
    for path in folder.shards.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            clients = json.loads(file.metadata()["state"])["clients"]
        found[path.name] = {int(client.removeprefix("replica-")): entry[0] for client, entry in clients.items()}
    return found


def restored(objects: dict[str, bytes], path: Path) -> RunFolder:
    folder = RunFolder(path)
    rmtree(path, ignore_errors=True)
    restore(Objects(objects), folder, with_files=True)
    return folder


def check(folder: RunFolder, states: list[Path], least: int) -> int:
    """The ledger is that of a state, not before `least`; no shard is ahead of it. Gives the state's number."""
    found = record(folder)
    matching = [n for n, state in enumerate(states) if record_of(state) == found]
    assert matching, "the ledger is one that never was"
    assert matching[-1] >= least, "what an earlier round had written is lost"
    batches = {(row[1], row[2]) for row in found["batches"]}
    for name, clients in applied(folder).items():
        ahead = [(replica, n) for replica, last in clients.items() for n in range(1, last + 1)]
        assert batches.issuperset(ahead), f"{name} is ahead of the ledger"
    return matching[-1]


ROUNDS = 6


def mirror_of(storage: Storage, live: Live, start: int, **options: Any) -> Mirror:
    return Mirror(storage, live.folder, start, lambda: None, **options)


def rounds(storage: Objects, live: Live, start: int, reached: list[int], **options: Any) -> None:
    """Some rounds; what is certain after each is put into `reached`."""
    mirror = Mirror(storage, live.folder, start, lambda: None, **options)
    for _ in range(ROUNDS):
        before = live.now
        mirror.round()
        reached.append(before)


def calls(storage: Objects, live: Live, start: int = 1, **options: Any) -> int:
    """How many there are in the rounds of a start while the run goes on."""
    storage.on_call = live.go_on
    rounds(storage, live, start, [], **options)
    return storage.calls


@pytest.mark.parametrize("after", [False, True])
def test_a_run_survives_the_loss_of_the_machine_at_any_call(
    after: bool, states: list[Path], tmp_path: Path, goes_on: dict[str, Live]
) -> None:
    goes_on["run"] = Live(states, tmp_path / "run")
    total = calls(Objects(), goes_on["run"], merge_after=2)
    assert total > 30
    with_shards = 0
    for bad_call in range(1, total + 2):
        storage = Objects(bad_call=bad_call, after=after)
        live = goes_on["run"] = Live(states, tmp_path / "run")
        storage.on_call = live.go_on
        reached: list[int] = []
        with suppress(Died):
            rounds(storage, live, 1, reached, merge_after=2)
        folder = restored(storage.objects, tmp_path / "new")
        if reached:
            check(folder, states, reached[-1])
            with_shards += bool(applied(folder))
        elif folder.ledger.exists():
            check(folder, states, 0)
    assert with_shards > total / 2


@pytest.mark.parametrize("after", [False, True])
def test_a_run_survives_a_start_that_dies_at_any_call_of_its_first_rounds(
    after: bool, states: list[Path], tmp_path: Path, goes_on: dict[str, Live]
) -> None:
    first = Objects()
    begin = 10
    mirror_of(first, Live(states, tmp_path / "run", begin), 1).round()
    goes_on["run"] = Live(states, tmp_path / "run", begin)
    total = calls(Objects(dict(first.objects)), goes_on["run"], 2)
    assert total > 30
    for bad_call in range(1, total + 1):
        storage = Objects(dict(first.objects), bad_call, after=after)
        live = goes_on["run"] = Live(states, tmp_path / "run", begin)
        storage.on_call = live.go_on
        least = [begin]
        with suppress(Died):
            rounds(storage, live, 2, least)
            assert not [name for name in segments(storage.objects) if name.start == 1]
            assert not [name for name in files(storage.objects) if name.start == 1]
        check(restored(storage.objects, tmp_path / "new"), states, least[-1])


def test_the_next_round_writes_what_a_failed_round_did_not(
    states: list[Path], tmp_path: Path, goes_on: dict[str, Live]
) -> None:
    """Each call fails once, and the process goes on."""
    goes_on["run"] = Live(states, tmp_path / "run")
    for bad_call in range(1, calls(Objects(), goes_on["run"]) + 1):
        storage = Objects(bad_call=bad_call, after=bool(bad_call % 2))
        live = goes_on["run"] = Live(states, tmp_path / "run")
        storage.on_call = live.go_on
        mirror = mirror_of(storage, live, 1)
        for _ in range(ROUNDS + 1):
            with suppress(Died):
                mirror.round()
        live.now = len(states)
        live.go_on()
        mirror.round()
        folder = restored(storage.objects, tmp_path / "new")
        assert check(folder, states, len(states) - 1) == len(states) - 1
        for path in live.folder.shards.glob("shard-???.safetensors"):
            assert (folder.shards / path.name).read_bytes() == path.read_bytes()
        assert applied(folder) == {
            path: clients for path, clients in applied(live.folder).items() if path in applied(folder)
        }
        assert {p.name for p in folder.checkpoints.glob("*")} == {p.name for p in live.folder.checkpoints.glob("*")}


def test_few_objects_are_kept_and_only_changes_are_written(states: list[Path], tmp_path: Path) -> None:
    storage = Objects()
    live = Live(states, tmp_path / "run")
    mirror = mirror_of(storage, live, 1, merge_after=3)
    for _ in range(12):
        mirror.round()
        live.go_on()
    assert len(segments(storage.objects)) <= 1 + 4 + 3
    copies = [(name.folder, name.file) for name in files(storage.objects)]
    of_shards = {("shards", f"shard-{n:03d}.{suffix}") for n in range(2) for suffix in ("order", "safetensors")}
    assert {key for key in copies if key[0] == "shards"} == of_shards
    assert max(copies.count(key) for key in copies) == NUM_KEPT
    mirror.round()
    before = dict(storage.objects)
    mirror.round()
    assert storage.objects == before


def test_a_shard_is_restored_only_as_far_as_the_ledger(
    states: list[Path], tmp_path: Path, goes_on: dict[str, Live]
) -> None:
    """Every suffix of the ledger torn away."""
    storage = Objects()
    live = goes_on["run"] = Live(states, tmp_path / "run")
    rounds(storage, live, 1, [])
    for name in reversed(segments(storage.objects)[1:]):
        storage.objects[str(name)] = storage.objects[str(name)][:-1]
        check(restored(storage.objects, tmp_path / "new"), states, 0)


def test_a_start_without_a_base_is_skipped_for_the_previous_one(states: list[Path], tmp_path: Path) -> None:
    storage = Objects()
    live = Live(states, tmp_path / "run", 4)
    mirror_of(storage, live, 1).round()
    storage.objects["ledger/000002/00000000.base.sqlite.gz"] = b"torn"
    storage.objects["shards/000002/00000000/shard-000.safetensors"] = b"not to be used"
    storage.objects["ledger/000001/.hidden"] = storage.objects["starts/000009.json"] = b"{}"
    folder = restored(storage.objects, tmp_path / "new")
    assert record(folder) == record(live.folder)
    assert applied(folder) == {k: v for k, v in applied(live.folder).items() if "previous" not in k}


def test_a_run_that_never_wrote_its_ledger_is_restored_to_its_configuration(tmp_path: Path) -> None:
    folder = restored(Objects().objects, tmp_path / "new")
    assert not folder.ledger.exists()
    assert folder.read_config() == CONFIG


@pytest.mark.parametrize("damage", [None, b"torn"])
def test_a_lost_base_is_not_mistaken_for_a_run_that_never_started(
    damage: bytes | None, states: list[Path], tmp_path: Path
) -> None:
    storage = Objects()
    live = Live(states, tmp_path / "run", 4)
    mirror = mirror_of(storage, live, 1)
    mirror.round()
    live.go_on()
    mirror.round()
    base = str(segments(storage.objects)[0])
    del storage.objects[base]
    if damage is not None:
        storage.objects[base] = damage
    with pytest.raises(RunFolderError, match=r"had begun, but its ledger is lost: the objects ledger/\*/\*.base"):
        restored(storage.objects, tmp_path / "new")


def test_a_driver_that_lost_its_lease_writes_nothing(states: list[Path], tmp_path: Path) -> None:
    class Replaced(Exception):
        pass

    def check() -> None:
        raise Replaced

    storage = Objects()
    with pytest.raises(Replaced):
        Mirror(storage, Live(states, tmp_path / "run").folder, 1, check).round()
    assert storage.calls == 0


def test_an_outage_is_reported_once_and_writes_are_made_up_for(states: list[Path], tmp_path: Path) -> None:
    storage = Objects()
    live = Live(states, tmp_path / "run")
    mirror = mirror_of(storage, live, 1)
    mirror.round()
    away = True
    said: list[str] = []

    def fail() -> None:
        if away:
            raise ConnectionError("no route to host")

    storage.on_call = fail
    thread = MirrorThread(mirror, "s3://bucket/run", lambda: False, said.append, interval_s=0.01)
    thread.start()
    live.now = len(states) - 2
    live.go_on()
    while storage.calls < 10:
        pass
    assert said == ["Writing to s3://bucket/run failed and will be retried until it works: no route to host"]
    away = False
    assert thread.finish()
    assert said[1:] == ["Writing to s3://bucket/run works again; everything has been uploaded"]
    storage.on_call = lambda: None
    assert record(restored(storage.objects, tmp_path / "new")) == record(live.folder)
