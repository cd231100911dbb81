"""All that training by SGD changes, as named tensors and back, to the bit."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from child_trainer.training.checkpoint import CheckpointError

_OPTIMIZER = "optimizer/"
"""Begins the names of the optimizer's tensors, which there are only after its first step."""


class SgdState:
    """A network in training, between two steps (`tasks.task.Resumable`).

    Args:
        network: on its device, in the memory format that it is trained in.
        optimizer: of its parameters.
        data: what the network is trained on, or what tells it from other data, in its order.
        order: draws the order of each epoch, if there is one.
        others: by name, the other generators that a step draws from.
        carried: by name, what a step hands on to the next one of its epoch, as the first one is to find it.
        settings: in words, what else the steps depend on that neither the budget nor the network tells.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Tensor,
        *,
        order: Generator | None = None,
        others: Mapping[str, Generator],
        carried: Mapping[str, Tensor] | None = None,
        settings: str = "",
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.order = order
        self.loss = torch.zeros((), device=data.device)
        """The sum of this epoch's losses so far."""
        self.carried = dict(carried or {})
        """What the last step has handed on."""
        self._others = others
        self._data = data
        self._settings = settings
        self._first_carried = dict(self.carried)
        self._epoch_order = order and order.get_state()

    def next_epoch(self) -> None:
        """Nothing of the next epoch has happened, its order included."""
        self.loss = torch.zeros_like(self.loss)
        self.carried = dict(self._first_carried)
        self._epoch_order = self.order and self.order.get_state()

    def fingerprint(self) -> str:
        """Of the data and the settings: another split, or a part of another size, has another."""
        return hashlib.sha256(self._data.cpu().numpy().tobytes() + self._settings.encode()).hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers, optimizer state, loss, what is carried, generators' states (`[N]` uint8 on the CPU).

        The order's generator is given as it was before it drew this epoch's order, so that it can draw it again.
        """
        return {
            "loss": self.loss,
            **({} if self._epoch_order is None else {"generator/order": self._epoch_order}),
            **{f"carried/{name}": tensor for name, tensor in self.carried.items()},
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
        own = {} if self.order is None else {"order": self.order}
        for name, generator in {**own, **self._others}.items():
            generator.set_state(tensors[f"generator/{name}"])
        self._epoch_order = self.order and self.order.get_state()
        # To each tensor its own device: what was saved on one may be restored on another.
        self.carried = {name: t.clone().copy_(tensors[f"carried/{name}"]) for name, t in self.carried.items()}
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
