"""Standings and their texts, against figures worked out by hand."""

import random
import statistics
from dataclasses import replace

import pytest

from cluster.compare.markdown_table import COVERAGE, markdown, table
from cluster.compare.page import page
from cluster.compare.plan import Limit, Plan, make_plan
from cluster.compare.search_result import ResultError, SearchResult
from cluster.compare.standings import DRAWS_SEED, Best, summarize
from cluster.config.recipes import RECIPES
from controller.statistics import Interval, bootstrap_draws, bootstrap_interval
from tests.cluster.compare.tables import made_result
from tests.cluster.report.well_formed import read_page

RESULTS = {
    "reinforce": [
        made_result(0, [0.5, None, 0.7, 0.6], [10, 5, 10, 25], [0.8, None, 0.6, 0.9]),
        made_result(1, [0.4, 0.9, 0.9], [20, 20, 10], [0.7, 0.5, 0.9]),
    ],
    "random": [
        made_result(0, [0.6, 0.6], [25, 25], [0.9, 0.7]),
        made_result(1, [0.5, 0.6, 0.55], [10, 5, 15], [0.6, 0.7, 0.8]),
    ],
}


def plan(limit: Limit, recipe: str = "nasbench201") -> Plan:
    return make_plan(recipe, RECIPES[recipe](), ["reinforce"], 2, limit)


def test_the_best_at_the_end_and_its_test_are_means_over_seeds() -> None:
    summary = summarize(plan(Limit(seconds=50.0)), RESULTS, Best(metric=0.95, test=0.99))
    ours, theirs = summary.standings
    assert (ours.label, ours.children, theirs.label, theirs.children) == ("reinforce", 3.5, "random", 2.5)
    assert ours.metric.at_end == Interval(pytest.approx(0.8), 0.7, 0.9)
    assert ours.metric.deviation == pytest.approx(statistics.stdev([0.7, 0.9]))
    assert ours.test is not None
    # The earlier of two equal children counts.
    assert ours.test.at_end == Interval(pytest.approx(0.55), 0.5, 0.6)
    assert ours.metric.regret == Interval(*(pytest.approx(v) for v in (0.15, 0.05, 0.25)))
    assert ours.metric.ahead == Interval(*(pytest.approx(v) for v in (0.2, 0.1, 0.3)))
    assert ours.test.ahead == Interval(*(pytest.approx(v) for v in (-0.25, -0.3, -0.2)))
    assert theirs.metric.ahead is None


def test_curves_hold_the_best_so_far_over_the_budget() -> None:
    seconds = summarize(plan(Limit(seconds=50.0)), RESULTS, None)
    curve = seconds.standings[0].metric.curve
    means = dict(zip(seconds.grid, (found and found.mean for found in curve), strict=True))
    assert (min(means), max(means), len(means)) == (5.0, 50.0, 101)
    for place, mean in means.items():
        first = 0.5 if place < 25 else 0.7
        second = 0.4 if place < 40 else 0.9
        assert mean == (pytest.approx((first + second) / 2) if place >= 20 else None), place
    children = summarize(plan(Limit(children=3)), RESULTS, None)
    assert children.grid == [1.0, 2.0, 3.0]
    assert [found and found.mean for found in children.standings[0].metric.curve] == [
        pytest.approx(v) for v in (0.45, 0.7, 0.8)
    ]
    assert children.standings[0].test is None  # only a table has test metrics


def test_the_lowest_perplexity_is_the_best() -> None:
    results = {
        "reinforce": [made_result(0, [90.0, 70.0, 80.0]), made_result(1, [60.0, 50.0, 55.0])],
        "random": [made_result(0, [75.0, 95.0, 85.0]), made_result(1, [65.0, 66.0, 67.0])],
    }
    summary = summarize(plan(Limit(children=3), "text-rnn"), results, Best(metric=40.0, test=None))
    metric = summary.standings[0].metric
    assert metric.at_end == Interval(60.0, 50.0, 70.0)
    assert metric.ahead == Interval(10.0, 5.0, 15.0)
    assert metric.regret == Interval(20.0, 10.0, 30.0)
    assert "| reinforce | 3 | 60.0000 ± 14.1421 [50.0000, 70.0000] | 20.0000 |" in markdown(summary)


def test_a_search_without_a_metric_is_an_error() -> None:
    for empty in (made_result(1, [None, None]), made_result(1, [])):
        results = {**RESULTS, "random": [RESULTS["random"][0], empty]}
        with pytest.raises(ResultError, match="random with seed 1 has no child with a metric within its budget"):
            summarize(plan(Limit(children=2)), results, None)


@pytest.mark.parametrize("seeds", [2, 19, 20])
def test_few_seeds_come_with_a_note_on_narrow_intervals(seeds: int) -> None:
    compared = make_plan("synthetic", RECIPES["synthetic"](), ["random"], seeds, Limit(children=1))
    results = {"random": [made_result(seed, [seed / seeds]) for seed in range(seeds)]}
    summary = summarize(compared, results, None)
    note = "Share of them that contain the mean of normal values: 50% with 2 seeds, "
    for text in (markdown(summary), page(summary, now=0.0)):
        assert (note in text) == (seeds < 20)


@pytest.mark.parametrize(("seeds", "share"), COVERAGE.items())
def test_intervals_of_few_seeds_have_the_stated_coverage(seeds: int, share: float) -> None:
    rng, draws = random.Random(5), bootstrap_draws(seeds, DRAWS_SEED)
    intervals = [bootstrap_interval([rng.gauss(0, 1) for _ in range(seeds)], draws) for _ in range(1000)]
    assert sum(found.low <= 0 <= found.high for found in intervals) / 1000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("searcher", "note"),
    [
        (
            "evolution:population=100",
            "evolution:population=100: the first 100 children of a search, its population, are random; with"
            " population=4,tournament=2 it would begin to choose sooner. A search had 41.",
        ),
        ("evolution", ""),
        ("evolution:population=20,tournament=5", ""),
        (
            "evolution:population=21,tournament=14",
            "evolution:population=21,tournament=14: the first 21 children of a search, its population, are random; with"
            " population=4,tournament=3 it would begin to choose sooner. A search had 41.",
        ),
        ("reinforce", ""),
    ],
)
def test_evolution_with_too_few_children_comes_with_a_note(searcher: str, note: str) -> None:
    compared = make_plan("synthetic", RECIPES["synthetic"](), [searcher], 2, Limit(children=42))
    few = {label: [made_result(seed, [0.5] * (40 + 2 * seed)) for seed in (0, 1)] for label in (searcher, "random")}
    summary = summarize(compared, few, None)
    for text in (markdown(summary), page(summary, now=0.0)):
        assert ("its population" in text) == bool(note)
        assert note in text


def test_the_table_shows_accuracies_in_percent() -> None:
    summary = summarize(plan(Limit(seconds=50.0)), RESULTS, Best(metric=0.95, test=0.99))
    found = table(summary)
    assert list(found.head) == [
        "searcher", "children", "best validation accuracy, %", "regret", "its test accuracy, %", "regret",
        "test ahead of random",
    ]  # fmt: skip
    assert list(found.rows[0]) == [
        "reinforce", "3.5", "80.00 ± 14.14 [70.00, 90.00]", "15.00", "55.00 ± 7.07 [50.00, 60.00]", "44.00",
        "-25.00 [-30.00, -20.00]",
    ]  # fmt: skip
    assert found.rows[1][-1] == ""
    text = markdown(summary)
    assert text.startswith("# nasbench201, 50 s for each search, seeds 0 to 1\n\n| searcher |")
    assert "95.00 % validation accuracy, 99.00 % test accuracy" in text


def test_a_budget_in_seconds_notes_how_many_times_are_measured() -> None:
    note = "The table's training times are measured for 1,000 of its 15,625 architectures and estimated for the others."
    best = Best(metric=0.95, test=0.99, measured=1000, known=15_625)
    seconds, children = plan(Limit(seconds=50.0)), plan(Limit(children=2))
    assert note in markdown(summarize(seconds, RESULTS, best)).splitlines()
    assert note in read_page(page(summarize(seconds, RESULTS, best), now=0.0)).words
    assert "estimated" not in markdown(summarize(children, RESULTS, best))
    assert "estimated" not in markdown(summarize(seconds, RESULTS, replace(best, measured=15_625)))
    assert "estimated" not in markdown(summarize(plan(Limit(children=2), "synthetic"), RESULTS, None))


def test_a_task_without_a_table_has_no_regret_and_no_test() -> None:
    results = {label: [replace(r, tests=(None,) * len(r.tests)) for r in found] for label, found in RESULTS.items()}
    summary = summarize(plan(Limit(children=4), "synthetic"), results, None)
    assert list(table(summary).head) == ["searcher", "children", "best score", "ahead of random"]
    assert "egret" not in markdown(summary)


def test_the_page_has_table_curves_bands_and_settings() -> None:
    compared = make_plan("nasbench201", RECIPES["nasbench201"](), ["reinforce:children=2"], 2, Limit(seconds=50.0))
    results = {"reinforce:children=2": RESULTS["reinforce"], "random": RESULTS["random"]}
    text = page(summarize(compared, results, Best(metric=0.95, test=0.99)), now=0.0)
    found = read_page(text)
    assert "80.00 ± 14.14 [70.00, 90.00]" in found.words
    for style in ("spread s0", "spread s1", "curve s0", "curve s1", "curve level"):
        drawn = [attributes for attributes in found.named("path") if attributes.get("class") == style]
        assert len(drawn) == 2, style  # validation and test
    assert "--children 2" in found.words
    assert "--children 4" in found.words
    assert "1970-01-01" in found.words
    assert not found.named("script")


def test_many_searchers_have_lines_of_their_own_and_one_that_is_far_from_all_is_named_instead() -> None:
    words = [f"reinforce:children={children}" for children in range(2, 9)]
    compared = make_plan("nasbench201", RECIPES["nasbench201"](), words, 2, Limit(seconds=50.0))

    def results(accuracy: float) -> list[SearchResult]:
        return [made_result(seed, [accuracy + seed / 100, accuracy], [10, 20], [None, None]) for seed in range(2)]

    found = {word: results(0.9 + place / 100) for place, word in enumerate([*words, "random"])}
    curves = classes(page(summarize(compared, found, None), now=0.0), "curve")
    assert len(curves) == len(set(curves)) == 8
    text = page(summarize(compared, found | {words[3]: results(0.1)}, None), now=0.0)
    assert curves[3] not in classes(text, "curve")
    assert len(classes(text, "curve")) == 7
    assert f"not drawn, because far from the others: {words[3]} (10.50)" in read_page(text).words


def classes(text: str, kind: str) -> list[str]:
    """Return the classes of a page's paths of one kind."""
    found = [str(attributes.get("class")) for attributes in read_page(text).named("path")]
    return [one for one in found if one.startswith(f"{kind} ")]
