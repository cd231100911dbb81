"""The table and the page of a survey, from made-up results."""

import random

import pytest

from cluster.config.recipes import RECIPES
from cluster.survey.page import page
from cluster.survey.plan import Request, make_plan
from cluster.survey.standings import Summary, bounds, summarize
from cluster.survey.survey import cell_text
from cluster.survey.table import markdown, notes, percent, rows, text
from controller.space import first_tokens
from tests.cluster.report.well_formed import read_page
from tests.cluster.survey.results import made

PLAN = make_plan(Request(task="digits", budget_s=3.0, seeds=3, systems=("nas", "darts", "seed-agem", "eas")))


def summary() -> Summary:
    return summarize(
        PLAN,
        {
            "nas": [made("nas", seed, 0.9 + 0.01 * seed) for seed in (1, 2, 3)],
            "random-convolutional": [made("random-convolutional", seed, 0.9) for seed in (1, 2, 3)],
            "darts": [made("darts", 1, 0.8, fit="steps per epoch 5", scored=True), made("darts", 2, 0.82)],
            "random-darts": [made("random-darts", seed, 0.85) for seed in (1, 2, 3)],
            "seed-agem": [made("seed-agem", 1, 0.7, by_validation=True), made("seed-agem", 2, None)],
            "random-subnetworks": [made("random-subnetworks", seed, 0.7, by_validation=True) for seed in (1, 2)],
        },
    )


def test_each_system_is_beside_random_search_with_the_same_seeds() -> None:
    nas, darts, agem = summary().standings
    assert nas.accuracy is not None
    assert nas.accuracy.mean == pytest.approx(0.92)
    assert nas.differences == pytest.approx([0.01, 0.02, 0.03])
    assert darts.seeds == (1, 2)
    assert darts.differences == pytest.approx([-0.05, -0.03])
    assert agem.seeds == (1,)
    assert agem.ahead is not None
    assert agem.ahead.interval is None


def test_the_verdicts_name_who_wins_and_who_loses() -> None:
    assert summary().verdicts() == [
        "Ahead of random search with every seed: NAS.",
        "Behind it with every seed: DARTS.",
        "Neither: none.",
    ]


def test_the_table_has_what_was_measured_and_the_notes_what_was_not() -> None:
    found = rows(summary())
    assert found[0] == (
        *("NAS", "4", "3 s", "1,000", "92.00 [91.00, 93.00]", "90.00 [90.00, 90.00]"),
        *("+2.00 [+1.00, +3.00]", "3"),
    )
    assert found[2] == ("seed-agem *", "4", "3 s", "1,000", "70.00", "70.00", "+0.00", "1")
    said = "\n".join(notes(summary()))
    assert "seed-agem, seed 2: its winner has no accuracy (diverged)." in said
    assert "Not measured yet: EAS." in said
    assert "DARTS: steps per epoch 5." in said
    assert "NEAT: it evolves" in said
    assert "3.65 % error, 37.4 M parameters (Zoph & Le 2017, arXiv 1611.01578)" in markdown(summary())
    assert "seed-agem *" in text(summary())


def test_systems_without_an_accuracy_for_the_same_reason_share_a_sentence() -> None:
    plan = make_plan(Request(task="digits", budget_s=3.0, seeds=1, systems=("nas", "darts")))
    words = ("nas", "random-convolutional", "darts", "random-darts")
    lost = summarize(plan, {word: [made(word, 1, None)] for word in words})
    assert (
        "NAS, seed 1; DARTS, seed 1: its winner has no accuracy (diverged) and that of random search has no accuracy"
        " (diverged)."
    ) in notes(lost)


def test_a_search_that_has_ended_is_a_line() -> None:
    assert cell_text(made("nas", 2, children=1)) == (
        "nas, seed 2: 3 core-seconds, 1 child, best 75.00 % validation, retrained 90.00 % test with 1,000 parameters"
    )


def test_the_curves_are_of_the_seeds_that_count() -> None:
    curve = summary().curve("nas", (1, 2, 3))
    assert curve[0] is None
    assert [at and at.mean for at in (curve[20], curve[39], curve[40], curve[60])] == [0.5, 0.5, 0.75, 0.75]
    one = summary().curve("nas", (2,))
    assert one[60] is not None
    assert one[60].interval is None


def test_one_seed_has_no_interval() -> None:
    assert bounds([]) is None
    assert percent(bounds([0.5])) == "50.00"
    assert percent(None) == "-"


def test_the_page_shows_curves_winners_and_costs() -> None:
    found = summary()
    space = RECIPES["digits"]().search_space
    drawn = space.decode(first_tokens(space, 0, random.Random(1)))
    results = dict(found.results) | {"nas": [made("nas", 1, 0.9, architecture=drawn.to_json())]}
    html = page(summarize(PLAN, results), 0.0)
    assert "Written by nascluster survey" in read_page(html).words
    for words in (
        "DARTS (scores)",
        "random search",
        "<svg",
        "Survey: digits",
        "1970-01-01",
        "There is no picture of it",
    ):
        assert words in html
