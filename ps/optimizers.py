"""The update rules of a shard, all elementwise, so that a step on a slice equals the step on the whole tensor.

Elementwise is not enough for equal bits: `torch.optim`'s fused kernels use fused multiply-add in their vector
body but not in their scalar tail, so an element's last bit depends on where its slice ends (measured: 55 of 1,003
elements differ after 20 fused Adam steps when each is its own slice). The plain kernels chosen here round every
operation the same way in body and tail. `tests/ps/test_bit_identity.py` holds this.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor
from torch.optim.sgd import sgd


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tensors of one vector that take their next step, with equal numbers of steps before it.

    Attributes:
        optimizer, options: their update rule.
        count: how many steps they have taken.
        values, gradient: their elements, which lie end to end.
        slots: what the rule's state has of them.
    """

    optimizer: str
    options: Mapping[str, float]
    count: float
    values: Tensor
    gradient: Tensor
    slots: Mapping[str, Tensor]


@torch.no_grad()
def step(pieces: Iterable[Piece]) -> None:
    """Step some pieces in place, which must not overlap; gradients are only read.

    The vectors of small shards are short, so that a call of PyTorch for all alike pieces, in which each has the bits of
    a call of its own, takes little longer than one for a single piece.
    """
    alike: dict[tuple[object, ...], list[Piece]] = {}
    for piece in pieces:
        alike.setdefault((piece.optimizer, piece.count, *piece.options.values()), []).append(piece)
    for same in alike.values():
        _STEPS[same[0].optimizer](same, same[0].options)


class UpdateRule:
    """An update rule over the tensors of a group that lie end to end in one vector, with its state.

    It has the bits of `torch.optim`'s classes, which themselves are expensive: the first object in a process imports
    PyTorch's compiler, which takes as long as importing PyTorch.

    Args:
        optimizer: a key of `optimizer_options.OPTIMIZERS`.
        options: complete options, from `optimizer_options.complete_options`.
        sizes: tensor name -> the number of its elements, in the vector's order.
        values: the vector, float32, which is stepped in place.
    """

    def __init__(self, optimizer: str, options: Mapping[str, float], sizes: Mapping[str, int], values: Tensor) -> None:
        self._optimizer, self._options, self._sizes = optimizer, options, sizes
        self._offsets = [0, *accumulate(sizes.values())]
        self._slots: dict[str, Tensor] = {}
        for slot in _SLOTS[optimizer](options):
            self._slots[slot] = torch.zeros(len(sizes) if slot == STEP else self._offsets[-1])
        self._stepped = False
        self._values = values
        self._ranges: dict[tuple[int, int], tuple[Tensor, Mapping[str, Tensor]]] = {}  # `_range` of those seen

    def pieces(self, gradient: Tensor, first: int, last: int, rate: float | None = None) -> Iterator[Piece]:
        """Yield what `step` needs to step some consecutive tensors; the others and their state stay unchanged.

        Args:
            gradient: the gradients of these tensors, end to end.
            first: the number of the first tensor that takes a step.
            last: the number after that of the last one.
            rate: the learning rate of this step; `None` for the option `lr`.
        """
        options = self._options if rate is None else {**self._options, "lr": rate}
        self._stepped = True
        begin = self._offsets[first]
        for start, stop, count in self._alike(first, last):
            a, b = self._offsets[start], self._offsets[stop]
            values, slots = self._range(start, stop)
            yield Piece(self._optimizer, options, count, values, gradient[a - begin : b - begin], slots)

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

    def _range(self, start: int, stop: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the values and the slots of some consecutive tensors."""
        known = self._ranges.get((start, stop))
        if known is None:
            a, b = self._offsets[start], self._offsets[stop]
            slots = {name: slot[start:stop] if name == STEP else slot[a:b] for name, slot in self._slots.items()}
            known = self._values[a:b], slots
            if len(self._ranges) < _MAX_RANGES:
                self._ranges[start, stop] = known
        return known

    def _alike(self, first: int, last: int) -> Iterator[tuple[int, int, float]]:
        """Cut a range of tensors where the number of steps that they have taken changes: Adam's factors depend on it.

        Yield this number with each part. Elementwise rules give an element the same bits wherever its vector ends.
        """
        counts = self._slots[STEP][first:last].tolist() if STEP in self._slots else [0.0] * (last - first)
        start = first
        for count, group in groupby(counts):
            stop = start + len(list(group))
            yield start, stop, count
            start = stop


_MAX_RANGES = 256
"""Ranges of tensors whose views are kept. Most pushes have all of a vector's tensors, or always the same ones."""

STEP = "step"
"""The slot that counts a tensor's steps: one number for each tensor, where other slots have one for each element."""


def _adam(pieces: Sequence[Piece], options: Mapping[str, float]) -> None:
    """Step by Adam (Kingma & Ba 2015, algorithm 1), with the operations of `torch.optim.adam` in its order.

    A shard's tensors are small, so that the checks of that function take longer than its arithmetic.
    """
    values, gradients = [piece.values for piece in pieces], [piece.gradient for piece in pieces]
    steps, means, squares = ([piece.slots[name] for piece in pieces] for name in (STEP, "exp_avg", "exp_avg_sq"))
    beta1, beta2, step = options["beta1"], options["beta2"], pieces[0].count + 1
    _add_(steps, 1)
    if options["weight_decay"]:
        gradients = _add(gradients, values, alpha=options["weight_decay"])
    _lerp_(means, gradients, 1 - beta1)
    _mul_(squares, beta2)
    _addcmul_(squares, gradients, gradients, value=1 - beta2)
    scales = _sqrt(squares)
    _div_(scales, (1 - beta2**step) ** 0.5)
    _add_(scales, options["eps"])
    _addcdiv_(values, means, scales, value=-options["lr"] / (1 - beta1**step))


def _sgd(pieces: Sequence[Piece], options: Mapping[str, float]) -> None:
    sgd(
        [piece.values for piece in pieces],
        [piece.gradient for piece in pieces],
        # A buffer of zeros becomes the first gradient, as PyTorch's buffer that is not there yet does.
        [piece.slots.get("momentum_buffer") for piece in pieces],
        foreach=False,
        fused=False,
        weight_decay=options["weight_decay"],
        momentum=options["momentum"],
        lr=options["lr"],
        dampening=0.0,
        nesterov=bool(options["nesterov"]),
        maximize=False,
    )


def _average(pieces: Sequence[Piece], options: Mapping[str, float]) -> None:
    """Update an exponential moving average: `p <- decay * p + (1 - decay) * g`, where g is the observed value.

    The reward baseline is such a parameter. Clients push the reward itself, not a difference from a pulled copy, so
    the average is right however stale the push is.
    """
    values = [piece.values for piece in pieces]
    _mul_(values, options["decay"])
    _add_(values, [piece.gradient for piece in pieces], alpha=1 - options["decay"])


# On a CPU each of these calls the kernel of one tensor for one tensor after another.
_add, _add_ = torch._foreach_add, torch._foreach_add_  # pyright: ignore[reportPrivateImportUsage]
_mul_, _div_ = torch._foreach_mul_, torch._foreach_div_  # pyright: ignore[reportPrivateImportUsage]
_sqrt, _lerp_ = torch._foreach_sqrt, torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
_addcmul_, _addcdiv_ = torch._foreach_addcmul_, torch._foreach_addcdiv_  # pyright: ignore[reportPrivateImportUsage]

_STEPS: Mapping[str, Callable[[Sequence[Piece], Mapping[str, float]], None]] = {
    "adam": _adam,
    "sgd": _sgd,
    "average": _average,
}

_SLOTS: Mapping[str, Callable[[Mapping[str, float]], tuple[str, ...]]] = {
    "adam": lambda _: (STEP, "exp_avg", "exp_avg_sq"),
    "sgd": lambda options: ("momentum_buffer",) if options["momentum"] else (),
    "average": lambda _: (),
}
"""Update rule -> the slots of its state, given its options."""
