"""`nascluster evaluate`: given architectures are trained once each, whatever happens in between."""

import io
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import nascluster as api
from child_trainer.architectures import nasbench201
from child_trainer.architectures.architecture import Architecture, node
from child_trainer.tasks.catalogue import load_table
from cluster.monitoring.status import read_status
from cluster.runners.evaluation.evaluate import _new_name
from cluster.runners.evaluation.submitted import submitted_objects
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.transactions import Transactions
from cluster.storage.run_folder import RunFolder
from controller.spaces.listed import ListedSpace
from tests.cluster.interrupts import interrupted_when_running
from tests.command_line import nascluster
from tests.lengths import FACTOR
from tests.real_data import real

NOR_CONV = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
"""A cell of NAS-Bench-201."""


def network(filters: int, op: str = "conv") -> dict[str, Any]:
    window = {"filters": filters, "height": 3, "width": 3}
    nodes = [{"name": "a", "op": op, "inputs": ["image"], "attributes": window}]
    return {"kind": "feedforward", "nodes": nodes, "outputs": ["a"]}


def identity(filters: int) -> str:
    return Architecture.from_json(network(filters)).id


def wide(units: int) -> dict[str, Any]:
    """Return a network that no image fits: a linear map reads no maps."""
    nodes = [{"name": "a", "op": "linear", "inputs": ["image"], "attributes": {"units": units}}]
    return {"kind": "feedforward", "nodes": nodes, "outputs": ["a"]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Evaluations:
    """Calls the command, as an outer loop does, and returns what it prints."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd, self._monkeypatch = capfd, monkeypatch
        self.error = ""

    def __call__(
        self,
        *words: object,
        status: int = 0,
        stdin: str | bytes = "",
        closed: bool = False,
        runs: object = "runs",
    ) -> list[dict[str, Any]]:
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        self._monkeypatch.setattr("sys.stdin", None if closed else io.TextIOWrapper(io.BytesIO(data)))
        self._capfd.readouterr()
        found = nascluster("evaluate", *words, "--name", "loop", "--storage-path", runs, "--local", "--json")
        out, self.error = self._capfd.readouterr()
        assert found == status, self.error
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def evaluate(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Evaluations:
    return Evaluations(capfd, monkeypatch)


def rows(query: str, runs: Path = Path("runs")) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(runs / "loop" / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


TRAINED = "SELECT child, count(*) FROM attempts GROUP BY child"
"""How often each child was trained."""


def test_each_is_trained_once_and_what_is_known_is_told(place: Path, evaluate: Evaluations) -> None:
    (place / "in").mkdir()
    (place / "in" / "a.json").write_text(json.dumps(network(4)))
    (place / "in" / "b.json").write_text(json.dumps([network(8), network(4), network(4, "cnov"), wide(3)]))
    (place / "in" / "c.json").write_text("nonsense")
    (place / "in" / "d.jsonl").write_text("\n".join([json.dumps({"architecture": network(5)}), "", "{bad", "7"]))
    found = evaluate("in", "missing.json", "--task", "digits", "--epochs", "1", "--train-fraction", "0.1")
    told = [(each["source"], each["status"], each["known"], each["child"], each["id"]) for each in found]
    assert told == [
        ("in/a.json", "finished", False, 1, identity(4)),
        ("in/b.json, number 1", "finished", False, 2, identity(8)),
        ("in/b.json, number 2", "finished", True, 1, identity(4)),
        ("in/b.json, number 3", "invalid", False, None, None),
        ("in/b.json, number 4", "invalid", False, None, None),
        ("in/c.json", "invalid", False, None, None),
        ("in/d.jsonl, line 1", "finished", False, 3, identity(5)),
        ("in/d.jsonl, line 3", "invalid", False, None, None),
        ("in/d.jsonl, line 4", "invalid", False, None, None),
        ("missing.json", "invalid", False, None, None),
    ]
    assert found[0]["parameters"] == 94 and 0 <= found[0]["metrics"]["accuracy"] <= 1
    assert found[2] == found[0] | {"source": "in/b.json, number 2", "known": True}
    faults = [each["failure"] for each in found if each["failure"]]
    assert faults[0].startswith("node 'a' has the unknown operation 'cnov'; the operations are add, ")
    assert "'a'" in faults[1]
    assert faults[2].startswith("it is no JSON (Expecting value: line 1 column 1 (char 0)): give an object with `kind`")
    assert faults[4] == "an architecture must be an object, got int"
    assert faults[5] == "the file cannot be read: No such file or directory"

    again = evaluate("in/a.json")  # the run's own task and budget
    assert again == [found[0] | {"known": True}]
    more = evaluate("-", stdin=json.dumps([network(8), network(6)]))
    assert [(each["known"], each["child"], each["source"]) for each in more] == [
        (True, 2, "standard input, number 1"),
        (False, 4, "standard input, number 2"),
    ]
    assert rows(TRAINED) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert rows("SELECT json_extract(notes, '$.source') FROM children WHERE id = 4") == [("standard input, number 2",)]
    for command in ("status", "best", "children", "doctor"):
        assert nascluster(command, "loop", "--storage-path", "runs") == 0
    assert nascluster("report", "loop", "--storage-path", "runs", "--output", place / "page.html") == 0
    assert nascluster("resume", "loop", "--storage-path", "runs") == 2  # it has finished


def test_failures_have_their_text_and_are_known_too(evaluate: Evaluations, place: Path) -> None:
    flags = ("--task", "digits", "--max-seconds", "0.000001", "--epochs", "50")
    first = evaluate("-", *flags, stdin=json.dumps(network(4)), status=1)
    assert [(each["status"], each["cause"], each["known"]) for each in first] == [("failed", "timeout", False)]
    assert first[0]["failure"]
    assert evaluate("-", *flags, stdin=json.dumps(network(4)), status=1) == [first[0] | {"known": True}]
    assert rows(TRAINED) == [(1, 1)]


def test_what_a_ceiling_leaves_is_pending_until_a_higher_one(evaluate: Evaluations, place: Path) -> None:
    (left,) = evaluate("-", *FLAGS, "--max-hours", "1e-12", stdin=json.dumps(network(4)), status=1)
    assert (left["status"], left["id"]) == ("pending", identity(4))
    assert left["failure"].startswith("it was not trained before the run has finished (its ceiling --max-hours is")
    assert left["failure"].endswith("a call with a higher `--max-hours` goes on")
    found = evaluate("-", "--max-hours", "1", stdin=json.dumps(network(5)))
    assert [each["status"] for each in found] == ["finished"]
    assert rows(TRAINED) == [(1, 1), (2, 1)]  # what was left, too


FLAGS = ("--task", "synthetic", "--child-seconds", "0.001")


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        ((), "", "name what to evaluate, before the flags: JSON files with architectures, a folder of them, or `-`"),
        (("empty",), "", "the folder empty has no file that ends in .json or .jsonl"),
        (("-",), json.dumps(network(4)), "name the task on which the architectures are to be trained, as in `--task"),
        (("-", *FLAGS, "--searcher", "random"), json.dumps(network(4)), "`searcher` of an evaluation follows from its"),
        (("-", *FLAGS, "--children", "3"), json.dumps(network(4)), "`children` of an evaluation follows from its"),
        (("-", *FLAGS, "--early-stop", "halving"), json.dumps(network(4)), "`early-stop` is for searches, and an"),
        (("-", *FLAGS, "--from-run", "x"), json.dumps(network(4)), "Unrecognized options: --from-run"),
        (("-", "--task", "nothing"), json.dumps(network(4)), "there is no task 'nothing'; the tasks are "),
        (("-", *FLAGS), "[]", "name at least one architecture: what was given has none"),
    ],
    ids=["nothing", "empty", "no-task", "searcher", "children", "early-stop", "from-run", "unknown-task", "empty-list"],
)
def test_what_cannot_be_done_is_said_in_one_sentence_before_anything_starts(
    words: tuple[str, ...], stdin: str, message: str, place: Path, evaluate: Evaluations
) -> None:
    (place / "empty").mkdir()
    assert evaluate(*words, stdin=stdin, status=2) == []
    assert message in evaluate.error
    assert not (place / "runs").exists()


def test_a_line_that_is_no_json_spoils_itself_only(tmp_path: Path) -> None:
    text = json.dumps(network(4))
    named = json.dumps(network(4)).replace('"a"', '"a\u2028\u0085"')
    for first in ("{bad", "Here are two networks:", "[1,", "\ud800"):
        found = submitted_objects("\n".join([first, "", text, named, "\r"]))
        assert [each.source[17:] for each in found] == [" line 1", " line 3", " line 4"]
        assert [each.architecture is None for each in found] == [True, False, False], found
    for document in (text[:-1], json.dumps([network(4)], indent=1)[:-1], "not\nJSON"):
        (only,) = submitted_objects(document)
        assert only.fault.startswith("it is no JSON (")
    (tmp_path / "a.jsonl").write_bytes(b"{bad\nworse\n" + text.encode() + b"\r\n\xff" + text.encode())
    faults = [each.fault[:20] for each in submitted_objects(tmp_path / "a.jsonl")]
    assert faults == ["it is no JSON (Expec", "it is no JSON (Expec", "", "it is not text in UT"]


def test_standard_input_is_read_once_as_files_are(place: Path, evaluate: Evaluations) -> None:
    text = json.dumps(network(4)).encode()
    found = evaluate("-", "-", *FLAGS, stdin=b"\xef\xbb\xbf" + text)
    assert [(each["status"], each["known"]) for each in found] == [("finished", False), ("finished", True)]
    (invalid,) = evaluate("-", stdin=b"\xff\xfe{}", status=2)
    assert invalid["failure"].startswith("it is not text in UTF-8: give an object with")
    assert evaluate("-", closed=True, status=2) == []
    assert "standard input cannot be read (it is closed): pipe JSON into the command" in evaluate.error


def test_what_is_known_is_told_after_a_start_that_died(place: Path, evaluate: Evaluations) -> None:
    (first,) = evaluate("-", *FLAGS, stdin=json.dumps(network(4)))
    folder = RunFolder(place / "runs" / "loop")
    ledger = Ledger(folder.ledger, 0, 1)
    ledger.begin(workers=1, versions={})
    ledger.close()
    run = api.Run("loop", storage_path="runs")
    assert run.status().state == "failed"
    assert evaluate("-", stdin=json.dumps(network(4))) == [first | {"known": True}]
    assert [each["status"] for each in evaluate("-", stdin="{}", status=2)] == ["invalid"]
    assert [each["known"] for each in run.evaluate(network(4), show=False)] == [True]


def test_a_run_that_fails_raises_with_what_is_known(place: Path) -> None:
    (place / "part.py").write_text("def judge(outcome):\n    return 1.0 / (outcome.seconds == 1.0)\n")  # as it is tried
    options: dict[str, Any] = {"task": "synthetic", "reward": "part.py:judge", "local": True, "storage_path": "runs"}
    named = "part.py:judge: `judge` failed: ZeroDivisionError: float division by zero"
    with pytest.raises(api.RunFailed, match=f"the run 'loop' has failed: {named}; ") as failed:
        api.evaluate([network(4), "nonsense"], name="loop", show=False, **options)
    assert [each["status"] for each in failed.value.results] == ["pending", "invalid"]


def test_ctrl_c_ends_a_loop_in_python_and_the_same_call_goes_on(place: Path) -> None:
    options: dict[str, Any] = {"task": "synthetic", "name": "loop", "local": True, "show": False}
    folder = RunFolder(place / "runs" / "loop")

    with (
        pytest.raises(KeyboardInterrupt, match="interrupted: what the run 'loop' has reached until then is there"),
        interrupted_when_running(folder),
    ):
        api.evaluate(network(4), child_seconds=60, storage_path="runs", **options)
    assert read_status(folder, time.time()).interrupted


def test_calls_without_a_name_have_a_run_each(place: Path) -> None:
    for _ in range(2):
        (found,) = api.evaluate(network(4), task="synthetic", storage_path="runs", local=True, show=False)
        assert not found["known"]
    assert len([path for path in Path("runs").iterdir() if path.name.startswith("evaluate-")]) == 2


def test_calls_without_a_name_in_several_threads_have_a_name_each(place: Path) -> None:
    """Also where all of them look for a free name before one has taken it."""
    together, names = threading.Barrier(4), list[str]()

    def call() -> None:
        together.wait()
        names.append(_new_name("runs"))
        together.wait()

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 4


def test_a_table_answers_for_what_it_has(place: Path, evaluate: Evaluations) -> None:
    data = real("nasbench201")
    cell = nasbench201.network(nasbench201.cell_from_name(NOR_CONV))
    (place / "cell.json").write_text(json.dumps(cell.to_json()))
    (place / "other.json").write_text(json.dumps(network(4)))
    found, other = evaluate("cell.json", "other.json", "--task", "nasbench201", "--data", data)
    answer = load_table("nasbench201", data=data).answer(cell)
    assert (found["status"], found["metrics"], found["seconds"]) == (
        "finished",
        {"accuracy": answer.metric},
        answer.seconds,
    )
    assert (other["id"], other["status"], other["cause"]) == (identity(4), "invalid", "invalid")
    assert "NAS-Bench-201" in other["failure"]
    (again,) = evaluate("cell.json")
    assert again["known"]


def test_a_folder_that_is_no_run_is_left_alone(place: Path, evaluate: Evaluations) -> None:
    (place / "runs" / "loop").mkdir(parents=True)
    evaluate("-", *FLAGS, stdin=json.dumps(network(4)), status=2)
    assert f"{place / 'runs' / 'loop'} exists and is no run: choose another --name" in evaluate.error


def test_where_all_are_invalid_there_is_no_run(place: Path, evaluate: Evaluations) -> None:
    cell = Architecture("recurrent", (node("next", "add", ("x", "h")),), ("next",)).to_json()
    found = evaluate("-", "--task", "digits", stdin=json.dumps([cell, {}]), status=2)
    assert [each["failure"] for each in found] == [
        "the task 'digits' trains feedforward architectures, got a recurrent one",
        "an architecture lacks `kind`",
    ]
    assert not (place / "runs").exists()


def test_a_run_keeps_its_task_and_budget_and_a_search_takes_no_more(place: Path, evaluate: Evaluations) -> None:
    evaluate("-", *FLAGS, stdin=json.dumps(network(4)))
    evaluate("-", "--task", "digits", stdin=json.dumps(network(5)), status=2)
    assert "the run 'loop' was begun with another task: give the same flags or none" in evaluate.error
    evaluate("-", "--epochs", "9", "--seed", "3", stdin=json.dumps(network(5)), status=2)
    assert "the run 'loop' was begun with another seed and budget" in evaluate.error
    evaluate("-", *FLAGS, "--max-attempts", "1", stdin=json.dumps(network(5)))
    assert rows(TRAINED) == [(1, 1), (2, 1)]
    shutil.rmtree("runs")
    assert nascluster("launch", "synthetic", "--local", "--name", "loop", "--storage-path", "runs", *SMALL) == 0
    evaluate("-", *FLAGS, stdin=json.dumps(network(4)), status=2)
    assert "the run 'loop' is a search, to which no architectures can be added" in evaluate.error


SMALL = ("--max-children", "2", "--searcher", "random", "--replicas", "1")


def test_of_two_calls_at_once_the_second_is_refused(place: Path, evaluate: Evaluations) -> None:
    evaluate("-", *FLAGS, stdin=json.dumps(network(4)))
    folder = RunFolder(place / "runs" / "loop")
    with folder.held():
        evaluate("-", stdin=json.dumps(network(5)), status=2)
        assert "another process drives the run 'loop'" in evaluate.error
        (known,) = evaluate("-", stdin=json.dumps(network(4)))
        assert known["known"]
    config = folder.read_config()
    space = config.search_space
    assert isinstance(space, ListedSpace)
    evaluate("-", stdin=json.dumps(network(5)))
    with pytest.raises(RunFolderError, match="another call has added architectures to the run 'loop' meanwhile"):
        folder.change_limits(config)  # as a call does that has read the run before the last one


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an evaluation's run as it was before each of its ledger's changes, and before all of them."""
    place = tmp_path_factory.mktemp("killed")
    count = 0

    def copying(self: Transactions) -> Any:
        nonlocal count
        with self.lock:
            count += 1
            shutil.copytree(place / "0" / "loop", place / str(count) / "loop")
        return original(self)

    original = Transactions.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transactions, "__call__", copying)
        found = api.evaluate(
            [network(4), network(5), network(6)], task="synthetic", child_seconds=0.001, name="loop", local=True,
            show=False, storage_path=place / "0",
        )  # fmt: skip
    assert [each["status"] for each in found] == ["finished"] * 3
    shutil.copytree(place / "1", place / str(count + 1))
    for file in (place / str(count + 1) / "loop").glob("ledger*"):
        file.unlink()
    yield place


def test_after_a_kill_at_any_change_the_same_call_goes_on_and_trains_nothing_twice(killed: Path) -> None:
    whole = rows("SELECT id, architecture_id, metric FROM children ORDER BY id", killed / "0")
    copies = sorted((path for path in killed.iterdir() if path.name != "0"), key=lambda path: int(path.name))
    assert len(copies) > 8
    for copy in copies if FACTOR > 1 else [*copies[::5], copies[-1]]:
        begun = (copy / "loop" / "ledger.sqlite").exists()
        ended = (
            rows("SELECT id, completion, ended_at FROM children WHERE completion IS NOT NULL", copy) if begun else []
        )
        given = [network(6), network(4), network(7), network(5)]
        found = api.evaluate(given, name="loop", show=False, storage_path=copy)
        assert [each["status"] for each in found] == ["finished"] * 4
        assert {each["child"] for each in found if each["known"]} == {child for child, *_ in ended}
        assert rows("SELECT id, architecture_id, metric FROM children WHERE id <= 3 ORDER BY id", copy) == whole
        assert rows("SELECT count(*) FROM children WHERE state = 'finished'", copy) == [(4,)]
        again = rows("SELECT id, completion, ended_at FROM children ORDER BY completion", copy)
        assert again[: len(ended)] == sorted(ended, key=lambda row: row[1])
        outcomes = rows("SELECT child, count(*) FROM attempts WHERE verdict = 'outcome' GROUP BY child", copy)
        assert outcomes == [(1, 1), (2, 1), (3, 1), (4, 1)]


def test_python_evaluates_as_the_command_does(place: Path) -> None:
    text = json.dumps(network(4))
    given = [Architecture.from_json(network(4)), network(5), text, "nonsense", 7]
    found = api.evaluate(given, task="synthetic", name="loop", storage_path="runs", local=True, show=False)
    assert [(each["status"], each["known"], each["source"]) for each in found] == [
        ("finished", False, "architectures[0]"),
        ("finished", False, "architectures[1]"),
        ("finished", True, "architectures[2]"),
        ("invalid", False, "architectures[3]"),
        ("invalid", False, "architectures[4]"),
    ]
    run = api.Run("loop", storage_path="runs")
    assert run.best is not None
    (known,) = run.evaluate(run.best, show=False)
    assert known["known"] and known["metrics"] == {"score": run.best.metric}
    with pytest.raises(ValueError, match="the run 'loop' was begun with another budget"):
        run.evaluate(network(6), epochs=7)
    for wrong, message in ((7, "give a list of architectures, got int"), ([], "name at least one architecture")):
        with pytest.raises(ValueError, match=message):
            run.evaluate(wrong)
    with pytest.raises(ValueError, match=r'as in `task="digits"`'):
        api.evaluate(network(4), storage_path="runs", name="other")
    with pytest.raises(ValueError, match="name at least one architecture"):
        api.evaluate("[]", task="synthetic")


def test_architectures_are_trained_as_the_children_of_a_search(place: Path) -> None:
    flags: dict[str, Any] = {"local": True, "show": False, "storage_path": "runs", "epochs": 3, "seed": 5}
    run = api.launch("synthetic", name="search", max_children=2, searcher="random", **flags)
    (found,) = run.evaluate(network(4), show=False)
    assert found["status"] == "finished"
    config = api.Run("search-evaluate", storage_path="runs").config
    assert (config.budget.epochs, config.seed, config.task.task, config.local) == (3, 5, "synthetic", True)
    (known,) = run.evaluate(network(4), show=False)
    assert known == found | {"known": True}

    shutil.rmtree("runs/search")
    run = api.launch("synthetic", name="search", max_children=2, searcher="random", **(flags | {"epochs": 4}))
    began = "the run 'search-evaluate' was begun with another budget than the search 'search' has"
    with pytest.raises(ValueError, match=f"{began}: give the flags with which it was begun, or another `name`"):
        run.evaluate(network(4), show=False)
    (known,) = run.evaluate(network(4), show=False, epochs=3)
    assert known["known"]
    (other,) = run.evaluate(network(4), show=False, name="again")
    assert not other["known"]


def test_a_folder_and_a_path_are_taken_in_python(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(network(4)))
    found = submitted_objects([tmp_path, str(tmp_path / "a.json"), tmp_path / "a.json"])
    assert [each.architecture and each.architecture.id for each in found] == [identity(4)] * 3


def test_a_run_in_an_object_store_takes_more_of_them(place: Path, evaluate: Evaluations, s3_url: str) -> None:
    evaluate("-", *FLAGS, stdin=json.dumps(network(4)), runs=s3_url)
    shutil.rmtree(Path.home() / "nascluster_runs" / ".remote", ignore_errors=True)
    found = evaluate("-", *FLAGS, stdin=json.dumps([network(4), network(5)]), runs=s3_url)
    assert [(each["known"], each["child"]) for each in found] == [(True, 1), (False, 2)]
