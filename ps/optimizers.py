"""The update rules of a shard, all elementwise, so that a step on a slice equals the step on the whole tensor.

Elementwise is not enough for equal bits: `torch.optim`'s fused kernels use fused multiply-add in their vector
body but not in their scalar tail, so an element's last bit depends on where its slice ends (measured: 55 of 1,003
elements differ after 20 fused Adam steps when each is its own slice). The plain kernels chosen here round every
operation the same way in body and tail. `tests/ps/test_bit_identity.py` holds this.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby
from types import MappingProxyType

import torch
from torch import Tensor
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


class UpdateRule:
    """An update rule over the tensors of a group that lie end to end in one vector, with its state.

    It has the bits of `torch.optim`'s classes, which themselves are expensive: the first object in a process imports
    PyTorch's compiler, which takes as long as importing PyTorch.

    Args:
        optimizer: a key of `OPTIMIZERS`.
        options: complete options, from `complete_options`.
        sizes: tensor name -> the number of its elements, in the vector's order.
    """

    def __init__(self, optimizer: str, options: Mapping[str, float], sizes: Mapping[str, int]) -> None:
        self._step, self._options, self._sizes = _STEPS[optimizer], options, sizes
        self._offsets = [0, *accumulate(sizes.values())]
        self._slots: dict[str, Tensor] = {}
        for slot in _SLOTS[optimizer](options):
            self._slots[slot] = torch.zeros(len(sizes) if slot == STEP else self._offsets[-1])
        self._stepped = False

    @torch.no_grad()
    def step(self, values: Tensor, gradient: Tensor, first: int, last: int, rate: float | None = None) -> None:
        """Step some consecutive tensors in place; leave the others and their state unchanged.

        Args:
            values: the whole vector, float32.
            gradient: the gradients of these tensors, end to end; it is only read.
            first: the number of the first tensor that takes a step.
            last: the number after that of the last one.
            rate: the learning rate of this step; `None` for the option `lr`.
        """
        options = self._options if rate is None else {**self._options, "lr": rate}
        self._stepped = True
        begin = self._offsets[first]
        for start, stop in self._alike(first, last):
            a, b = self._offsets[start], self._offsets[stop]
            slots = {name: slot[start:stop] if name == STEP else slot[a:b] for name, slot in self._slots.items()}
            self._step(values[a:b], gradient[a - begin : b - begin], slots, options)

    def state(self) -> Iterator[tuple[str, Mapping[str, int], Tensor]]:
        """Yield each slot, with what its vector has of each tensor, and the vector; nothing before the first step."""
        if self._stepped:
            for slot, vector in self._slots.items():
                yield slot, dict.fromkeys(self._sizes, 1) if slot == STEP else self._sizes, vector

    def restore(self, slot: str, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what a slot had of the tensors; those that are left out never took a step."""
        self._stepped = self._stepped or bool(tensors)
        for number, name in enumerate(self._sizes):
            if name in tensors:
                a, b = (number, number + 1) if slot == STEP else self._offsets[number : number + 2]
                self._slots[slot][a:b] = tensors[name].reshape(-1)

    def _alike(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cut a range of tensors where the number of steps that they have taken changes: Adam's factors depend on it.

        Elementwise rules give an element the same bits wherever its vector ends.
        """
        counts = self._slots[STEP][first:last].tolist() if STEP in self._slots else [0.0] * (last - first)
        start = first
        for _, group in groupby(counts):
            stop = start + len(list(group))
            yield start, stop
            start = stop


STEP = "step"
"""The slot that counts a tensor's steps: one number for each tensor, where other slots have one for each element."""


def _adam(value: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], options: Mapping[str, float]) -> None:
    """Step by Adam (Kingma & Ba 2015, algorithm 1), with the operations of `torch.optim.adam` in its order.

    A shard's tensors are small, so that the checks of that function take longer than its arithmetic.
    """
    steps, mean, square = slots[STEP], slots["exp_avg"], slots["exp_avg_sq"]
    beta1, beta2 = options["beta1"], options["beta2"]
    steps += 1
    step = steps[0].item()
    if options["weight_decay"]:
        gradient = gradient.add(value, alpha=options["weight_decay"])
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (square.sqrt() / (1 - beta2**step) ** 0.5).add_(options["eps"])
    value.addcdiv_(mean, scale, value=-options["lr"] / (1 - beta1**step))


def _sgd(value: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], options: Mapping[str, float]) -> None:
    sgd(
        [value],
        [gradient],
        # A buffer of zeros becomes the first gradient, as PyTorch's buffer that is not there yet does.
        [slots.get("momentum_buffer")],
        foreach=False,
        fused=False,
        weight_decay=options["weight_decay"],
        momentum=options["momentum"],
        lr=options["lr"],
        dampening=0.0,
        nesterov=bool(options["nesterov"]),
        maximize=False,
    )


def _average(value: Tensor, observed: Tensor, slots: Mapping[str, Tensor], options: Mapping[str, float]) -> None:
    """Update an exponential moving average: `p <- decay * p + (1 - decay) * g`, where g is the observed value.

    The reward baseline is such a parameter. Clients push the reward itself, not a difference from a pulled copy, so
    the average is right however stale the push is.
    """
    value.mul_(options["decay"]).add_(observed, alpha=1 - options["decay"])


_STEPS = {"adam": _adam, "sgd": _sgd, "average": _average}

_SLOTS: Mapping[str, Callable[[Mapping[str, float]], tuple[str, ...]]] = {
    "adam": lambda _: (STEP, "exp_avg", "exp_avg_sq"),
    "sgd": lambda options: ("momentum_buffer",) if options["momentum"] else (),
    "average": lambda _: (),
}
"""Update rule -> the slots of its state, given its options."""
