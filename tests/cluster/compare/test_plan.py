"""Plans of comparisons, and the input that they refuse."""

import re
from dataclasses import replace

import pytest

from cluster.compare.plan import Limit, make_entrant, make_plan, max_children_within, parse_limit
from cluster.config.recipes import RECIPES
from controller.catalogue import SEARCHERS

BASE = replace(RECIPES["synthetic"](), local=True, seed=7)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("500", Limit(children=500)), ("12000s", Limit(seconds=12000.0)), ("1.5h", Limit(seconds=5400.0))],
)
def test_a_budget_is_children_or_a_time_with_its_unit(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["", "0", "-3", "1.5", "5x", "s", "-2h", "nans", "infs", "1e3", "٣", "9" * 30])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`budget` must be .* such as .*, got '"):
        parse_limit(text)


def test_budgets_are_formatted_with_their_unit() -> None:
    assert (str(Limit(children=1500)), str(Limit(seconds=12000.0))) == ("1,500 children", "12,000 s")
    assert str(Limit(seconds=0.5)) == "0.5 s"


def test_random_search_is_always_included() -> None:
    words = ["reinforce", "evolution"]
    assert [e.label for e in make_plan("synthetic", BASE, words, 2, Limit(children=9)).entrants] == [*words, "random"]
    named = make_plan("synthetic", BASE, ["random:children=2", "reinforce"], 2, Limit(children=9))
    assert [e.label for e in named.entrants] == ["random:children=2", "reinforce"]
    assert named.baseline.label == "random:children=2"


def test_seeds_count_from_the_runs_seed_and_all_share_the_budget() -> None:
    plan = make_plan("synthetic", BASE, ["reinforce"], 3, Limit(children=9))
    assert list(plan.seeds) == [7, 8, 9]
    assert {entrant.config.max_children for entrant in plan.entrants} == {9}


def test_a_searcher_sets_its_own_options_and_shares_the_rest() -> None:
    entrant = make_entrant("reinforce:entropy-bonus=0.1,controller_units=7,replicas=5,reward=accuracy", BASE, "digits")
    assert entrant.config.searcher_options.entropy_bonus == 0.1
    assert (entrant.config.searcher_options.controller_units, entrant.config.topology.replicas) == (7, 5)
    assert entrant.config.searcher_options.controller_learning_rate == BASE.searcher_options.controller_learning_rate
    assert entrant.config.task == BASE.task
    assert make_entrant("local-search:random-starts=3", BASE, "digits").config.searcher_options.random_starts == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["foo"], f"unknown searcher 'foo'; there are {', '.join(SEARCHERS)}"),
        (["evolutoin"], "did you mean 'evolution'?"),
        (["reinforce:entropy-bonu=1"], "'reinforce:entropy-bonu=1': .*--entropy-bonu"),
        (["reinforce:children=0"], "'reinforce:children=0': .*`children` must be at least 1, got 0"),
        (["reinforce:children"], "must be SEARCHER or SEARCHER:OPTION=VALUE,OPTION=VALUE, got 'children' in it"),
        (["reinforce:"], "must be SEARCHER or SEARCHER:OPTION=VALUE"),
        (["reinforce:children="], "must be SEARCHER or SEARCHER:OPTION=VALUE"),
        (["random:population=300"], "Unrecognized options: --population"),
        (["reinforce:epochs=3"], "sets `budget`, which all searchers share"),
        (["reinforce:seed=3"], "sets `seed`, which all searchers share"),
        (["reinforce:searcher=random"], "sets `searcher`, which all searchers share"),
        (["reinforce", "random", "reinforce"], "'reinforce' is named twice"),
        (["reinforce:entropy-bonus=0.1,entropy_bonus=0.2"], "sets `entropy-bonus` twice: set each option once"),
        (["reinforce:entropy-bonus=0.0", "reinforce"], "'reinforce:entropy-bonus=0.0' and 'reinforce' are the same"),
        (["evolution:population=3", "evolution: population = 3"], "are the same search: name it once, or with"),
        (["evolution:help=1"], "'evolution:help=1': Unrecognized options: --help"),
        (["evolution:populatoin=1"], "Unrecognized options: --populatoin; did you mean 'population'?"),
        (["random:target=seconds=1s,target=flops=1M"], "`target` has seconds, which is no objective"),
        (["evolution:h=1"], "'evolution:h=1': Unrecognized options: --h"),
        (["evolution:help-all=1"], "'evolution:help-all=1': Unrecognized options: --help-all"),
        (["evolution:tyro-print-completion=bash"], "Unrecognized options: --tyro-print-completion"),
        (["evolution:population=--help"], "'evolution:population=--help' has the flag `--help` in it"),
        (["evolution:population=-h"], "'evolution:population=-h' has the flag `-h` in it"),
        (["reinforce:entropy-bonus=0.1 --seed 5"], "has the flag `--seed` in it"),
    ],
)
def test_words_that_name_no_searcher_are_refused(words: list[str], message: str) -> None:
    pattern = message if ".*" in message else re.escape(message)
    with pytest.raises(ValueError, match=pattern):
        make_plan("synthetic", BASE, words, 2, Limit(children=9))


def test_those_that_join_leave_out_what_is_named() -> None:
    named = ["evolution", "reinforce:entropy-bonus=0.0"]
    plan = make_plan("synthetic", BASE, named, 2, Limit(children=9), joining=["reinforce", "evolution", "random"])
    assert [e.label for e in plan.entrants] == [*named, "random"]


@pytest.mark.parametrize("seeds", [-1, 0, 1, 100_001])
def test_one_seed_has_no_interval(seeds: int) -> None:
    with pytest.raises(ValueError, match="`seeds` must be 2 to 100,000, as an interval needs several"):
        make_plan("synthetic", BASE, ["reinforce"], seeds, Limit(children=9))


def test_a_budget_in_seconds_bounds_the_children_that_it_pays_for() -> None:
    assert max_children_within(10.0, 3.0) == 4
    with pytest.raises(ValueError, match="children that take time"):
        max_children_within(10.0, 0.0)
