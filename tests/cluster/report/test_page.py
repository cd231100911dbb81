"""The page: complete for every kind of run, fully escaped, and of bounded size."""

import io
import json
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.report.checklist import checklist
from cluster.report.html.markup import tag
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.runners.driver import execute
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.schema import TABLES
from cluster.storage.run_folder import RunFolder
from controller.spaces.recurrent import RecurrentSpace
from controller.stopping.options import StoppingOptions
from tests.cluster.report.ledgers import CONFIG, START, filled_run, ledger, new_run
from tests.cluster.report.well_formed import Read, read_page

NOW = START + 10_000_000


def read(folder: RunFolder, other: RunFolder | None = None) -> Read:
    return read_page(page(read_facts(folder, NOW, other)))


def version_1(storage: Path) -> RunFolder:
    """Make a run with a ledger of version 1: child 1 failed at its second attempt, child 2 was in training."""
    folder = new_run(storage)
    with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
        db.executescript(TABLES + "PRAGMA user_version = 1;")
        child = (
            "INSERT INTO children (id, replica, batch, tokens, architecture, architecture_id, seed, state, sampled_at,"
            " ended_at, completion, reward, cause, outcome) VALUES (?, 0, 1, '[]', '{}', '', 1, ?, 0, ?, ?, ?, ?, ?)"
        )
        failure = '{"failure": {"cause": "crashed", "message": "why"}}'
        db.execute(child, (1, "failed", 3, 1, 0.0, "crashed", failure))
        db.execute(child, (2, "running", None, None, None, None, None))
        attempts = [(1, 1, "a", "k1", 1, 2), (1, 2, "b", "k2", 1, 3), (2, 1, "c", "k3", 1, None)]
        db.executemany("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)", attempts)
    return folder


def one_sampled(storage: Path) -> RunFolder:
    folder = new_run(storage)
    with ledger(folder) as db:
        db.execute(
            "INSERT INTO children (id, replica, batch, tokens, graph, architecture_id, seed, state, sampled_at)"
            " VALUES (1, 0, 1, '[]', '', '', 1, 'sampled', 5.0)"
        )
    return folder


RUNS = {
    "no ledger": new_run,
    "one child sampled": one_sampled,
    "one child": lambda storage: filled_run(storage, 1, fails=0.0),
    "ten children": lambda storage: filled_run(storage, 10),
    "all failed": lambda storage: filled_run(storage, 30, fails=1.0),
    "version 1": version_1,
    "three thousand": lambda storage: filled_run(storage, 3000),
    "synthetic": lambda storage: filled_run(
        storage,
        20,
        config=replace(
            CONFIG.with_searcher("random"),
            task=TaskOptions(task="synthetic"),
        ),
    ),
}


@pytest.mark.parametrize("what", RUNS)
def test_the_page_of_every_kind_of_run_is_complete_and_self_contained(what: str, tmp_path: Path) -> None:
    found = read(RUNS[what](tmp_path))
    assert len(found.named("h2")) == 9
    assert not found.named("script")
    for name in ("nan", "None", "inf "):
        assert not re.search(rf"(?<![\w']){name}(?![\w'])", found.words), name
    for svg in found.named("svg"):
        assert svg["aria-label"]
        assert svg["role"] == "img"


def test_the_versions_are_those_of_the_run_not_of_this_process(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 3)
    assert "not in the ledger" in read(folder).words
    starts = [{"python": "3.11", "ray": "2.60.0", "torch": torch, "code": "abcdef"} for torch in ("0.13.7", "0.14.9")]
    with closing(sqlite3.connect(folder.ledger)) as db, db:
        db.execute("INSERT INTO run VALUES ('versions', ?)", (json.dumps(starts),))
    words = read(folder).words
    assert "0.13.7, then 0.14.9" in words
    assert "abcdef, then" not in words
    assert words.count("of the code abcdef ; say where to get it") == 2  # space and searcher, in the checklist
    assert "not in the ledger" not in words


NASTY = "<script>alert('1')</script>\"&amp;\n</td></table>"


def test_names_and_errors_are_text_and_never_elements(tmp_path: Path) -> None:
    name = "<script>alert(1)&\"'<img src=x>"
    folder = filled_run(tmp_path, 20, name=name, fails=0.5, message=f"Traceback\n{NASTY}\n<b>last & line</b>")
    other = filled_run(tmp_path, 20, name="<i>other")
    with ledger(folder) as db:
        db.execute("UPDATE run SET value = ? WHERE key = 'message'", (NASTY,))
    found = read(folder, other)
    assert not {"script", "b ", "img", "i "} & {tag for tag, _ in found.tags}
    assert name in found.words
    assert "<b>last & line</b>" in found.words
    assert "<i>other" in found.words
    assert " ".join(NASTY.split()) in found.words


@settings(max_examples=50)
@given(st.text(), st.text())
def test_any_text_comes_back_as_it_was(plain: str, attribute: str) -> None:
    seen: list[object] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, attrs))

        def handle_data(self, data: str) -> None:
            seen.append(data)

        def handle_endtag(self, tag: str) -> None:
            seen.append(f"/{tag}")

    reader = Reader()
    reader.feed(tag("p", plain, aria_label=attribute))
    reader.close()
    assert seen[0] == ("p", [("aria-label", attribute)])
    assert "".join(map(str, seen[1:-1])) == plain
    assert seen[-1] == "/p"


def test_the_headline_says_what_the_ledger_says(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 500)
    with closing(sqlite3.connect(folder.ledger)) as db:
        (best, child) = db.execute(
            "SELECT metric, id FROM children WHERE metric NOT NULL ORDER BY reward DESC, id"
        ).fetchone()
        (failed,) = db.execute("SELECT count(*) FROM children WHERE state = 'failed'").fetchone()
        (seconds,) = db.execute("SELECT sum(ended_at - started_at) FROM attempts").fetchone()
        (distinct,) = db.execute("SELECT count(DISTINCT architecture_id) FROM children").fetchone()
        (mean,) = db.execute("SELECT avg(reward) FROM children").fetchone()
    words = read(folder).words
    assert "500 of 200,000 children ended" in words
    assert f"{best:.4f} best validation accuracy (child {child}, " in words
    assert f"; {mean:.4f} of all" in words
    assert f"{failed} children failed (" in words
    assert f"{distinct} different architectures among 500 sampled" in words
    assert f"{seconds / 3600 / 2:,.2f} GPU-hours" in words
    assert f"{seconds / 3600:,.3f} h in " in words
    assert f"{best:.4f}, reward" in words


def test_what_differs_from_the_defaults_comes_before_all_options(tmp_path: Path) -> None:
    words = read(filled_run(tmp_path, 10)).words
    _, _, options = words.partition("What differs from the defaults")
    differing, _, every = options.partition(" options ")
    assert "gpus-per-child 0.5" in differing
    assert "weight-decay" not in differing
    assert "weight-decay 0.0001" in every
    assert "controller-learning-rate" in every


def test_another_run_is_plotted_too_and_answers_the_checklist(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 40)
    other = filled_run(tmp_path, 30, name="other", config=CONFIG.with_searcher("random"))
    alone, both = read(folder), read(folder, other)
    assert len(alone.classed("curve")) + 8 == len(both.classed("curve"))  # two lines in each of four plots
    assert "best so far, other" in both.words
    assert "best so far, other" not in alone.words
    random = "Comparison with random search"
    assert f"○ open {random}" in alone.words
    assert f"✓ yes {random} With the run 'other' (random)." in both.words
    easier = replace(CONFIG.with_searcher("random"), task=TaskOptions(task="fashion-mnist"))
    unlike = read(filled_run(tmp_path, 30, name="easier", config=easier), folder)
    assert f"○ open {random} With the run 'run' (reinforce), but that has another task." in unlike.words
    early = replace(CONFIG.with_searcher("random"), stopping=StoppingOptions(early_stop="median", stop_min_epochs=1))
    unlike = read(folder, filled_run(tmp_path, 30, name="early", config=early))
    assert f"○ open {random} With the run 'early' (random), but that has another early stopping." in unlike.words
    assert f"○ open {random} This is random search: name it in" in read(other).words


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"task": TaskOptions(task="fashion-mnist")}, "another task:"),
        ({"task": TaskOptions(task="digits", data="/elsewhere")}, "another data folder:"),
        ({"space_options": replace(CONFIG.space_options, num_filters=(8,))}, "another search space:"),
        ({"budget": Budget(epochs=1, train_fraction=0.1)}, "another budget:"),
        (
            {"task": TaskOptions(task="cifar10", data="/cifar"), "budget": Budget(epochs=1)},
            "another task, another data folder and another budget:",
        ),
        ({"task": TaskOptions(task="digits"), "seed": 9}, None),
    ],
)
def test_curves_that_cannot_be_compared_are_said_to_be_so(
    change: dict[str, Any], what: str | None, tmp_path: Path
) -> None:
    folder = filled_run(tmp_path, 30)
    words = read(folder, filled_run(tmp_path, 30, name="other", config=replace(CONFIG, **change))).words
    warning = "a difference between their curves says nothing about the searchers"
    assert (warning in words) == (what is not None)
    assert what is None or f"The run other has {what} the two runs are drawn in one plot" in words


def test_a_run_without_a_finished_child_is_not_shown_as_a_success(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 5, fails=1.0)
    assert [badge["class"] for badge in read(folder).classed("badge")] == ["badge failed"]


def test_the_checklist_leaves_open_what_a_run_cannot_know(tmp_path: Path) -> None:
    items = [i for group in checklist(read_facts(filled_run(tmp_path, 10), NOW)).values() for i in group]
    assert len(items) == 16
    assert {i.answer for i in items if "final" in i.practice or "tuned" in i.practice} == {"open"}
    assert {
        i.answer for i in items if i.practice.startswith(("Hyperparameters and seeds of the m", "Performance"))
    } == {"yes"}


def test_the_page_of_100_000_children_is_small_and_built_in_seconds(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 100_000)
    begun = time.process_time()
    written = page(read_facts(folder, NOW))
    assert time.process_time() - begun < 20  # some four seconds; the machine may be slow
    assert len(written.encode()) < 3e6
    found = read_page(written)
    assert len(found.tags) < 15_000
    assert "100,000 of 200,000 children ended" in found.words


def test_only_a_watched_page_of_a_running_search_refreshes_itself(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 10)
    assert not read_page(page(read_facts(folder, NOW), watched=True)).named("script")
    with ledger(folder) as db:
        db.execute("UPDATE run SET value = 'running' WHERE key = 'state'")
    with folder.held():
        facts = read_facts(folder, NOW)
    assert not read_page(page(facts)).named("script")
    found = read_page(page(facts, watched=True))
    assert len(found.named("script")) == 1
    assert [m for m in found.named("meta") if m.get("http-equiv") == "refresh"]


def test_nodes_of_cells_are_numbered_as_their_indices(tmp_path: Path) -> None:
    config = RunConfig(
        local=True,
        space="recurrent",
        space_options=RecurrentSpace(base=2),
        max_children=8,
        task=TaskOptions(task="synthetic"),
        topology=Topology(replicas=1, shards=1, children=4),
    )
    folder = run_folder(tmp_path, "cells")
    execute(config, folder, Console(file=io.StringIO()))
    found = read(folder)
    labels = [svg["aria-label"] or "" for svg in found.named("svg")]
    places = {label.partition(",")[0] for label in labels if "in the last window" in label}
    assert places == {"node 0", "node 1", "node 2", "the whole cell"}
    assert "layer 1" not in found.words
    assert any(label.startswith("A recurrent cell: next h is ") for label in labels)


@pytest.mark.parametrize(("outcome", "gpus"), [({}, 0.0), ({"gpu_bytes": 5}, 1.0)])
def test_an_unset_number_of_gpus_is_derived_from_finished_children(
    outcome: dict[str, int], gpus: float, tmp_path: Path
) -> None:
    config = replace(CONFIG, topology=replace(CONFIG.topology, gpus_per_child=None))
    empty = new_run(tmp_path, "empty", config)
    with ledger(empty):
        pass
    assert read_facts(empty, NOW).gpus_per_child is None
    folder = filled_run(tmp_path, 20, config=config)
    with ledger(folder) as db:
        text = json.dumps({"curve": [], **outcome})
        db.execute("UPDATE children SET outcome = ? WHERE state = 'finished' AND id > 10", (text,))
    assert read_facts(folder, NOW).gpus_per_child == gpus
