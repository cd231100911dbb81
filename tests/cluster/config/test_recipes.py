"""What the recipes set, and why it matters."""

import pytest

from cluster.config.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_reinforce_on_a_table_has_an_entropy_bonus(name: str) -> None:
    """Without one it settles on a few networks; trained children are too few and too slow for that to matter."""
    config = RECIPES[name]()
    if config.searcher == "reinforce":
        assert (config.searcher_options.entropy_bonus == 0.001) == (config.task.entry.family == "table")
