"""Options made in Python: a value of a wrong type is refused at once, by its field's name."""

from dataclasses import fields
from typing import Any

import pytest

from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from controller.catalogue import SEARCHERS
from controller.spaces.catalogue import SPACES

KINDS: dict[str, type[Any]] = {
    **{name: entry.options for name, entry in SEARCHERS.items() if fields(entry.options)},
    **{f"space {name}": entry.options for name, entry in SPACES.items() if fields(entry.options)},
    "budget": Budget,
    "regime": Regime,
    "language": LanguageOptions,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_value_of_a_wrong_type_is_refused_at_once(name: str) -> None:
    for field in fields(KINDS[name]):
        with pytest.raises(ValueError, match=rf"^`{field.name}` must be .*, got <object object"):
            KINDS[name](**{field.name: object()})
