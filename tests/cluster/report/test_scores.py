"""Test scores of final trainings, in the report, in `status` and as data; nothing of them for a search."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Measure
from cluster.monitoring.final_scores import scores_text
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.storage.ledger.queries.final_tests import FinalTest, finished_networks, put_test
from cluster.storage.run_folder import RunFolder
from tests.cluster.report.ledgers import CONFIG, START, filled_run, ledger
from tests.cluster.report.well_formed import read_page
from tests.command_line import nascluster

NOW = START + 10_000_000


def look(child: int, metric: float | None, fault: str | None = None) -> FinalTest:
    return FinalTest(
        child_id=child, metric=metric, examples=360, weights=f"w{child}", tested_at=START + child, fault=fault
    )


def run_with_tests(storage: Path) -> tuple[RunFolder, list[str]]:
    """A run of which children 1 to 3 have looked at the test images, two of one network, and the networks' ids."""
    config = replace(CONFIG, task=replace(CONFIG.task, all_training=True))
    folder = filled_run(storage, 40, name="run-final", fails=0.0, config=config)
    with ledger(folder) as db:
        (first,) = db.execute("SELECT architecture_id FROM children WHERE id = 1").fetchone()
        db.execute("UPDATE children SET architecture_id = ? WHERE id = 2", (first,))
        for test in (look(1, 0.99), look(2, 0.97), look(3, None, "the network's outputs are not finite")):
            assert put_test(db, test)
        ids = [network.architecture_id for network in finished_networks(db)]
    return folder, [ids[0], ids[2]]


def test_the_report_has_a_table_of_the_networks(tmp_path: Path) -> None:
    folder, (first, other) = run_with_tests(tmp_path)
    facts = read_facts(folder, NOW)
    assert [(one.architecture_id, len(one.tests)) for one in facts.tested] == [(first, 2), (other, 1)]
    html = page(facts)
    read_page(html)
    assert 'href="#tests"' in html
    _, _, table = html.partition('id="tests"')
    table, _, _ = table.partition("</section>")
    assert f'<code>{first}</code></td><td class="number">0.9800 ± 0.0141</td>' in table
    assert "child 1: 0.9900, child 2: 0.9700" in table
    assert "child 3: the network&#x27;s outputs are not finite" in table
    assert "looked at the 360 test images once" in table
    assert "<b>0.9800</b><span>test accuracy, mean of 2 trainings</span>" in html
    assert "their validation accuracy says nothing of other images" in html
    assert "This run is that evaluation" in html


def test_the_status_has_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_with_tests(tmp_path)
    assert nascluster("status", "run-final", "--storage-path", tmp_path) == 0
    text = "test      accuracy 0.9800 ± 0.0141 of 2 trainings, from 0.9700 to 0.9900, 1 of 3 trainings without a score"
    assert text in capsys.readouterr().out
    assert nascluster("status", "run-final", "--storage-path", tmp_path, "--json") == 0
    tests = json.loads(capsys.readouterr().out)["tests"]
    assert [(one["child_id"], one["metric"], one["examples"]) for one in tests] == [
        (1, 0.99, 360),
        (2, 0.97, 360),
        (3, None, 360),
    ]


def test_a_search_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = filled_run(tmp_path, 40)
    assert 'id="tests"' not in page(read_facts(folder, NOW))
    assert nascluster("status", "run", "--storage-path", tmp_path, "--json") == 0
    assert "tests" not in json.loads(capsys.readouterr().out)


def test_words_for_one_and_for_none() -> None:
    assert scores_text(Measure.PERPLEXITY, [look(1, 81.25)]) == "perplexity 81.2500 of 1 training"
    assert scores_text(Measure.ACCURACY, [look(1, None, "gone")]) == "1 of 1 training without a score"
    assert scores_text(Measure.ACCURACY, []) == ""
