"""The control experiment with max and sin: how often they are chosen, and a short search that is kept."""

import math
from dataclasses import replace
from pathlib import Path

from benchmarks.max_and_sin import LAST, SEARCH, SPACES, Found, choices, found, shares, table

LARGE = SPACES["with max and sin"]


def test_shares_are_those_of_the_combinations_and_of_the_activations() -> None:
    decisions = LARGE.decisions(0)
    none = (0,) * len(decisions)
    assert shares(LARGE, [none]) == (0.0, 0.0)
    every = tuple(len(choice.options) - 1 for choice in decisions)
    assert shares(LARGE, [every, none]) == (0.5, 0.5)
    assert shares(SPACES["the paper's functions"], [none]) == (0.0, 0.0)


def test_tables_have_a_row_for_each_space_and_for_each_function() -> None:
    one = Found(
        tops=(100.0, 110.0, 120.0),
        different=200,
        first=(0.3, 0.2),
        last=(0.5, 0.1),
        used=(2, 0),
        test=math.inf,
        seconds=60.0,
    )
    assert table({"with max and sin": [one]}).split("\n")[-1] == (
        "| with max and sin | 100.0 (100.0 to 100.0) | 110.0 (110.0 to 110.0) | 120.0 (120.0 to 120.0) | 200 |"
        " inf (inf to inf) | 60 |"
    )
    assert choices([one]).split("\n")[2:] == ["| max | 33% | 30% | 50% | 2 |", "| sin | 20% | 20% | 10% | 0 |"]


def test_a_search_and_its_last_training_are_not_done_again(tmp_path: Path) -> None:
    def again() -> Found:
        last = replace(LAST, epochs=1, train_fraction=0.01)
        return found("with max and sin", 1, tmp_path, count=2, search=(*SEARCH[:-1], "0.01"), last=last)

    first = again()
    assert first.different == 2
    assert 1 < first.tops[0] < math.inf
    assert 1 < first.test < math.inf
    stored = tmp_path / "with-max-and-sin-1.json"
    stored.write_text('{"test": 17.0}')
    assert again() == replace(first, test=17.0)
