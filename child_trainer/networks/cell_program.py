"""The steps of a recurrent cell over a sequence, with the derivative written out (back-propagation through time).

Automatic differentiation would compute the same, but its bookkeeping for a few dozen small operations a step costs more
than they do, and it would add up the weights' gradient step by step. It still serves cells of other operations.

Shapes: T steps; B sequences side by side; H hidden units; P units of all linear maps of `x`; Q units of all linear maps
of `h`; S units of all sums of a map of `x` and a map of `h`, whose maps come first in P and in Q; M units of any value.
A name's suffix spells its shape: `bias_Q` is [Q]. All tensors are floating-point, of the dtype of the cell's weights.
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
    """One step of a cell, as operations on numbered values.

    The values are, in this order: h, c, the sums, the other maps of x, the other maps of h, the instructions' results.

    Attributes:
        sum_sizes: units of each sum of a map of x and a map of h; S in all.
        other_x_sizes, other_h_sizes: units of each other map; P - S and Q - S in all.
        instructions: in order; each computes the next value.
        next_h, next_c: the numbers of the values that are the next state. A cell without a next c passes its c on,
            which is value 1.
    """

    sum_sizes: tuple[int, ...]
    other_x_sizes: tuple[int, ...]
    other_h_sizes: tuple[int, ...]
    instructions: tuple[Instruction, ...]
    next_h: int
    next_c: int


def compile_cell(
    nodes: Sequence[Node],
    x_sizes: Mapping[str, int],
    h_sizes: Mapping[str, int],
    sum_names: Sequence[str],
    outputs: Sequence[str],
) -> Program | None:
    """Return the program of a cell, or `None` if it cannot be compiled.

    A program has only `POINTWISE` operations on linear maps of `x` and `h` (at least one of each), h and c.

    Args:
        nodes: all but the linear maps of `x` and `h`, in order.
        x_sizes, h_sizes: units of these maps by name; the maps that are added come first.
        sum_names: the nodes that each add a map of `x` and a map of `h`, in the order of these maps.
        outputs: the next h and, if there is one, the next c.
    """
    other_x, other_h = list(x_sizes)[len(sum_names) :], list(h_sizes)[len(sum_names) :]
    numbers = {name: number for number, name in enumerate(("h", "c", *sum_names, *other_x, *other_h))}
    instructions: list[Instruction] = []
    for n in nodes:
        if n.name in numbers:
            continue
        operation = POINTWISE.get(n.op)
        if operation is None or operation.arity not in (None, len(n.inputs)) or not set(n.inputs) <= numbers.keys():
            return None
        numbers[n.name] = len(numbers)
        instructions.append(Instruction(operation, tuple(numbers[source] for source in n.inputs), numbers[n.name]))
    if not x_sizes or not h_sizes or not set(outputs) <= numbers.keys():
        return None
    return Program(
        sum_sizes=tuple(x_sizes[name] for name in list(x_sizes)[: len(sum_names)]),
        other_x_sizes=tuple(x_sizes[name] for name in other_x),
        other_h_sizes=tuple(h_sizes[name] for name in other_h),
        instructions=tuple(instructions),
        next_h=numbers[outputs[0]],
        next_c=numbers[outputs[-1]] if len(outputs) > 1 else 1,
    )


class Steps(torch.autograd.Function):
    """All steps of a program, as a function for `apply`."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  (autograd takes no keywords)
        ctx: Any,
        program: Program,
        x_maps_TBP: Tensor,
        weight_QH: Tensor,
        bias_Q: Tensor | None,
        h_BH: Tensor,
        c_BH: Tensor,
        mask_BH: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden states [T, B, H] and the last c [B, H].

        Args:
            ctx: autograd's context.
            program: one step.
            x_maps_TBP: [T, B, P], the results of the maps of x at all steps.
            weight_QH, bias_Q: [Q, H] and [Q], of the maps of h.
            h_BH, c_BH: [B, H], the state before the first step.
            mask_BH: [B, H], multiplies the h that the maps of h read.
        """
        weight_HQ = weight_QH.t()
        masked_h, tape, hidden = [], [], []
        for x_sums_BS, *other_x_maps in _split_steps(program, x_maps_TBP):
            masked_h.append(h_BH if mask_BH is None else h_BH * mask_BH)
            h_maps_BQ = masked_h[-1] @ weight_HQ if bias_Q is None else torch.addmm(bias_Q, masked_h[-1], weight_HQ)
            values = _forward_step(program, x_sums_BS, other_x_maps, h_maps_BQ, h_BH, c_BH)
            h_BH, c_BH = values[program.next_h], values[program.next_c]
            tape.append(values)
            hidden.append(h_BH)
        ctx.program, ctx.tape, ctx.has_bias = program, tape, bias_Q is not None
        ctx.save_for_backward(weight_QH, mask_BH, torch.stack(masked_h))
        return torch.stack(hidden), c_BH.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `forward`'s arguments from those of its results, [T, B, H] and [B, H]."""
        grad_hidden_TBH, grad_c_BH = gradients
        weight_QH, mask_BH, masked_h_TBH = ctx.saved_tensors
        program: Program = ctx.program
        # Freed with this call, as what PyTorch saves: the results of a step refer to it until the next one has its own.
        tape, ctx.tape = ctx.tape, None
        sum_size = sum(program.sum_sizes)
        steps = grad_hidden_TBH.shape[:2]
        grad_h_maps_TBQ = grad_hidden_TBH.new_empty((*steps, sum_size + sum(program.other_h_sizes)))
        grad_other_x_maps_TBM = grad_hidden_TBH.new_empty((*steps, sum(program.other_x_sizes)))
        grad_h_BH = torch.zeros_like(grad_c_BH)
        grad_hidden = grad_hidden_TBH.unbind()
        for step in range(len(grad_hidden_TBH) - 1, -1, -1):
            gradient = _backward_step(program, tape[step], grad_h_BH + grad_hidden[step], grad_c_BH)
            grad_c_BH = gradient.c_BH
            torch.cat([*gradient.sums, *gradient.other_h_maps], dim=1, out=grad_h_maps_TBQ[step])
            if gradient.other_x_maps:
                torch.cat(gradient.other_x_maps, dim=1, out=grad_other_x_maps_TBM[step])
            grad_h_BH = grad_h_maps_TBQ[step] @ weight_QH
            grad_h_BH = grad_h_BH if mask_BH is None else grad_h_BH * mask_BH
            grad_h_BH = grad_h_BH if gradient.h_BH is None else grad_h_BH + gradient.h_BH
        # A sum passes its gradient to both of its maps.
        grad_x_maps_TBP = grad_h_maps_TBQ[..., :sum_size]
        if program.other_x_sizes:
            grad_x_maps_TBP = torch.cat([grad_x_maps_TBP, grad_other_x_maps_TBM], dim=2)
        grad_weight_QH = grad_h_maps_TBQ.flatten(0, 1).t() @ masked_h_TBH.flatten(0, 1)
        grad_bias_Q = grad_h_maps_TBQ.sum((0, 1)) if ctx.has_bias else None
        return None, grad_x_maps_TBP, grad_weight_QH, grad_bias_Q, grad_h_BH, grad_c_BH, None


def _split_steps(program: Program, x_maps_TBP: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split the maps of x by step: those that belong to sums [B, S], then each other map [B, M]."""
    sizes = [sum(program.sum_sizes), *program.other_x_sizes]
    return zip(*(part.unbind() for part in x_maps_TBP.split_with_sizes(sizes, 2)), strict=True)


def _forward_step(
    program: Program, x_sums_BS: Tensor, other_x_maps: Sequence[Tensor], h_maps_BQ: Tensor, h_BH: Tensor, c_BH: Tensor
) -> list[Tensor]:
    """Return all values of one step, [B, M] each, in the order of `Program`.

    Args:
        program: the step.
        x_sums_BS: [B, S], the maps of x that belong to sums.
        other_x_maps: each other map of x, [B, M].
        h_maps_BQ: [B, Q], all maps of h.
        h_BH, c_BH: [B, H], the state before the step.
    """
    h_sums_BS, other_h_maps = h_maps_BQ, ()
    if program.other_h_sizes:
        h_sums_BS, *other_h_maps = h_maps_BQ.split_with_sizes([x_sums_BS.shape[1], *program.other_h_sizes], 1)
    sums = (x_sums_BS + h_sums_BS).split_with_sizes(program.sum_sizes, 1)
    values = [h_BH, c_BH, *sums, *other_x_maps, *other_h_maps]
    for instruction in program.instructions:
        values.append(instruction.operation.forward(*[values[number] for number in instruction.inputs]))
    return values


@dataclass(frozen=True, slots=True)
class _StepGradients:
    """Gradients of what one step reads.

    Attributes:
        h_BH: [B, H], of h by all ways but its maps; `None` if there is no other way.
        c_BH: [B, H].
        sums, other_x_maps, other_h_maps: [B, M] for each.
    """

    h_BH: Tensor | None
    c_BH: Tensor
    sums: list[Tensor]
    other_x_maps: list[Tensor]
    other_h_maps: list[Tensor]


def _backward_step(
    program: Program, values: Sequence[Tensor], grad_next_h_BH: Tensor, grad_next_c_BH: Tensor
) -> _StepGradients:
    """Return the gradients of what one step reads.

    Args:
        program: the step.
        values: all values of the step, [B, M] each.
        grad_next_h_BH, grad_next_c_BH: [B, H], of the state after the step.
    """
    gradients: list[Tensor | None] = [None] * len(values)
    gradients[program.next_c] = grad_next_c_BH
    gradients[program.next_h] = grad_next_h_BH if program.next_h != program.next_c else grad_next_h_BH + grad_next_c_BH
    for instruction in reversed(program.instructions):
        grad_output = gradients[instruction.output]
        if grad_output is None:
            continue
        inputs = [values[number] for number in instruction.inputs]
        grad_inputs = instruction.operation.backward(grad_output, values[instruction.output], inputs)
        for number, grad_input in zip(instruction.inputs, grad_inputs, strict=True):
            earlier = gradients[number]
            gradients[number] = grad_input if earlier is None else earlier + grad_input
    counts = (1, len(program.sum_sizes), len(program.other_x_sizes), len(program.other_h_sizes))
    (grad_c_BH,), sums, other_x_maps, other_h_maps = (
        [
            torch.zeros_like(value) if gradient is None else gradient
            for gradient, value in zip(gradients[start:end], values[start:end], strict=True)
        ]
        for start, end in itertools.pairwise(itertools.accumulate(counts, initial=1))
    )
    return _StepGradients(gradients[0], grad_c_BH, sums, other_x_maps, other_h_maps)
