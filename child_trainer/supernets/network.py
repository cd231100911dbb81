"""A supernet that computes: a function of weights, images and gates, all given from outside (S8)."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.architectures.gates import gate_sizes
from child_trainer.networks.build import ImageProblem, build_nodes, initialise
from child_trainer.networks.weights import WrongWeights, parameter_names
from child_trainer.regime import DEFAULT_REGIME, Initial, Regime
from child_trainer.supernets.gated_graph import Gate, GatedGraph, Gates, build_gated_node
from child_trainer.supernets.plan import Planner, Step, Use
from child_trainer.supernets.restriction import check_gates

if TYPE_CHECKING:
    from child_trainer.supernets.gated_language_model import GatedLanguageModel

Tensors = Mapping[str, Tensor]

PLANS = 32
"""Plans of forward passes that a network remembers; one of a large supernet takes about a megabyte."""

_Norm = nn.BatchNorm1d | nn.BatchNorm2d

_Plan = tuple[list[Step], dict[str, str], dict[str, str]]
"""Steps, with the parameters and the statistics that they read: our names, each with PyTorch's."""


class SupernetNetwork(nn.Module):
    """A supernet's operations without weights: a forward pass is given those of the paths that it computes.

    It computes what the restriction of the supernet to the same gates does, to the bit, with weights of the same names
    (`networks/weights.py`). Batch normalisation uses the batch's own statistics, in training and evaluation, unless
    `forward` is given others; dropout obeys `train()` and `eval()`. It takes long to build and is built once a process;
    only one thread may use it at a time.

    Args:
        supernet: a feed-forward graph with `mix` nodes; an auxiliary head is left out.
        task: has the image's shape and the number of classes.
        regime: has the constants of batch normalisation and the form of the initial weights.

    Attributes:
        gate_sizes: the length of each gate vector, by its name.
        shapes: the shape of each parameter by its name, in the order of the nodes.
        unpenalised: the names of parameters that no penalty on weights is for.

    Raises:
        InvalidArchitecture: it is not feed-forward, a node cannot take its inputs, nodes of one gate have not equally
            many inputs, or an operation of the user's own keeps tensors that are no parameters.
    """

    around = "the classifier"
    """What is around the supernet's nodes, for people."""

    def __init__(self, supernet: Architecture, task: ImageProblem, regime: Regime = DEFAULT_REGIME) -> None:
        super().__init__()
        live = supernet.without_auxiliary().pruned()
        self.gate_sizes = gate_sizes(live)
        self._initial: Initial = regime.initial
        self._planner = Planner(live)
        self._plans: OrderedDict[tuple[tuple[Use, ...], ...], _Plan] = OrderedDict()
        with torch.device("meta"):
            self._graph = self._make_graph(live, task, regime)
        nodes_path = self._graph.nodes_path
        parts = [self._paths(n.name, f"{nodes_path}.{i}") for i, n in enumerate(live.ordered)]
        # By part, what is around the nodes last: our names, each with PyTorch's.
        self._parameter_paths = (*(parameters for parameters, _ in parts), self._graph.around())
        self._statistic_paths = (*(statistics for _, statistics in parts), dict[str, str]())
        self._norms = [m for m in self._graph.modules() if isinstance(m, _Norm)]
        for norm in self._norms:
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
            # Where statistics are kept, they are PyTorch's cumulative means.
            norm.track_running_stats, norm.momentum = False, None
        for name, _ in self._graph.named_buffers():
            place, _, own = name.removeprefix(f"{nodes_path}.").partition(".")
            raise InvalidArchitecture(
                f"node {live.ordered[int(place)].name!r} keeps a tensor that is no parameter, {own!r}; weights that are"
                " shared are parameters"
            )
        self.unpenalised: frozenset[str] = frozenset()
        self.shapes = {
            name: self._graph.get_parameter(path).shape
            for paths in self._parameter_paths
            for name, path in paths.items()
        }
        if len(self.shapes) < len(list(self._graph.parameters())):
            own = {name.partition("/")[0] for name in self._graph.around()}
            node = next(n.name for n in live.ordered if n.name in own)
            raise InvalidArchitecture(f"a node {node!r} and {self.around} have parameters of one name; rename the node")
        self.train()

    def _make_graph(self, supernet: Architecture, task: Any, regime: Regime) -> "GatedGraph | GatedLanguageModel":
        """Return the module of the supernet on the `meta` device, from the constructor's arguments."""
        if supernet.kind != "feedforward":
            raise InvalidArchitecture(f"a supernet of images is feedforward, got a {supernet.kind} one")
        modules, shapes = build_nodes(supernet, (task.input_shape,), None, regime, build_gated_node)
        return GatedGraph(supernet, modules, shapes, nn.Linear(shapes[supernet.outputs[0]][0], task.num_classes))

    def _paths(self, name: str, path: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return our names of the parameters and of the buffers of a part, each with PyTorch's."""
        module = self._graph.get_submodule(path)
        ours = {theirs: f"{name}/{own}" for theirs, own in parameter_names(module).items()}
        parameters, buffers = (
            {ours[theirs]: f"{path}.{theirs}" for theirs, _ in tensors}
            for tensors in (module.named_parameters(), module.named_buffers())
        )
        return parameters, buffers

    def train(self, mode: bool = True) -> Self:
        """Set whether dropout drops; batch normalisation uses the batch's statistics all the same."""
        super().train(mode)
        for norm in self._norms:
            norm.train()
        return self

    def initial(self, seed: int) -> dict[str, Tensor]:
        """Return the first weights by name, on the CPU: those of the regime, drawn from one seed."""
        graph, generator = deepcopy(self._graph).to_empty(device="cpu"), torch.Generator().manual_seed(seed)
        for module in graph.modules():
            initialise(module, generator, self._initial)
        return {
            name: graph.get_parameter(path).detach() for paths in self._parameter_paths for name, path in paths.items()
        }

    def names(self, gates: Gates) -> list[str]:
        """Return the names of the parameters that a forward pass with these gates reads, in the order of the nodes.

        Raises:
            ValueError: the gates do not fit.
        """
        return list(self._plan(self._uses(gates))[1])

    def common_names(self) -> list[str]:
        """Return the names of the parameters that every path reads, in the order of the nodes."""
        parts = [*self._planner.always(), -1]
        return [name for part in parts for name in self._parameter_paths[part]]

    def path_shapes(self, gates: Gates) -> dict[str, torch.Size]:
        """Return the shapes of the parameters that the path has as a network of its own, by name."""
        return {name: self.shapes[name] for name in self.names(gates)}

    def forward(self, weights: Tensors, images: Tensor, gates: Gates, statistics: Tensors | None = None) -> Tensor:
        """Compute logits `[B, num_classes]` float32.

        An input of a mix whose gate is 0 is not computed; if the gate has a gradient, it is, but without gradients.

        Args:
            weights: has each of `names(gates)`, on the images' device; others are not looked at.
            images: `[B, C, H, W]` float32.
            gates: as many numbers for each gate as its size says.
            statistics: of batch normalisation, from `refit` with the same gates, instead of the batch's.

        Raises:
            ValueError: the gates do not fit.
            WrongWeights: a tensor is missing or has another shape.
        """
        return self._compute(weights, images, gates, statistics)

    def _compute(
        self, weights: Tensors, inputs: Tensor, gates: Gates, statistics: Tensors | None, *more: object
    ) -> Any:
        """Return what the supernet's module computes from inputs, and what more it takes, as `forward` describes."""
        uses = self._uses(gates)
        steps, parameters, running = self._plan(uses)
        tensors, arguments = self._weights(weights, parameters), (inputs, gates, uses, steps, *more)
        if statistics is None:
            return functional_call(self._graph, tensors, arguments, tie_weights=False)
        for name, path in running.items():
            if name not in statistics:
                raise WrongWeights(
                    f"these gates use the statistic {name!r}, which is not given; refit with these gates"
                )
            tensors[path] = statistics[name]
        for norm in self._norms:
            norm.eval()
        try:
            return functional_call(self._graph, tensors, arguments, tie_weights=False)
        finally:
            for norm in self._norms:
                norm.train()

    @torch.no_grad()
    def refit(self, weights: Tensors, gates: Gates, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        """Return statistics of batch normalisation for these gates, by name: means over the batches.

        With them, the score of a path does not depend on which images are in a batch. Without, shared weights rank
        paths worse (Guo et al. 2020, arXiv 1904.00420, section 3.4).

        Args:
            weights: as for `forward`.
            gates: as for `forward`.
            batches: images `[B, C, H, W]` float32 each, prepared as those that will be scored.

        Raises:
            ValueError: the gates do not fit, or there are no batches.
            WrongWeights: a tensor is missing or has another shape.
        """
        uses = self._uses(gates)
        steps, parameters, found = self._plan(uses)
        tensors = self._weights(weights, parameters)
        running: dict[str, Tensor] = {}
        for norm in self._norms:
            norm.track_running_stats = True
        try:
            for images in batches:
                running = running or {path: self._first_statistic(path, tensors) for path in found.values()}
                functional_call(self._graph, tensors | running, (images, gates, uses, steps), tie_weights=False)
        finally:
            for norm in self._norms:
                norm.track_running_stats = False
        if found and not running:
            raise ValueError("statistics are refit on at least one batch, got none")
        return {name: running[path] for name, path in found.items()}

    def _first_statistic(self, path: str, weights: Tensors) -> Tensor:
        module, _, name = path.rpartition(".")
        like = next(iter(weights.values()))
        if name == "num_batches_tracked":
            return torch.zeros((), dtype=torch.int64, device=like.device)
        norm = self._graph.get_submodule(module)
        assert isinstance(norm, _Norm)
        return like.new_zeros(norm.num_features)

    def _uses(self, gates: Gates) -> dict[str, tuple[Use, ...]]:
        check_gates(self.gate_sizes, gates)
        return {name: _uses_of(gates[name]) for name in self.gate_sizes}

    def _plan(self, uses: Mapping[str, tuple[Use, ...]]) -> _Plan:
        key = tuple(uses.values())
        if key not in self._plans:
            steps = self._planner.plan(uses)
            parts = [*(step.index for step in steps), -1]
            parameters, statistics = (
                {name: path for part in parts for name, path in paths[part].items()}
                for paths in (self._parameter_paths, self._statistic_paths)
            )
            self._plans[key] = steps, parameters, statistics
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _weights(self, weights: Tensors, parameters: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the weights by PyTorch's names."""
        tensors = {}
        for name, path in parameters.items():
            if name not in weights:
                raise WrongWeights(f"these gates use the parameter {name!r}, for which no weights are given")
            # What is not among the shapes was generated, and fits.
            if weights[name].shape != self.shapes.get(name, weights[name].shape):
                shapes = tuple(self.shapes[name]), tuple(weights[name].shape)
                raise WrongWeights(f"the parameter {name!r} has the shape {shapes[0]}, got {shapes[1]}")
            tensors[path] = weights[name]
        return tensors


def _uses_of(gate: Gate) -> tuple[Use, ...]:
    if isinstance(gate, Tensor):
        return tuple([_use(number, gate.requires_grad) for number in gate.tolist()])
    return tuple(
        [_use(n.item(), n.requires_grad) if isinstance(n, Tensor) else _use(n, has_gradient=False) for n in gate]
    )


def _use(number: float, has_gradient: bool) -> Use:
    if number == 0:
        return Use.DETACHED if has_gradient else Use.NONE
    return Use.PLAIN if number == 1 and not has_gradient else Use.WEIGHED
