"""A supernet whose 1x1 convolutions have no weights of their own: a hypernetwork generates them (SMASH; spec §10)."""

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor
from torch.func import functional_call

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.networks.build import ImageProblem, initialise
from child_trainer.regime import DEFAULT_REGIME, Regime
from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.hypernetwork import HyperNetwork, generated_nodes, kernel, slots_of
from child_trainer.supernets.network import SupernetNetwork, Tensors

PREFIX = "hypernetwork/"
"""The beginning of the names of the hypernetwork's weights."""


class GeneratedSupernet(SupernetNetwork):
    """As a `SupernetNetwork`, with the weights of a hypernetwork in the place of those of the 1x1 convolutions.

    Every forward pass reads all of the hypernetwork's weights, on which there is no penalty. In training its input has
    noise from PyTorch's generator.

    Args:
        supernet: as for `SupernetNetwork`; at least one of its nodes is an ungrouped 1x1 convolution.
        task: as for `SupernetNetwork`.
        regime: as for `SupernetNetwork`.
        options: the size of the hypernetwork.

    Raises:
        InvalidArchitecture: as for `SupernetNetwork`, or there is no 1x1 convolution.
    """

    def __init__(
        self,
        supernet: Architecture,
        task: ImageProblem,
        regime: Regime = DEFAULT_REGIME,
        options: HyperOptions | None = None,
    ) -> None:
        super().__init__(supernet, task, regime)
        live = supernet.without_auxiliary().pruned()
        self._kernels = {n.name: self.shapes[f"{n.name}/conv.weight"] for n in generated_nodes(live)}
        if not self._kernels:
            raise InvalidArchitecture("a hypernetwork generates weights of 1x1 convolutions, and the supernet has none")
        self._slots, values = slots_of(live, {name: shape.numel() for name, shape in self._kernels.items()})
        with torch.device("meta"):
            self._hypernetwork = HyperNetwork(self.gate_sizes, values, options or HyperOptions())
        self._generated = {f"{name}/conv.weight" for name in self._kernels}
        own = {PREFIX + name: p.shape for name, p in self._hypernetwork.named_parameters()}
        self.unpenalised = frozenset(own)
        self.shapes = {name: shape for name, shape in self.shapes.items() if name not in self._generated} | own

    def initial(self, seed: int) -> dict[str, Tensor]:
        """Return the first weights by name, as for every supernet."""
        hypernetwork, generator = deepcopy(self._hypernetwork).to_empty(device="cpu"), torch.Generator()
        generator.manual_seed(seed)
        for module in hypernetwork.modules():
            initialise(module, generator, "he")
        weights = {name: w for name, w in super().initial(seed).items() if name not in self._generated}
        return weights | {PREFIX + name: p.detach() for name, p in hypernetwork.named_parameters()}

    def names(self, gates: Gates) -> list[str]:
        """Return the names of the weights that a forward pass reads: those of the path, and of the hypernetwork."""
        return self._with_own(super().names(gates))

    def common_names(self) -> list[str]:
        """Return the names of the weights that every path reads: its nodes' own, and the hypernetwork's."""
        return self._with_own(super().common_names())

    def path_shapes(self, gates: Gates) -> dict[str, torch.Size]:
        """Return the shapes of the parameters that the path has as a network of its own, by name."""
        kernels = {f"{name}/conv.weight": shape for name, shape in self._kernels.items()}
        return {name: kernels.get(name) or self.shapes[name] for name in super().names(gates)}

    def forward(self, weights: Tensors, images: Tensor, gates: Gates, statistics: Tensors | None = None) -> Tensor:
        """Compute logits as every supernet does, with weights generated for these gates."""
        return super().forward(self._with_generated(weights, gates), images, gates, statistics)

    def refit(self, weights: Tensors, gates: Gates, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        """Return statistics of batch normalisation as for every supernet."""
        return super().refit(self._with_generated(weights, gates), gates, batches)

    def generate(self, weights: Tensors, gates: Gates) -> dict[str, Tensor]:
        """Return the weights of the 1x1 convolutions that these gates use, by name.

        Raises:
            WrongWeights: a weight of the hypernetwork is missing or has another shape.
        """
        own = {name: name.removeprefix(PREFIX) for name in self.shapes if name in self.unpenalised}
        tensors = self._weights(weights, own)
        plane = self._hypernetwork.plane(gates, next(iter(tensors.values())).device)
        values = functional_call(self._hypernetwork, tensors, (plane,), tie_weights=False)
        used = set(super().names(gates))
        return {
            f"{name}/conv.weight": kernel(values, self._slots[name], shape)
            for name, shape in self._kernels.items()
            if f"{name}/conv.weight" in used
        }

    def _with_own(self, names: Iterable[str]) -> list[str]:
        """Return the names without what is generated, and those of the hypernetwork."""
        own = [name for name in self.shapes if name in self.unpenalised]
        return [name for name in names if name not in self._generated] + own

    def _with_generated(self, weights: Tensors, gates: Gates) -> dict[str, Tensor]:
        return {**weights, **self.generate(weights, gates)}
