"""The update rules of a shard, all elementwise, so that a step on a slice equals the step on the whole tensor.

Elementwise is not enough for equal bits: `torch.optim`'s fused kernels use fused multiply-add in their vector
body but not in their scalar tail, so an element's last bit depends on where its slice ends (measured: 55 of 1,003
elements differ after 20 fused Adam steps when each is its own slice). The plain kernels chosen here round every
operation the same way in body and tail; on a CPU the `foreach` kernels are the plain ones in a loop in C++.
`tests/ps/test_bit_identity.py` holds this.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd


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


Slots = dict[str, Tensor]
"""The optimizer state of one tensor, by slot name."""


class UpdateRule:
    """An update rule over some tensors, with its state.

    It calls the functions that `torch.optim`'s classes call. The classes themselves are expensive: the first object in
    a process imports PyTorch's compiler, which takes as long as importing PyTorch.

    Args:
        optimizer: a key of `OPTIMIZERS`.
        options: complete options, from `complete_options`.

    Attributes:
        state: tensor name -> its optimizer state, from its first step on; snapshots save and restore it.
    """

    def __init__(self, optimizer: str, options: Mapping[str, float]) -> None:
        self._step, self._options = _STEPS[optimizer], options
        self.state: dict[str, Slots] = {}

    @torch.no_grad()
    def step(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], rate: float | None = None) -> None:
        """Step the tensors that have a gradient, in place; leave the others and their state unchanged.

        Args:
            values: float32 tensors of any shape.
            gradients: gradients of some of them; they are only read.
            rate: the learning rate of this step; `None` for the option `lr`.
        """
        names = [name for name in values if name in gradients]
        states = [self.state.setdefault(name, {}) for name in names]
        options = self._options if rate is None else {**self._options, "lr": rate}
        if names:
            self._step([values[name] for name in names], [gradients[name] for name in names], states, options)


def _adam(values: list[Tensor], gradients: list[Tensor], states: list[Slots], options: Mapping[str, float]) -> None:
    for value, state in zip(values, states, strict=True):
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(value), torch.zeros_like(value)
    adam(
        values,
        gradients,
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        foreach=True,
        fused=False,
        amsgrad=False,
        beta1=options["beta1"],
        beta2=options["beta2"],
        lr=options["lr"],
        weight_decay=options["weight_decay"],
        eps=options["eps"],
        maximize=False,
    )


def _sgd(values: list[Tensor], gradients: list[Tensor], states: list[Slots], options: Mapping[str, float]) -> None:
    buffers = [state.get("momentum_buffer") for state in states]
    sgd(
        values,
        gradients,
        buffers,
        foreach=False,
        fused=False,
        weight_decay=options["weight_decay"],
        momentum=options["momentum"],
        lr=options["lr"],
        dampening=0.0,
        nesterov=bool(options["nesterov"]),
        maximize=False,
    )
    for state, buffer in zip(states, buffers, strict=True):
        if buffer is not None:  # `None` without momentum
            state["momentum_buffer"] = buffer


def _average(values: list[Tensor], gradients: list[Tensor], states: list[Slots], options: Mapping[str, float]) -> None:
    """Update an exponential moving average: `p <- decay * p + (1 - decay) * g`, where g is the observed value.

    The reward baseline is such a parameter. Clients push the reward itself, not a difference from a pulled copy, so
    the average is right however stale the push is.
    """
    for value, observed in zip(values, gradients, strict=True):
        value.mul_(options["decay"]).add_(observed, alpha=1 - options["decay"])


_STEPS = {"adam": _adam, "sgd": _sgd, "average": _average}
