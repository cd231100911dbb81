"""The steps of an LSTM layer and their gradient, written out, and the memory for them; see `lstm_pass.py`.

Shapes: as in `controller.policies.lstm`; S steps, G = 4 H sums of a layer's gates.
"""

import math
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

tanh_backward: Any = torch.ops.aten.tanh_backward.grad_input
"""Takes the gradient of a tanh and its result; `grad_input` is where that of its argument goes."""

_sigmoid_backward: Any = torch.ops.aten.sigmoid_backward.grad_input

_CELL = 2
"""The number of the cell gate among the input, forget, cell and output gate, in the order of `nn.LSTMCell`."""

_ALIGNMENT = 16
"""Elements between the starts of steps are a multiple of this: matrix products may round by where memory begins."""

_CHUNK = 2**15
"""Elements of memory that is taken at once: what is larger, the system fills with zeros each time."""


def _steps(count: int, *shape: int) -> Tensor:
    """Return memory [count, *shape] float32 for as many steps, each of which begins where a tensor of its own would."""
    size = math.prod(shape)
    pitch = -(-size // _ALIGNMENT) * _ALIGNMENT
    return torch.empty(count, pitch)[:, :size].view(count, *shape)


class Layer:
    """What the steps of one LSTM layer leave for the backward pass, and the memory for both passes.

    Args:
        inputs_SBH: what it reads.
        steps, batch, hidden: S, B and H.
    """

    def __init__(self, inputs_SBH: Tensor, steps: int, batch: int, hidden: int) -> None:
        self._inputs_SBH = inputs_SBH
        self.hidden_SBH, cells_SBH = _steps(steps + 1, batch, hidden), _steps(steps + 1, batch, hidden)
        self.hidden_SBH[0] = 0
        cells_SBH[0] = 0
        # A gate's rows are kept apart from the next gate's: PyTorch rounds the last elements of each run of memory
        # differently, and `nn.LSTMCell` has runs of H.
        gates_S4N = torch.zeros(steps, 4, batch * hidden + 1)
        gates_S4BH = gates_S4N[:, :, :-1].unflatten(2, (batch, hidden))
        tanh_SBH = _steps(steps, batch, hidden)
        self._sums, self._more = torch.empty(batch, 4 * hidden), torch.empty(batch, 4 * hidden)
        self._sums_4BH = self._sums.view(batch, 4, hidden).transpose(0, 1)
        self._cell_sums_BH = self._sums_4BH[_CELL]
        self._product = np.empty((batch, hidden), np.float32)
        self._inputs, self.hidden = inputs_SBH.unbind(0), self.hidden_SBH.unbind(0)
        self._cells, self._tanh, self._gates = cells_SBH.unbind(0), tanh_SBH.unbind(0), gates_S4BH.unbind(0)
        self._cell_gates = gates_S4BH[:, _CELL].unbind(0)
        self.hidden_np, self._cells_np = list(self.hidden_SBH.numpy()), list(cells_SBH.numpy())
        self._tanh_np, self._gates_np = list(tanh_SBH.numpy()), [tuple(step) for step in gates_S4BH.numpy()]
        self._sums_np, self._more_np = self._sums.numpy(), self._more.numpy()

        self._of_sums_SBG = _steps(steps, batch, 4 * hidden)
        of_sums_S4BH = self._of_sums_SBG.view(steps, batch, 4, hidden).transpose(1, 2)
        self._of_sums, self._of_each_sum = self._of_sums_SBG.unbind(0), of_sums_S4BH.unbind(0)
        self._of_cell_sums = of_sums_S4BH[:, _CELL].unbind(0)
        self._of_gates = torch.empty(4, batch, hidden)
        self._of_cell_gate, self._of_gates_np = self._of_gates[_CELL], tuple(self._of_gates.numpy())
        self._of_tanh, self._of_cells = torch.empty(batch, hidden), torch.empty(batch, hidden)
        self._of_tanh_np, self._of_cells_np = self._of_tanh.numpy(), self._of_cells.numpy()
        self._cells_carried = np.empty((batch, hidden), np.float32)
        self._steps_back = 0  # of the backward pass so far, counted from the first step

    def begin(self, weights: Sequence[Tensor]) -> None:
        """Take the weights of a pass: [4 H, H], [4 H, H], [4 H] and [4 H], as `nn.LSTMCell` has them."""
        self.w_input, self.w_hidden, self.b_input, self.b_hidden = weights
        self._w_input_T, self._w_hidden_T = self.w_input.t(), self.w_hidden.t()

    def advance(self, step: int) -> None:
        """Read the step's input, and the state before it."""
        torch.addmm(self.b_hidden, self.hidden[step], self._w_hidden_T, out=self._sums)
        torch.addmm(self.b_input, self._inputs[step], self._w_input_T, out=self._more)
        np.add(self._sums_np, self._more_np, out=self._sums_np)
        torch.sigmoid(self._sums_4BH, out=self._gates[step])
        torch.tanh(self._cell_sums_BH, out=self._cell_gates[step])
        input_gate, forget_gate, cell_gate, output_gate = self._gates_np[step]
        cells = self._cells_np[step + 1]
        np.multiply(forget_gate, self._cells_np[step], out=cells)
        np.multiply(input_gate, cell_gate, out=self._product)
        np.add(cells, self._product, out=cells)
        torch.tanh(self._cells[step + 1], out=self._tanh[step])
        np.multiply(output_gate, self._tanh_np[step], out=self.hidden_np[step + 1])

    def begin_backward(self) -> None:
        """Forget the gradients of an earlier backward pass over the same steps."""
        self._steps_back = 0

    def go_back(self, step: int, of_hidden_BH: Tensor) -> None:
        """Take the gradient of the step's hidden state, after those of later steps."""
        is_last, self._steps_back = self._steps_back < step + 1, max(self._steps_back, step + 1)
        of_hidden = of_hidden_BH.numpy()
        of_input_gate, of_forget_gate, of_cell_gate, of_output_gate = self._of_gates_np
        of_cells = self._of_cells_np
        input_gate, forget_gate, cell_gate, output_gate = self._gates_np[step]
        np.multiply(of_hidden, self._tanh_np[step], out=of_output_gate)
        np.multiply(of_hidden, output_gate, out=self._of_tanh_np)
        tanh_backward(self._of_tanh, self._tanh[step], grad_input=self._of_cells)
        if not is_last:
            np.add(self._cells_carried, of_cells, out=of_cells)
        np.multiply(of_cells, cell_gate, out=of_input_gate)
        np.multiply(of_cells, self._cells_np[step], out=of_forget_gate)
        np.multiply(of_cells, input_gate, out=of_cell_gate)
        np.multiply(of_cells, forget_gate, out=self._cells_carried)
        _sigmoid_backward(self._of_gates, self._gates[step], grad_input=self._of_each_sum[step])
        tanh_backward(self._of_cell_gate, self._cell_gates[step], grad_input=self._of_cell_sums[step])

    def of_hidden_before(self, step: int) -> Tensor:
        """Return the gradient of the hidden state [B, H] before this step, from this step alone."""
        return torch.mm(self._of_sums[step], self.w_hidden)

    def of_input(self, step: int) -> Tensor:
        """Return the gradient of this step's input [B, H]."""
        return torch.mm(self._of_sums[step], self.w_input)

    def of_weights(self) -> list[Tensor]:
        """Return the gradients of the weights, in their order."""
        of_bias = _summed([self._of_sums_SBG[: self._steps_back].sum(1)])
        return [self._of_products(self._inputs_SBH), self._of_products(self.hidden_SBH), of_bias, of_bias.clone()]

    def _of_products(self, read_SBH: Tensor) -> Tensor:
        """Return the gradient of the weights [4 H, H] that what was read is multiplied with."""
        of_sums_SGB, steps = self._of_sums_SBG.transpose(1, 2), self._steps_back
        size = max(1, _CHUNK // self.w_input.numel())
        starts = range((steps - 1) // size * size, -1, -size)
        chunks = [slice(start, min(start + size, steps)) for start in starts]
        return _summed(torch.bmm(of_sums_SGB[chunk], read_SBH[chunk]) for chunk in chunks)


class Room:
    """The memory of a pass: of its inputs, and of its layers.

    Args:
        layers, steps, batch, hidden: L, S, B and H.
    """

    def __init__(self, layers: int, steps: int, batch: int, hidden: int) -> None:
        inputs_SBH = _steps(steps + 1, batch, hidden)
        self.inputs, self.inputs_np = inputs_SBH.unbind(0), list(inputs_SBH.numpy())
        self.layers: list[Layer] = []
        below_SBH = inputs_SBH[:steps]
        for _ in range(layers):
            self.layers.append(Layer(below_SBH, steps, batch, hidden))
            below_SBH = self.layers[-1].hidden_SBH[1:]


_SPARE: dict[tuple[int, int, int, int], list[Room]] = {}
"""Memory of passes that have ended, by its sizes, for the next ones: to divide it anew takes a tenth of a pass."""


def room_for(owner: object, layers: int, steps: int, batch: int, hidden: int) -> Room:
    """Return memory for a pass with these sizes (L, S, B and H), which is the owner's as long as there is one."""
    spare = _SPARE.setdefault((layers, steps, batch, hidden), [])
    room = spare.pop() if spare else Room(layers, steps, batch, hidden)
    weakref.finalize(owner, spare.append, room).atexit = False
    return room


def _summed(parts: Iterable[Tensor]) -> Tensor:
    """Return the sum over the first dimension of all parts, from the last row of each to the first.

    So PyTorch adds: what was created last comes back first.
    """
    total: Any = None
    for part in parts:
        rows = part.numpy()
        if total is None:
            total, rows = rows[-1].copy(), rows[:-1]
        for row in rows[::-1]:
            np.add(total, row, out=total)
    return torch.from_numpy(total)
