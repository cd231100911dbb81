"""What the recipes set, and why it matters."""

import pytest

from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES, configuration


@pytest.mark.parametrize("name", RECIPES)
def test_reinforce_on_a_table_has_an_entropy_bonus(name: str) -> None:
    """Without one it settles on a few networks; trained children are too few and too slow for that to matter."""
    config = RECIPES[name]()
    if config.searcher == "reinforce":
        assert (config.searcher_options.entropy_bonus == 0.001) == (config.task.entry.family == "table")


@pytest.mark.parametrize("searcher", ["one-shot", "enas", "darts", "snas"])
def test_nasbench201s_supernet_has_a_size_for_each_searcher(searcher: str) -> None:
    """So that `--searcher darts` is a command that ends, and not a recipe of one searcher with another's defaults."""
    recipe = RECIPES["nasbench201-supernet"]
    config = parse_run(configuration(recipe, searcher), ["--searcher", searcher], "nasbench201-supernet")
    assert config == recipe(searcher=searcher)
    assert config.searcher == searcher
    assert config.searcher_options != config.searcher_entry.options()
    assert config.searcher_options.for_children(config.max_children) == config.searcher_options


def test_another_searcher_has_its_own_defaults_there() -> None:
    base = configuration(RECIPES["nasbench201-supernet"], "smash")
    config = parse_run(base, ["--searcher", "smash", "--max-children", "900"], "nasbench201-supernet")
    assert config.searcher_options == config.searcher_entry.options()
    assert configuration(RECIPES["nasbench201-supernet"], None) == RECIPES["nasbench201-supernet"]()
    assert configuration(RECIPES["digits"], "evolution") == RECIPES["digits"]()
