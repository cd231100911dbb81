"""An architecture as a `torch.nn.Module`: one builder and one interpreter for every search space.

A network is first built on the `meta` device, where tensors have a shape but no memory: this infers every shape, and
rejects an impossible or absurdly large network before anything is allocated.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import INPUTS, Architecture, InvalidArchitecture, Node
from child_trainer.architectures.operation_types import BUILDERS
from child_trainer.hyperparameters import own_regime
from child_trainer.networks.operations import Shape, Site, factory_of, keeps_shape
from child_trainer.regime import DEFAULT_REGIME, Initial, Regime

Network = TypeVar("Network", bound=nn.Module)

MAX_PARAMETERS = 2**31
"""Upper bound on a network's parameters (8 GiB of float32, three times that in training)."""
MAX_ELEMENTS = 2**31
"""Upper bound on the elements of a node's value for one example."""

INITIALISED = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
"""PyTorch's modules whose parameters `initialise` sets; any other must set its own."""


class ImageProblem(Protocol):
    """The properties of an image task that a network depends on."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of one image, `(channels, height, width)`."""
        ...

    @property
    def num_classes(self) -> int:
        """The number of logits that the classifier returns."""
        ...


class Graph(nn.Module):
    """An architecture's nodes, run in order; a value is freed after its last reader."""

    def __init__(self, architecture: Architecture, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.inputs = INPUTS[architecture.kind]
        self.outputs = architecture.outputs
        self.nodes = architecture.ordered
        # A list, because a node may have a name that `nn.ModuleDict` rejects ("a.b", "keys").
        self.operations = nn.ModuleList(modules[n.name] for n in self.nodes)
        main = {n.name for n in architecture.without_auxiliary().live_nodes()}
        self._all = _steps(self.nodes, range(len(self.nodes)), self.outputs)
        self._main = _steps(self.nodes, [i for i, n in enumerate(self.nodes) if n.name in main], self.outputs[:1])

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs, in order, from the inputs of the architecture's kind; all are `[B, ...]` float32."""
        return self._run(inputs, self._all, self.outputs)

    def main(self, *inputs: Tensor) -> Tensor:
        """Compute the first output of a feed-forward graph, without the operations of an auxiliary head."""
        return self._run(inputs, self._main, self.outputs[:1])[0]

    def auxiliary_operations(self) -> list[nn.Module]:
        """Return the modules on which only the output of an auxiliary head depends."""
        main = {index for index, _ in self._main}
        return [self.operations[index] for index, _ in self._all if index not in main]

    def _run(self, inputs: tuple[Tensor, ...], steps: "Steps", outputs: tuple[str, ...]) -> tuple[Tensor, ...]:
        values = dict(zip(self.inputs, inputs, strict=True))
        for index, freed in steps:
            n = self.nodes[index]
            values[n.name] = self.operations[index](*(values[source] for source in n.inputs))
            for name in freed:
                del values[name]
        return tuple(values[name] for name in outputs)


class Classifier(nn.Module):
    """A feed-forward graph, global average pooling if it ends in feature maps, and a linear layer (spec §1.3).

    A graph with a second output has an auxiliary head of the same form on it, which serves training alone. Further
    outputs are not read.

    Args:
        graph: computes the features and, optionally, those of the auxiliary head.
        features: the shape of each of its outputs.
        num_classes: as in `ImageProblem`.
    """

    def __init__(self, graph: Graph, features: Sequence[Shape], num_classes: int) -> None:
        super().__init__()
        self.graph = graph
        self.head = nn.Linear(features[0][0], num_classes)
        self.auxiliary_head = nn.Linear(features[1][0], num_classes) if len(features) > 1 else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[B, num_classes]` of images `[B, C, H, W]`, all float32."""
        return self.head(pooled(self.graph.main(images)))

    def with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the network and of its auxiliary head, which it must have, as `forward` does."""
        assert self.auxiliary_head is not None
        features, auxiliary, *_ = self.graph(images)
        return self.head(pooled(features)), self.auxiliary_head(pooled(auxiliary))

    def auxiliary_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the auxiliary head and of the operations that only it depends on."""
        for module in self.graph.auxiliary_operations():
            yield from module.parameters()
        if self.auxiliary_head is not None:
            yield from self.auxiliary_head.parameters()


def pooled(features: Tensor) -> Tensor:
    """Return features `[B, C]`: those of maps `[B, C, H, W]` averaged over each map."""
    return features.mean((2, 3)) if features.dim() == 4 else features


def build(
    architecture: Architecture,
    task: ImageProblem,
    *,
    generator: torch.Generator | None = None,
    regime: Regime = DEFAULT_REGIME,
) -> Classifier:
    """Build the classifier that a feed-forward architecture describes, on the CPU, ready to train.

    Args:
        architecture: of kind `feedforward`; nodes that no output depends on are left out.
        task: has the image's shape and the number of classes.
        generator: draws the initial weights; default: PyTorch's global generator.
        regime: has the constants of batch normalisation and the form of the initial weights.

    Raises:
        InvalidArchitecture: it is recurrent, a node cannot take its inputs, or the network is too large.
    """
    return _materialise(classifier_on_meta(architecture, task, regime), generator, regime.initial)


def classifier_on_meta(architecture: Architecture, task: ImageProblem, regime: Regime = DEFAULT_REGIME) -> Classifier:
    """Build a classifier without memory for its weights, to know its shapes and sizes.

    Raises:
        InvalidArchitecture: as `build` does.
    """
    if architecture.kind != "feedforward":
        raise InvalidArchitecture(f"an image task needs a feedforward architecture, got a {architecture.kind} one")
    live = architecture.pruned()
    with torch.device("meta"):
        graph, features = _graph(live, (task.input_shape,), None, regime)
        return Classifier(graph, features, task.num_classes)


def build_cell(
    architecture: Architecture, input_size: int, hidden_size: int, *, generator: torch.Generator | None = None
) -> Graph:
    """Build one step of a recurrent cell (spec §2.1), on the CPU, ready to train.

    It maps x `[B, input_size]`, h and c `[B, hidden_size]` to the next h and c, or to the next h alone.

    Raises:
        InvalidArchitecture: it is feed-forward, a node cannot take its inputs, or a next state does not have the
            hidden size.
    """
    return _materialise(cell_on_meta(architecture, input_size, hidden_size), generator)


def cell_on_meta(architecture: Architecture, input_size: int, hidden_size: int) -> Graph:
    """Build one step of a recurrent cell without memory for its weights, to know its shapes and sizes.

    Raises:
        InvalidArchitecture: it is feed-forward, a node cannot take its inputs, or a next state does not have the
            hidden size.
    """
    if architecture.kind != "recurrent":
        raise InvalidArchitecture(f"a cell needs a recurrent architecture, got a {architecture.kind} one")
    live = architecture.pruned()
    with torch.device("meta"):
        graph, shapes = _graph(live, ((input_size,), (hidden_size,), (hidden_size,)), hidden_size)
    for name, shape in zip(live.outputs, shapes, strict=True):
        if shape != (hidden_size,):
            raise InvalidArchitecture(f"output {name!r} has shape {shape}; a next state must be ({hidden_size},)")
    return graph


Steps = list[tuple[int, tuple[str, ...]]]
"""The nodes to run, in order: each one's index, and the names whose values no later one reads."""


def _steps(nodes: tuple[Node, ...], indices: Sequence[int], outputs: tuple[str, ...]) -> Steps:
    """Return the steps that compute the outputs by the nodes with these indices."""
    seen = set(outputs)
    steps: Steps = []
    for index in reversed(indices):
        read = nodes[index].inputs
        # Sorted, so that the order does not depend on string hashing.
        steps.append((index, tuple(sorted(set(read) - seen))))
        seen.update(read)
    return steps[::-1]


def _graph(
    architecture: Architecture, shapes: tuple[Shape, ...], hidden_size: int | None, regime: Regime = DEFAULT_REGIME
) -> tuple[Graph, tuple[Shape, ...]]:
    """Build the graph on the `meta` device; return it with the shapes of its outputs."""
    modules, shape_of = build_nodes(architecture, shapes, hidden_size, regime)
    return Graph(architecture, modules), tuple(shape_of[name] for name in architecture.outputs)


def build_nodes(
    architecture: Architecture,
    shapes: tuple[Shape, ...],
    hidden_size: int | None,
    regime: Regime,
    build: Callable[[Site], tuple[nn.Module, Shape]] | None = None,
) -> tuple[dict[str, nn.Module], dict[str, Shape]]:
    """Build the module of each node, and infer the shape of each value without its batch, both by name.

    Args:
        architecture: its nodes are all built.
        shapes: of the inputs of its kind.
        hidden_size: of a recurrent cell.
        regime: has the constants of batch normalisation, unless the architecture has its own as hyperparameters.
        build: builds the module of one node, with its output's shape; default: `build_node`.

    Raises:
        InvalidArchitecture: a node cannot take its inputs, the network is too large, or a hyperparameter is impossible.
    """
    try:
        regime = own_regime(regime, dict(architecture.hyperparameters))
    except ValueError as error:
        raise InvalidArchitecture(f"the network's own hyperparameters cannot be used: {error}") from error
    shape_of: dict[str, Shape] = dict(zip(INPUTS[architecture.kind], shapes, strict=True))
    modules: dict[str, nn.Module] = {}
    parameters = 0
    for n in architecture.ordered:
        site = Site(n, tuple(shape_of[source] for source in n.inputs), hidden_size, regime)
        modules[n.name], shape_of[n.name] = (build or build_node)(site)
        parameters += sum(p.numel() for p in modules[n.name].parameters())
        if parameters > MAX_PARAMETERS:
            raise InvalidArchitecture(
                f"the network has {parameters:,} parameters at node {n.name!r}; at most {MAX_PARAMETERS:,} are allowed"
            )
    return modules, shape_of


def build_node(site: Site) -> tuple[nn.Module, Shape]:
    """Build the module of one node; return it with its output's shape.

    Raises:
        InvalidArchitecture: the node cannot take its inputs, or its output is too large.
    """
    if site.node.op in BUILDERS:
        module, result = _build_own(site)
    else:
        try:
            module, result = _run_once(site)
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            # The first line of PyTorch's own errors (a size beyond 64 bits, a negative size) gives the reason.
            reason = str(error).partition("\n")[0]
            raise InvalidArchitecture(f"{_refusal(site)}: {reason}") from error
    shape = tuple(result.shape[1:])
    if math.prod(shape) > MAX_ELEMENTS:
        raise InvalidArchitecture(f"{_refusal(site)}: its output {shape} is too large to compute")
    return module, shape


def _run_once(site: Site) -> tuple[nn.Module, Tensor]:
    """Return the module of a node, and what it computes from a single example."""
    # In evaluation mode: batch normalisation cannot train on the single example that is run here.
    module = factory_of(site.node.op)(site).eval()
    return module, _run_for_shape(module, *(torch.empty((1, *shape)) for shape in site.shapes))


def _build_own(site: Site) -> tuple[nn.Module, Tensor]:
    """Do `_run_once` for an operation of the user's own, which may raise and return anything."""
    module: object = None
    try:
        module = factory_of(site.node.op)(site)
        if not isinstance(module, nn.Module):
            raise TypeError(f"`build` must return a torch.nn.Module, got {type(module).__name__}")
        result = _run_for_shape(module.eval(), *(torch.empty((1, *shape)) for shape in site.shapes))
        if not isinstance(result, Tensor):
            raise TypeError(f"`forward` must return a tensor, got {type(result).__name__}")
        for part in module.modules():
            if not isinstance(part, INITIALISED) and next(part.parameters(recurse=False), None) is not None:
                _reset_of(part)
    except InvalidArchitecture:
        raise
    except (Exception, SystemExit) as error:
        reason = str(error).partition("\n")[0]
        if isinstance(error, ValueError):  # by which an operation refuses its place
            raise InvalidArchitecture(f"{_refusal(site)}: {reason}") from error
        method = "forward" if isinstance(module, nn.Module) else "build"
        where = f"node {site.node.name!r} ({site.node.op})"
        raise InvalidArchitecture(f"{where}: its `{method}` failed: {type(error).__name__}: {reason}") from error
    return module, result


def _run_for_shape(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Return a tensor of the shape that the module's output has.

    What keeps the shape is left out: on the `meta` device it takes PyTorch longer than convolutions.
    """
    if type(module) is not nn.Sequential:
        return module(*inputs)
    (values,) = inputs
    for layer in module:
        if not keeps_shape(layer):
            values = layer(values)
    return values


def _refusal(site: Site) -> str:
    shapes = ", ".join(str(shape) for shape in site.shapes)
    return f"node {site.node.name!r} ({site.node.op}) cannot take inputs of shape {shapes}"


def _materialise(network: Network, generator: torch.Generator | None, initial: Initial = "he") -> Network:
    network.to_empty(device="cpu").train()
    for module in network.modules():
        initialise(module, generator, initial)
    return network


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None, initial: Initial) -> None:
    """Initialise a module's own parameters: normalisation with 1 and 0, all else as `Regime.initial` says.

    With `he`: convolutions after He, linear maps uniformly within 1/sqrt(inputs). With `xavier`: both uniformly within
    sqrt(6 / (inputs + outputs)), biases with 0 (Glorot and Bengio 2010). With `identity`: as with `he`, but
    convolutions of stride 1 with as many outputs as inputs are the identity (delta kernels: Qi et al. 2020, arXiv
    2006.16992), so that paths that share weights begin with features of one meaning.
    """
    if initial == "xavier" and isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Conv2d):
        if initial == "identity" and _can_be_identity(module):
            nn.init.dirac_(module.weight, groups=module.groups)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.in_features)
        module.weight.uniform_(-bound, bound, generator=generator)
        if module.bias is not None:
            module.bias.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.reset_parameters()
    elif next(module.parameters(recurse=False), None) is not None:
        _initialise_own(module, generator)


def _can_be_identity(convolution: nn.Conv2d) -> bool:
    """Return whether a kernel exists that returns the input: with an even side, it has no middle."""
    same_channels = convolution.in_channels == convolution.out_channels
    odd = all(side % 2 for side in convolution.kernel_size)
    return same_channels and odd and set(convolution.stride) == {1}


def _initialise_own(module: nn.Module, generator: torch.Generator | None) -> None:
    """Set the parameters of a user's own module by its `reset_parameters`, which draws from PyTorch's generator."""
    reset = _reset_of(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        reset()


def _reset_of(module: nn.Module) -> Callable[[], object]:
    """Return the method by which a user's own module sets its parameters.

    Raises:
        InvalidArchitecture: it has none.
    """
    reset = getattr(module, "reset_parameters", None)
    if not callable(reset):
        raise InvalidArchitecture(f"{type(module).__name__} has parameters and no `reset_parameters` that sets them")
    return reset
