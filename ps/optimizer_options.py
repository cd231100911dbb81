"""The options of the update rules of a shard. Imports no torch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Option:
    """A numeric option of an update rule.

    Attributes:
        default: the value where it is not given; `None`: it must be given.
        rule: its range in words.
        allows: its range as code.
        added_later: layouts that predate the option are on disk, so a layout's JSON leaves it out at its default.
    """

    default: float | None
    rule: str
    allows: Callable[[float], bool]
    added_later: bool = False


_RATE = Option(None, "above 0", lambda x: x > 0)
_WEIGHT_DECAY = Option(0.0, "0 or more", lambda x: x >= 0, added_later=True)


def _fraction(default: float | None) -> Option:
    return Option(default, "at least 0 and below 1", lambda x: 0 <= x < 1)


OPTIMIZERS: Mapping[str, Mapping[str, Option]] = MappingProxyType(
    {
        "adam": {
            "lr": _RATE,
            "beta1": _fraction(0.9),
            "beta2": _fraction(0.999),
            "eps": Option(1e-8, "above 0", lambda x: x > 0),
            "weight_decay": _WEIGHT_DECAY,
        },
        "sgd": {
            "lr": _RATE,
            "momentum": _fraction(0.0),
            "nesterov": Option(0.0, "0 or 1", lambda x: x in (0, 1), added_later=True),
            "weight_decay": _WEIGHT_DECAY,
        },
        "average": {"decay": _fraction(None)},
    }
)
"""Update rule -> its options."""


def complete_options(optimizer: str, options: Mapping[str, float]) -> dict[str, float]:
    """Return the options with defaults filled in.

    Raises:
        ValueError: the optimizer or an option is unknown, an option is missing, or a value is outside its range.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"`optimizer` must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
    known = OPTIMIZERS[optimizer]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"`{optimizer}` takes the options {', '.join(known)}, got {', '.join(unknown)}")
    completed: dict[str, float] = {}
    for name, option in known.items():
        value = options.get(name, option.default)
        if value is None:
            raise ValueError(f"`{optimizer}` needs the option `{name}`, got only {sorted(options)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"`{name}` of `{optimizer}` must be a finite number, got {value!r}")
        if not option.allows(value):
            raise ValueError(f"`{name}` of `{optimizer}` must be {option.rule}, got {value}")
        completed[name] = float(value)
    if completed.get("nesterov") and not completed["momentum"]:
        raise ValueError(f"`nesterov` of `{optimizer}` needs a `momentum` above 0, got 0")
    return completed


def options_to_json(optimizer: str, options: Mapping[str, float]) -> dict[str, float]:
    """Return complete options for a layout's JSON, without those added later that have their default."""
    known = OPTIMIZERS[optimizer]
    return {n: value for n, value in options.items() if not (known[n].added_later and value == known[n].default)}


def has_rate(optimizer: str) -> bool:
    """Return whether the update rule has a learning rate, which a push may set for its step."""
    return "lr" in OPTIMIZERS[optimizer]
