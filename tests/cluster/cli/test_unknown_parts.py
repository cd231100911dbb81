"""Readers show a run that this version does not know in full, and say so; `resume` names what it refuses."""

import json
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Measure
from cluster.config import recipes
from cluster.config.known_config import UnknownParts, known_config
from cluster.config.run_config import RunConfig
from cluster.storage.ledger.graphs import pack, unpack
from cluster.storage.ledger.schema import VERSION
from cluster.storage.run_folder import RunFolder
from tests.cluster.compare.tables import made_up
from tests.command_line import nascluster

READERS = (
    ("status",),
    ("status", "--json"),
    ("status", "--watch"),
    ("best",),
    ("best", "--json"),
    ("failures",),
    ("failures", "--json"),
    ("logs",),
    ("report",),
    ("doctor",),
    ("doctor", "--json"),
)

LAUNCHED: Mapping[str, tuple[str, ...]] = {
    "synthetic": ("synthetic", "--child-faults", "diverged=0.3"),
    "table": ("nasbench201", "--searcher", "evolution"),
    "text": ("text-rnn", "--searcher", "random", "--epochs", "1", "--train-fraction", "0.01", "--hidden-size", "8"),
}

Text = dict[str, Any]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of finished runs, one of each of `LAUNCHED`."""
    folder = tmp_path_factory.mktemp("runs")
    table = made_up(tmp_path_factory.mktemp("table"))
    for name, words in LAUNCHED.items():
        data = ("--data", table) if name == "table" else ()
        assert nascluster("launch", *words, *data, "--local", "--max-children", 3, "--name", name, *at(folder)) == 0
    return folder


def at(storage: Path) -> tuple[str, str]:
    return ("--storage-path", str(storage))


def read(capfd: pytest.CaptureFixture[str], storage: Path, name: str, *command: str) -> tuple[int, str]:
    """The exit status and everything that a command prints."""
    status = nascluster(command[0], name, *command[1:], *at(storage))
    printed = capfd.readouterr()
    return status, printed.out + printed.err


def says_so(text: str) -> bool:
    told = text.count("this version of nascluster does not know")
    listed = re.search(r'"unknown": \[\s*"', text) is not None
    own = 0 if listed else text.count("' cannot be loaded here (")
    return told + listed + own == 1


class Altered:
    """A run's configuration with other data in it until the block ends."""

    def __init__(self, storage: Path, name: str, data: Text) -> None:
        self._file, self._data = storage / name / "config.json", data

    def __enter__(self) -> None:
        self._before = self._file.read_text()
        self._file.write_text(json.dumps(self._data))

    def __exit__(self, *error: object) -> None:
        self._file.write_text(self._before)


UNKNOWN = (
    ("task.task", "of-another-version", "the task 'of-another-version'"),
    ("space", "of-another-version", "the space 'of-another-version'"),
    ("searcher", "of-another-version", "the searcher 'of-another-version'"),
    ("reward", "of-another-version", "the reward 'of-another-version'"),
    (
        "searcher",
        "gone.py:Searcher",
        "the searcher 'gone.py:Searcher' cannot be loaded here (there is no file",
    ),
    ("task.task", "gone_module:TASK", "the task 'gone_module:TASK' cannot be loaded here (there is no module"),
    ("version", 99, "the option `version`"),
    ("topology.helpers", 3, "the option `topology.helpers`"),
    ("searcher_options.temperature", 0.5, "the option `searcher_options.temperature`"),
    ("task.options.depth", None, "the option `task.options.depth`"),
    ("max_children", "many", "the value 'many' of `max_children`, which must be a whole number"),
    ("max_children", 0, "the value of `max_children` (`max_children` must be at least 1, got 0)"),
    ("topology.consistency", "eventual", "`topology.consistency`, which must be one of async, ssp, sync"),
    ("budget.epochs", True, "the value True of `budget.epochs`, which must be a whole number"),
    ("budget.momentum", 1.5, "the value of `budget` (`momentum` must be at least 0 and below 1, got 1.5)"),
    ("failures", [1], "the value [1] of `failures`, which must be an object"),
    ("task", "digits", "the value 'digits' of `task`, which must be an object"),
)
"""Places in a configuration, values there that this version does not know, and how they are named."""

RUNS = [
    *(("synthetic", *unknown) for unknown in UNKNOWN),
    *((name, *UNKNOWN[index]) for name in ("table", "text") for index in (0, 1, 6, 15)),
]


@pytest.mark.parametrize(("name", "place", "value", "named"), RUNS)
def test_readers_show_what_they_know_and_resume_names_the_rest(
    name: str, place: str, value: object, named: str, storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = json.loads((storage / name / "config.json").read_text())
    *parents, last = place.split(".")
    part = data
    for parent in parents:
        part = part[parent]
    part[last] = value
    with Altered(storage, name, data):
        for command in READERS if name == "synthetic" else (("status",), ("best",), ("report",)):
            status, text = read(capfd, storage, name, *command)
            assert status == 0, (command, text)
            assert says_so(text), (command, text)
        status, text = read(capfd, storage, name, "status")
        assert f"{name}: finished" in text
        assert named in text
        status, text = read(capfd, storage, name, "resume")
        assert status == 2
        assert named in text
        assert len(text.splitlines()) == 1


KeyPath = tuple[str, ...]


def mutations(data: Text, paths: Collection[KeyPath]) -> Iterator[tuple[str, Text]]:
    """Each of these keys removed, renamed, of another type, of an unknown value, and one more in each object."""

    def changed(path: tuple[str, ...], change: Any) -> Text:
        new = json.loads(json.dumps(data))
        part = new
        for key in path[:-1]:
            part = part[key]
        change(part, path[-1])
        return new

    for path, value in _paths(data):
        if path not in paths:
            continue
        place = ".".join(path)
        yield f"{place} removed", changed(path, lambda part, key: part.pop(key))
        yield f"{place} renamed", changed(path, lambda part, key: part.update({f"{key}_later": part.pop(key)}))
        for strange in ("strange", -(10**30), True, None, [None], {"a": {"b": 1}}):
            if strange != value:
                yield f"{place} = {strange}", changed(path, lambda part, key, v=strange: part.update({key: v}))
        if isinstance(value, dict):
            yield f"{place} with more", changed((*path, "added"), lambda part, key: part.update({key: [None]}))


def _paths(data: Text, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in data.items():
        yield (*above, key), value
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def own_paths() -> dict[str, set[KeyPath]]:
    """Return the keys that each recipe has and none before it: options of one class are tried once."""
    classes, own = set[tuple[str, KeyPath]](), dict[str, set[KeyPath]]()
    for recipe, make in recipes.RECIPES.items():
        config = make()
        class_of = {"task": config.task.task, "space_options": config.space, "searcher_options": config.searcher}
        new = {path: (class_of.get(path[0], ""), path) for path, _ in _paths(config.to_json())}
        own[recipe] = {path for path, key in new.items() if key not in classes}
        classes |= set(new.values())
    return own


@pytest.mark.parametrize(("recipe", "paths"), [pytest.param(*item, id=item[0]) for item in own_paths().items()])
def test_no_configuration_whatever_is_in_it_stops_a_reader(recipe: str, paths: set[KeyPath]) -> None:
    whole = recipes.RECIPES[recipe]().to_json()
    assert known_config(whole).unknown == ()
    for what, data in mutations(whole, paths):
        known = known_config(data)
        assert known.config.max_children > 0, what
        assert known.measured_by(Measure.PERPLEXITY).measure, what
        if what.endswith((" renamed", " with more")):
            assert known.unknown, what
        if known.unknown:
            with pytest.raises(UnknownParts, match="this version of nascluster does not know"):
                RunConfig.from_json(data)
        else:
            assert RunConfig.from_json(data) == known.config, what


def test_a_configuration_that_is_nested_too_deeply_is_damaged(storage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = storage / "synthetic" / "config.json"
    before = file.read_text()
    try:
        file.write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
        status, text = read(capfd, storage, "synthetic", "status")
    finally:
        file.write_text(before)
    assert status == 2
    assert text.strip().endswith("config.json is damaged: it is nested too deeply")


@pytest.fixture
def copied(storage: Path, tmp_path: Path) -> RunFolder:
    """A copy of the synthetic run, whose ledger a test may change."""
    folder = RunFolder(tmp_path / "synthetic")
    folder.path.mkdir()
    for file in (storage / "synthetic").iterdir():
        if file.is_file():
            (folder.path / file.name).write_bytes(file.read_bytes())
    return folder


def change(folder: RunFolder, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(folder.ledger)) as db:
        db.execute(sql, values)
        db.commit()


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_ledger_of_a_newer_version_is_shown(
    command: tuple[str, ...], copied: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    change(copied, "ALTER TABLE children ADD COLUMN mood TEXT DEFAULT 'good'")
    change(copied, f"PRAGMA user_version = {VERSION + 1}")
    status, text = read(capfd, copied.path.parent, "synthetic", *command)
    assert status == 0
    assert says_so(text)
    assert f"the ledger's version {VERSION + 1}, only those up to {VERSION}" in text


def test_a_newer_ledger_is_not_resumed(copied: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    change(copied, f"PRAGMA user_version = {VERSION + 7}")
    status, text = read(capfd, copied.path.parent, "synthetic", "resume")
    assert status == 2
    assert text == (
        "nascluster: the run 'synthetic' cannot be resumed: this version of nascluster does not know the ledger's"
        f" version {VERSION + 7}, only those up to {VERSION}\n"
    )


def test_a_newer_ledger_without_a_table_that_is_read_is_refused_in_one_sentence(
    copied: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    change(copied, "ALTER TABLE children RENAME TO trials")
    change(copied, f"PRAGMA user_version = {VERSION + 1}")
    status, text = read(capfd, copied.path.parent, "synthetic", "status")
    assert status == 2
    assert f"has the ledger version {VERSION + 1}, but this nascluster knows up to {VERSION}: use a newer one" in text


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_an_operation_of_a_newer_version_does_not_hide_the_best_child(
    command: tuple[str, ...], copied: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(copied.ledger)) as db:
        graphs = db.execute("SELECT digest, graph FROM architectures").fetchall()
    for digest, graph in graphs:
        data = unpack(graph)
        data["nodes"][0]["op"] = "hyperconv"
        change(copied, "UPDATE architectures SET graph = ? WHERE digest = ?", pack(json.dumps(data)), digest)
    status, text = read(capfd, copied.path.parent, "synthetic", *command)
    assert status == 0
    assert "Traceback" not in text
    if command == ("best",):
        assert "Its network is not known to this version of nascluster: node 'layer1' has the unknown operation" in text
    if command == ("best", "--json"):
        assert json.loads(text)["architecture"]["nodes"][0]["op"] == "hyperconv"


def test_causes_and_verdicts_of_a_newer_version_are_shown_as_they_are(
    copied: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    change(copied, "UPDATE children SET state = 'failed', cause = 'melted', outcome = ?", OUTCOME)
    change(copied, "UPDATE attempts SET verdict = 'postponed', cause = 'melted', message = 'hot', outcome = ?", OUTCOME)
    for command in (*READERS, ("logs", "1")):
        status, text = read(capfd, copied.path.parent, "synthetic", *command)
        assert (status, "Traceback" in text) == (int(command[0] == "best"), False), (command, text)
    assert "melted, postponed" in read(capfd, copied.path.parent, "synthetic", "failures")[1]


OUTCOME = json.dumps(
    {
        "curve": [],
        "seconds": 1,
        "parameters": None,
        "flops": None,
        "seed": 1,
        "failure": {"cause": "melted", "message": "hot", "since": 3},
        "measure": "warmth",
        "of_a_later_version": [],
    }
)
