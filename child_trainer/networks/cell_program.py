"""The steps of a recurrent cell over a sequence, with its derivative written out (back-propagation through time).

Automatic differentiation would do the same, but its bookkeeping for a few dozen small operations a step costs more than
they do, and it would add up the weights' gradient step by step. Cells of other operations are left to it.

Shapes as in `recurrent.py`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from child_trainer.architectures.architecture import Node
from child_trainer.networks.pointwise import POINTWISE, Pointwise


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation on numbered values."""

    operation: Pointwise
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True)
class Program:
    """One step. The values are h, c, the sums, the other maps of x, the other maps of h, and the instructions' results.

    Attributes:
        sums: sizes of the sums of a map of x and a map of h, which lie first in both projections.
        of_x, of_h: sizes of the other maps.
        instructions: in order; each gives the next value.
        next_h, next_c: the values that are the next state; a cell without a next c hands its c on, value 1.
    """

    sums: tuple[int, ...]
    of_x: tuple[int, ...]
    of_h: tuple[int, ...]
    instructions: tuple[Instruction, ...]
    next_h: int
    next_c: int


def compiled(
    nodes: Sequence[Node],
    of_x: Mapping[str, int],
    of_h: Mapping[str, int],
    sums: Sequence[str],
    outputs: Sequence[str],
) -> Program | None:
    """The program of a cell, or `None` if it is not made of `POINTWISE` operations on its linear maps, h and c.

    Args:
        nodes: all but the linear maps of `x` and `h`, in order.
        of_x, of_h: sizes of these maps by name, those of the sums first.
        sums: the nodes that add the first maps of either, one by one.
        outputs: the next h and, if there is one, the next c.
    """
    free_x, free_h = list(of_x)[len(sums) :], list(of_h)[len(sums) :]
    number = {name: i for i, name in enumerate(("h", "c", *sums, *free_x, *free_h))}
    instructions: list[Instruction] = []
    for n in nodes:
        if n.name in number:
            continue
        operation = POINTWISE.get(n.op)
        if operation is None or operation.arity not in (None, len(n.inputs)) or not set(n.inputs) <= number.keys():
            return None
        number[n.name] = len(number)
        instructions.append(Instruction(operation, tuple(number[source] for source in n.inputs), number[n.name]))
    if not of_x or not of_h or not set(outputs) <= number.keys():
        return None
    return Program(
        sums=tuple(of_x[name] for name in list(of_x)[: len(sums)]),
        of_x=tuple(of_x[name] for name in free_x),
        of_h=tuple(of_h[name] for name in free_h),
        instructions=tuple(instructions),
        next_h=number[outputs[0]],
        next_c=number[outputs[-1]] if len(outputs) > 1 else 1,
    )


class Steps(torch.autograd.Function):
    """All steps of a program, as a function for `apply`."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  (autograd takes no keywords)
        ctx: Any,
        program: Program,
        of_x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        h: Tensor,
        c: Tensor,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states `[T, B, H]` and the last c `[B, H]`.

        Args:
            ctx: autograd's.
            program: one step.
            of_x: `[T, B, P]`, what the maps of x gave.
            weight, bias: `[Q, H]` and `[Q]`, of the maps of h.
            h, c: `[B, H]`, before the first step.
            mask: `[B, H]`, multiplies what the maps of h read.
        """
        transposed = weight.t()
        read, tape, hidden = [], [], []
        for joint, *free in _by_step(program, of_x):
            read.append(h if mask is None else h * mask)
            of_h = read[-1] @ transposed if bias is None else torch.addmm(bias, read[-1], transposed)
            values = _run(program, joint, free, of_h, h, c)
            h, c = values[program.next_h], values[program.next_c]
            tape.append(values)
            hidden.append(h)
        ctx.program, ctx.tape, ctx.has_bias = program, tape, bias is not None
        ctx.save_for_backward(weight, mask, torch.stack(read))
        return torch.stack(hidden), c.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all that `forward` took, from those of what it gave."""
        hidden, c = gradients
        weight, mask, read = ctx.saved_tensors
        program: Program = ctx.program
        joint = sum(program.sums)
        to_h = hidden.new_empty((*hidden.shape[:2], joint + sum(program.of_h)))
        to_x = hidden.new_empty((*hidden.shape[:2], sum(program.of_x)))
        h = torch.zeros_like(c)
        shown = hidden.unbind()
        for step in range(len(hidden) - 1, -1, -1):
            through, c, sums, of_x, of_h = _back(program, ctx.tape[step], h + shown[step], c)
            torch.cat([*sums, *of_h], dim=1, out=to_h[step])
            if of_x:
                torch.cat(of_x, dim=1, out=to_x[step])
            h = to_h[step] @ weight
            h = h if mask is None else h * mask
            h = h if through is None else h + through
        to_projected = torch.cat([to_h[..., :joint], to_x], dim=2) if program.of_x else to_h[..., :joint]
        of_weight = to_h.flatten(0, 1).t() @ read.flatten(0, 1)
        of_bias = to_h.sum((0, 1)) if ctx.has_bias else None
        return None, to_projected, of_weight, of_bias, h, c, None


def _by_step(program: Program, of_x: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """For each step the part of `of_x` that belongs to the sums, and then each other map of x."""
    sizes = [sum(program.sums), *program.of_x]
    return zip(*(part.unbind() for part in of_x.split_with_sizes(sizes, 2)), strict=True)


def _run(program: Program, joint: Tensor, of_x: Sequence[Tensor], of_h: Tensor, h: Tensor, c: Tensor) -> list[Tensor]:
    """All values of one step."""
    free = ()
    if program.of_h:
        of_h, *free = of_h.split_with_sizes([joint.shape[1], *program.of_h], 1)
    values = [h, c, *(joint + of_h).split_with_sizes(program.sums, 1), *of_x, *free]
    for one in program.instructions:
        values.append(one.operation.forward(*[values[i] for i in one.inputs]))
    return values


def _back(
    program: Program, values: list[Tensor], h: Tensor, c: Tensor
) -> tuple[Tensor | None, Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """From the gradients of a step's next h and c to those of its h (not by the maps), c, sums, maps of x and of h."""
    found: list[Tensor | None] = [None] * len(values)
    found[program.next_c] = c
    found[program.next_h] = h if program.next_h != program.next_c else h + c
    for one in reversed(program.instructions):
        gradient = found[one.output]
        if gradient is None:
            continue
        parts = one.operation.backward(gradient, values[one.output], [values[i] for i in one.inputs])
        for i, mine in zip(one.inputs, parts, strict=True):
            earlier = found[i]
            found[i] = mine if earlier is None else earlier + mine
    ends = itertools.accumulate((1, len(program.sums), len(program.of_x), len(program.of_h)), initial=1)
    (c,), sums, of_x, of_h = (
        [
            torch.zeros_like(value) if gradient is None else gradient
            for gradient, value in zip(found[a:b], values[a:b], strict=True)
        ]
        for a, b in itertools.pairwise(ends)
    )
    return found[0], c, sums, of_x, of_h
