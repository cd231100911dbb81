"""An architecture as a `torch.nn.Module`: one builder and one interpreter for every search space.

A network is first built on the `meta` device, where tensors have a shape and no memory: this infers every shape,
and an impossible or absurdly large network is refused before anything is allocated.
"""

import math
from collections.abc import Mapping
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import INPUTS, Architecture, InvalidArchitecture, Node
from child_trainer.networks.operations import Shape, Site, factory_of

Network = TypeVar("Network", bound=nn.Module)

MAX_PARAMETERS = 2**31
"""More parameters than this (8 GiB of float32, three times that in training) are refused."""
MAX_ELEMENTS = 2**31
"""A node's value for one example may not have more elements than this."""


class ImageProblem(Protocol):
    """What a network must know of an image task: `input_shape` is `(channels, height, width)`."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one image."""
        ...

    @property
    def num_classes(self) -> int:
        """How many logits the classifier gives."""
        ...


class Graph(nn.Module):
    """An architecture's nodes, run one after the other; a value is freed after its last reader."""

    def __init__(self, architecture: Architecture, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.inputs = INPUTS[architecture.kind]
        self.outputs = architecture.outputs
        self.nodes = architecture.ordered
        # A list, because a node may have a name that an `nn.ModuleDict` does not take ("a.b", "keys").
        self.operations = nn.ModuleList(modules[n.name] for n in self.nodes)
        self.freed = _freed_after(self.nodes, self.outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Every input of the architecture's kind, `[B, ...]` each, to its outputs, in order."""
        values = dict(zip(self.inputs, inputs, strict=True))
        for n, operation, freed in zip(self.nodes, self.operations, self.freed, strict=True):
            values[n.name] = operation(*(values[source] for source in n.inputs))
            for name in freed:
                del values[name]
        return tuple(values[name] for name in self.outputs)


class Classifier(nn.Module):
    """A feed-forward graph, global average pooling if it ends in feature maps, and a linear layer (spec §1.3)."""

    def __init__(self, graph: Graph, features: Shape, num_classes: int) -> None:
        super().__init__()
        self.graph = graph
        self.head = nn.Linear(features[0], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` to logits `[B, num_classes]`."""
        (features,) = self.graph(images)
        return self.head(features.mean((2, 3)) if features.dim() == 4 else features)


def build(architecture: Architecture, task: ImageProblem, *, generator: torch.Generator | None = None) -> Classifier:
    """The classifier that a feed-forward architecture describes, on the CPU, ready to train.

    Args:
        architecture: of kind `feedforward`; its dead nodes are left out.
        task: gives the image's shape and the number of classes.
        generator: draws the initial weights; without one, PyTorch's global generator does.

    Raises:
        InvalidArchitecture: it is recurrent, a node cannot take what reaches it, or the network is too large.
    """
    if architecture.kind != "feedforward":
        raise InvalidArchitecture(f"an image task needs a feedforward architecture, got a {architecture.kind} one")
    live = architecture.pruned()
    with torch.device("meta"):
        graph, (features,) = _graph(live, (task.input_shape,), None)
        network = Classifier(graph, features, task.num_classes)
    return _materialise(network, generator)


def build_cell(
    architecture: Architecture, input_size: int, hidden_size: int, *, generator: torch.Generator | None = None
) -> Graph:
    """One step of a recurrent cell (spec §2.1): `x [B, input_size], h, c [B, hidden_size] -> (h, c)` or `(h,)`.

    Raises:
        InvalidArchitecture: as `cell_on_meta` does.
    """
    return _materialise(cell_on_meta(architecture, input_size, hidden_size), generator)


def cell_on_meta(architecture: Architecture, input_size: int, hidden_size: int) -> Graph:
    """The same without memory for its weights: to know its shapes and sizes.

    Raises:
        InvalidArchitecture: it is feed-forward, a node cannot take what reaches it, or a next state does not
            have the hidden size.
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


def _freed_after(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> list[tuple[str, ...]]:
    """For each node, the names whose value nobody reads after it."""
    seen = set(outputs)
    freed = []
    for n in reversed(nodes):
        # Sorted, so that the order never depends on string hashing.
        freed.append(tuple(sorted(set(n.inputs) - seen)))
        seen.update(n.inputs)
    return freed[::-1]


def _graph(
    architecture: Architecture, shapes: tuple[Shape, ...], hidden_size: int | None
) -> tuple[Graph, tuple[Shape, ...]]:
    """The graph on the `meta` device, and its outputs' shapes."""
    known: dict[str, Shape] = dict(zip(INPUTS[architecture.kind], shapes, strict=True))
    modules: dict[str, nn.Module] = {}
    parameters = 0
    for n in architecture.ordered:
        site = Site(n, tuple(known[source] for source in n.inputs), hidden_size)
        modules[n.name], known[n.name] = _place(site)
        parameters += sum(p.numel() for p in modules[n.name].parameters())
        if parameters > MAX_PARAMETERS:
            raise InvalidArchitecture(
                f"the network has {parameters:,} parameters at node {n.name!r}; at most {MAX_PARAMETERS:,} are allowed"
            )
    return Graph(architecture, modules), tuple(known[name] for name in architecture.outputs)


def _place(site: Site) -> tuple[nn.Module, Shape]:
    """The module for one node and the shape of what it gives, or `InvalidArchitecture` that says why not."""
    try:
        # In evaluation, since batch normalisation refuses to train on the single example that is run here.
        module = factory_of(site.node.op)(site).eval()
        result = module(*(torch.empty((1, *shape)) for shape in site.shapes))
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        # PyTorch's own refusals (a size beyond 64 bits, a negative one) explain themselves in their first line.
        reason = str(error).partition("\n")[0]
        raise InvalidArchitecture(f"{_where(site)}: {reason}") from error
    shape = tuple(result.shape[1:])
    if math.prod(shape) > MAX_ELEMENTS:
        raise InvalidArchitecture(f"{_where(site)}: its output {shape} is too large to compute")
    return module, shape


def _where(site: Site) -> str:
    shapes = ", ".join(str(shape) for shape in site.shapes)
    return f"node {site.node.name!r} ({site.node.op}) cannot take inputs of shape {shapes}"


def _materialise(network: Network, generator: torch.Generator | None) -> Network:
    network.to_empty(device="cpu").train()
    for module in network.modules():
        _initialise(module, generator)
    return network


@torch.no_grad()
def _initialise(module: nn.Module, generator: torch.Generator | None) -> None:
    """He for convolutions, uniform within 1/sqrt(inputs) for linear maps, ones and zeros for normalisation."""
    if isinstance(module, nn.Conv2d):
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


def _initialise_own(module: nn.Module, generator: torch.Generator | None) -> None:
    """Set the parameters of a user's own module by its `reset_parameters`, which draws from PyTorch's generator."""
    reset = getattr(module, "reset_parameters", None)
    if reset is None:
        raise InvalidArchitecture(f"{type(module).__name__} has parameters and no `reset_parameters` that sets them")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        reset()
