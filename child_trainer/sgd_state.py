"""All that training by SGD changes, as named tensors and back, to the bit."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from child_trainer.checkpoint import CheckpointError

_OPTIMIZER = "optimizer/"
"""Begins the names of the optimizer's tensors, which there are only after its first step."""


class SgdState:
    """A network in training, between two steps (`tasks.task.Resumable`).

    Args:
        network: on its device, in the memory format that it is trained in.
        optimizer: of its parameters.
        order: draws the order of each epoch.
        others: by name, the other generators that a step draws from.
        labels: of the training images, in their order.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        order: Generator,
        others: Mapping[str, Generator],
        labels: Tensor,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.order = order
        self.loss = torch.zeros((), device=labels.device)
        """The sum of this epoch's losses so far."""
        self._others = others
        self._labels = labels
        self._epoch_order = order.get_state()

    def next_epoch(self) -> None:
        """Nothing of the next epoch has happened, its order included."""
        self.loss = torch.zeros_like(self.loss)
        self._epoch_order = self.order.get_state()

    def fingerprint(self) -> str:
        """Of the labels: another split, or a part of another size, has others."""
        return hashlib.sha256(self._labels.cpu().numpy().tobytes()).hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers, optimizer state, the loss, and the generators' states (`[N]` uint8, on the CPU).

        The order's generator is given as it was before it drew this epoch's order, so that it can draw it again.
        """
        return {
            "loss": self.loss,
            "generator/order": self._epoch_order,
            **{f"generator/{name}": generator.get_state() for name, generator in self._others.items()},
            **{f"network/{name}": tensor for name, tensor in self.network.state_dict().items()},
            **{
                f"{_OPTIMIZER}{key}/{name}": value
                for name, parameter in self.network.named_parameters()
                for key, value in self.optimizer.state.get(parameter, {}).items()
            },
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave, on a network that has not been trained yet; see `Resumable`."""
        self._check(tensors)
        self.loss.copy_(tensors["loss"])
        for name, generator in {"order": self.order, **self._others}.items():
            generator.set_state(tensors[f"generator/{name}"])
        self._epoch_order = self.order.get_state()
        for name, tensor in self.network.state_dict().items():
            tensor.copy_(tensors[f"network/{name}"])
        for name, parameter, key in self._optimized(tensors):
            # In the parameter's own memory layout, in which an undisturbed training has it.
            self.optimizer.state[parameter][key] = torch.empty_like(parameter.detach()).copy_(tensors[name])

    def _optimized(self, tensors: Mapping[str, Tensor]) -> list[tuple[str, nn.Parameter, str]]:
        """What the optimizer keeps for a parameter: the tensor's name, the parameter, and the optimizer's key."""
        parameters = dict(self.network.named_parameters())
        found = []
        for name in tensors:
            key, _, parameter = name.removeprefix(_OPTIMIZER).partition("/")
            if name.startswith(_OPTIMIZER) and parameter in parameters:
                found.append((name, parameters[parameter], key))
        return found

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        wanted = {name: _form(tensor) for name, tensor in self.tensors().items()}
        wanted |= {name: _form(parameter) for name, parameter, _ in self._optimized(tensors)}
        found = {name: _form(tensor) for name, tensor in tensors.items()}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise CheckpointError(
                    f"the checkpoint does not fit: its {name!r} is {found.get(name, 'missing')},"
                    f" not {wanted.get(name, 'missing')}"
                )


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
