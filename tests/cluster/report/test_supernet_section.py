"""What a report shows of a supernet: its training, the strengths of its options, and the cell of each epoch."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Score, Steps
from cluster.config.recipes import RECIPES
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.report.supernet_section import MAX_COLUMNS, supernet_section
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from controller.searchers.weight_sharing.gradient_search import STRENGTHS
from controller.searchers.weight_sharing.option_names import option_names
from controller.spaces import darts
from tests.cluster.report.ledgers import filled_run
from tests.cluster.report.well_formed import read_page

NAMES = option_names(darts.DIGITS.supernet())
MADE = Outcome(curve=(), seconds=1.0, parameters=None, flops=None, seed=1)
TRAFFIC = {"pulls": 10, "pulled_bytes": 4_000_000, "pushes": 10, "pushed_bytes": 2_000_000, "staleness": 1.5}


def searched(storage: Path, epochs: int) -> RunFolder:
    """A search by DARTS of which each epoch took 10 s; from the second on it favours another edge a little more."""
    config = replace(RECIPES["darts-digits"](), name="run", max_children=100)
    folder = run_folder(storage, "run")
    folder.create(config)
    now = 1000.0
    ledger = Ledger(folder.ledger, 0, config.max_children, lambda: now)
    ledger.begin(workers=1)
    for epoch in range(epochs):
        strengths = {gate: [0.0, 1.0, 0.0, 0.5, 0.0] for gate in NAMES}
        strengths["normal.0-2"] = [0.0, 0.0, 0.1 * epoch, 0.05, 0.0]
        tokens = darts.DIGITS.derive(strengths)
        steps = Proposal(tokens=(), architecture=None, job=Steps(objective="darts", count=10))
        score = Proposal(
            tokens=tokens, architecture=darts.DIGITS.decode(tokens), notes={STRENGTHS: strengths}, job=Score()
        )
        ledger.admit(0, 2 * epoch + 1, [steps], ())
        now += 10
        measured = {"loss": 2.0 - 0.5 * epoch, "accuracy": 0.5, **TRAFFIC}
        ledger.finish(2 * epoch + 1, replace(MADE, measurements=measured), None)
        ledger.admit(0, 2 * epoch + 2, [score], ())
        ledger.finish(2 * epoch + 2, replace(MADE, curve=(0.25,)), 0.25)
    ledger.end("finished")
    ledger.close()
    return folder


def test_the_training_the_strengths_and_the_derived_cells_are_shown(tmp_path: Path) -> None:
    facts = read_facts(searched(tmp_path, 3), 1100.0)
    assert [one.loss for one in facts.supernet if one.loss is not None] == [2.0, 1.5, 1.0]
    assert [one.path_metric for one in facts.supernet if one.loss is None] == [0.25] * 3
    assert [one.moved_bytes for one in facts.supernet if one.loss is not None] == [6e6] * 3
    assert "The supernet 30 steps of training, of weights on 1 shard, async." in read_page(page(facts)).words
    section = supernet_section(facts)
    for title in ("Training loss", "Accuracy", "Staleness of steps", "Pulled and pushed", "Pulls and pushes"):
        assert f"<b>{title}</b>" in section
    assert section.count('class="small"') == len(NAMES) == 18
    assert "normal.0-2, in the last epoch: none: 19 %, max_3x3: 19 %, identity: 23 %" in section
    assert re.findall(r"Epoch (\d), child (\d)", section) == [
        ("1", "2"),
        ("3", "6"),
    ]  # the first and the last are drawn


def test_scores_that_are_perplexities_are_called_so_in_a_chart_of_their_own(tmp_path: Path) -> None:
    facts = read_facts(searched(tmp_path, 3), 1100.0)
    section = supernet_section(replace(facts, config=RECIPES["darts-rnn"]()))
    assert "<b>Validation perplexity</b>" in section
    assert "<b>Training accuracy</b>" in section
    assert "<b>Accuracy</b>" not in section


def test_sampled_options_are_those_of_children_with_an_architecture(tmp_path: Path) -> None:
    """Children that make steps have no part in the windows."""
    facts = read_facts(searched(tmp_path, 16), 1100.0)
    assert {len(preference.shares) for preference in facts.preferences} == {2}
    assert all(None not in preference.shares for preference in facts.preferences)


def test_what_the_epoch_before_had_not_is_marked(tmp_path: Path) -> None:
    section = supernet_section(read_facts(searched(tmp_path, 3), 1100.0))
    rows = re.findall(r"<tr>(.*?)</tr>", section.partition("<tbody>")[2])
    marked = [re.findall(r"<mark>(.*?)</mark>", row) for row in rows]
    assert marked == [[], ["0-2 identity"], []]
    assert "<b>normal: </b><span>0-2 sep_3x3</span>, <span>1-2 max_3x3</span>" in rows[0]


def test_many_epochs_are_thinned_and_the_last_is_shown(tmp_path: Path) -> None:
    facts = read_facts(searched(tmp_path, 40), 2000.0)
    section = supernet_section(facts)
    assert f"From left to right the {MAX_COLUMNS} architectures of 40 that" in section
    assert "All 40 epochs" in section and "Epoch 40, child 80" in section
    assert len(page(facts)) < 500_000


@pytest.mark.parametrize("children", [0, 5])
def test_a_search_without_shared_weights_has_no_such_section(tmp_path: Path, children: int) -> None:
    facts = read_facts(filled_run(tmp_path, children), 2e6)
    assert supernet_section(facts) == ""
    assert "upernet" not in page(facts)
