"""The update rules that a shard can run, all elementwise, so that a slice of a tensor steps like the whole.

Elementwise is not enough for equal bits: `torch.optim`'s fused kernels use fused multiply-add in their vector
body but not in their scalar tail, so an element's last bit depends on where its slice ends (measured: 55 of 1,003
elements differ after 20 fused Adam steps when each is its own slice). The plain kernels chosen here round every
operation the same way in body and tail; on a CPU the `foreach` ones are the plain ones in a loop that is not Python's.
`tests/ps/test_bit_identity.py` holds this.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Option:
    """One number that an update rule takes: its default (`None`: must be given) and its rule."""

    default: float | None
    rule: str
    allows: Callable[[float], bool]


_RATE = Option(None, "above 0", lambda x: x > 0)


def _fraction(default: float | None) -> Option:
    return Option(default, "at least 0 and below 1", lambda x: 0 <= x < 1)


OPTIMIZERS: Mapping[str, Mapping[str, Option]] = MappingProxyType(
    {
        "adam": {
            "lr": _RATE,
            "beta1": _fraction(0.9),
            "beta2": _fraction(0.999),
            "eps": Option(1e-8, "above 0", lambda x: x > 0),
        },
        "sgd": {"lr": _RATE, "momentum": _fraction(0.0)},
        "average": {"decay": _fraction(None)},
    }
)
"""Update rule -> its options."""


def complete_options(optimizer: str, options: Mapping[str, float]) -> dict[str, float]:
    """The options with defaults filled in.

    Raises:
        ValueError: an unknown optimizer, an unknown or missing option, or a value outside its range.
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
    return completed


class Average(torch.optim.Optimizer):
    """An exponential moving average: `p <- decay * p + (1 - decay) * g`, where g is the observed value.

    The reward baseline is such a parameter. What is pushed is the reward itself, not a difference from a pulled
    copy, so the average stays right however stale the pusher was.
    """

    def __init__(self, parameters: Sequence[Tensor], *, decay: float) -> None:
        super().__init__(parameters, {"decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move each tensor that has a gradient towards it. `closure` is torch's convention, and unused."""
        for group in self.param_groups:
            decay = group["decay"]
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(decay).add_(p.grad, alpha=1 - decay)


def build_optimizer(
    optimizer: str, options: Mapping[str, float], parameters: Sequence[Tensor]
) -> torch.optim.Optimizer:
    """The update rule over `parameters`; a tensor whose `.grad` is `None` is left alone, its state included.

    Args:
        optimizer: a key of `OPTIMIZERS`.
        options: completed options, as `complete_options` gives them.
        parameters: at least one float32 leaf tensor, of any shape; updated in place.
    """
    if optimizer == "adam":
        betas = options["beta1"], options["beta2"]
        return torch.optim.Adam(
            parameters, lr=options["lr"], betas=betas, eps=options["eps"], foreach=True, fused=False
        )
    if optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=options["lr"], momentum=options["momentum"], foreach=False, fused=False)
    return Average(parameters, decay=options["decay"])
