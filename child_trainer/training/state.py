"""The state of a training by SGD as named tensors, saved and restored to the bit."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from child_trainer.training.checkpoint import CheckpointError

_OPTIMIZER = "optimizer/"
"""The prefix of the names of the optimizer's tensors, which exist only after its first step."""

_STEPS = "step"
"""The optimizers' key of a parameter's number of steps, a scalar on the CPU; all else has the parameter's shape."""


class SgdState:
    """The state of a network's training between two steps (a `training.task.Resumable`).

    Args:
        network: on its device, in the memory format that it is trained in.
        optimizer: of the network's parameters.
        data: the training data in its order, or a tensor that distinguishes it from other data.
        order: the generator of each epoch's order, if there is one.
        others: the other generators that a step draws from, by name.
        carried: the tensors that a step passes on to the next step of its epoch, by name, with their values at the
            start of an epoch.
        settings: further settings that the steps depend on and that are not in the budget or the network, as text.
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
        """The tensors that the last step passed on."""
        self.restarts: int | None = None
        """How often the training has begun again; `None` for one that never may."""
        self._others = others
        self._data = data
        self._settings = settings
        self._first_carried = dict(self.carried)
        self._epoch_order = order and order.get_state()

    def next_epoch(self) -> None:
        """Reset to the start of the next epoch, before its order is drawn."""
        self.loss = torch.zeros_like(self.loss)
        self.carried = dict(self._first_carried)
        self._epoch_order = self.order and self.order.get_state()

    def begin_again(self, network: nn.Module) -> None:
        """Reset to the start of a training with the weights and buffers of another network of the same form."""
        self.network.load_state_dict(network.state_dict())
        self.optimizer.state.clear()
        self.restarts = (self.restarts or 0) + 1

    def fingerprint(self) -> str:
        """Return a digest of the data and the settings; another split, or a part of another size, has another."""
        return hashlib.sha256(self._data.cpu().numpy().tobytes() + self._settings.encode()).hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, buffers, optimizer state, loss, carried tensors, generators' states ([N] uint8 on the CPU).

        The state of the order's generator is that before it drew this epoch's order, so that it can draw it again.
        """
        return {
            "loss": self.loss,
            **({} if self.restarts is None else {"restarts": torch.tensor(self.restarts)}),
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
        """Restore what `tensors` returned, on a network that has not been trained yet.

        Raises:
            CheckpointError: the tensors do not fit; nothing has been changed.
        """
        self.check(tensors)
        self.loss.copy_(tensors["loss"])
        if self.restarts is not None:
            self.restarts = int(tensors["restarts"])
        order = {} if self.order is None else {"order": self.order}
        for name, generator in {**order, **self._others}.items():
            generator.set_state(tensors[f"generator/{name}"])
        self._epoch_order = self.order and self.order.get_state()
        # Each tensor keeps its own device: the checkpoint may have been saved on another.
        self.carried = {name: t.clone().copy_(tensors[f"carried/{name}"]) for name, t in self.carried.items()}
        for name, tensor in self.network.state_dict().items():
            tensor.copy_(tensors[f"network/{name}"])
        for name, parameter, key in self._optimizer_tensors(tensors):
            # The memory layout is the parameter's, as in an uninterrupted training.
            place = torch.empty(()) if key == _STEPS else torch.empty_like(parameter.detach())
            self.optimizer.state[parameter][key] = place.copy_(tensors[name])

    def _optimizer_tensors(self, tensors: Mapping[str, Tensor]) -> list[tuple[str, nn.Parameter, str]]:
        """Return, for each tensor of the optimizer's state, its name, its parameter, and the optimizer's key."""
        parameters = dict(self.network.named_parameters())
        entries = []
        for name in tensors:
            key, _, parameter = name.removeprefix(_OPTIMIZER).partition("/")
            if name.startswith(_OPTIMIZER) and parameter in parameters:
                entries.append((name, parameters[parameter], key))
        return entries

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise `CheckpointError` unless the tensors have the names, dtypes and shapes of this state."""
        expected = {name: _format(tensor) for name, tensor in self.tensors().items()}
        expected |= {
            name: _format(torch.empty(()) if key == _STEPS else parameter)
            for name, parameter, key in self._optimizer_tensors(tensors)
        }
        saved = {name: _format(tensor) for name, tensor in tensors.items()}
        for name in sorted(expected.keys() | saved.keys()):
            if expected.get(name) != saved.get(name):
                raise CheckpointError(
                    f"the checkpoint does not fit: its {name!r} is {saved.get(name, 'missing')},"
                    f" not {expected.get(name, 'missing')}"
                )


def _format(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
