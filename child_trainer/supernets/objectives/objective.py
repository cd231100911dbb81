"""What shared weights and strengths are moved by: an objective, as pure functions of what a worker has pulled.

A step of an objective is one or several half-steps, each with a push after it. Those before which the step has not
moved the weights read the same ones. A half-step first draws its gates, from which follows what it reads, and then
differentiates. The strengths of an option are the numbers that a searcher learns for it (alpha); a gate is what the
option counts in one forward pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args, get_type_hints

import torch
from torch import Generator, Tensor

from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.network import SupernetNetwork

Tensors = Mapping[str, Tensor]

Costs = Mapping[str, tuple[float, ...]]
"""What each option costs, such as its latency in µs, by the name of the gate: a look-up table. A gate that several
nodes share has the sum over them."""

Learnt = Literal["weights", "strengths"]
"""What a half-step has gradients of."""

Batch = tuple[Tensor, Tensor]
"""Images `[B, C, H, W]` float32, prepared for the network, and their classes `[B]` int64; or words of a text, and those
that follow (`text_batches.py`)."""


class Batches(Protocol):
    """The data of one half-step."""

    def training(self) -> Batch:
        """Return a batch by which weights are learnt."""
        ...

    def validation(self) -> Batch:
        """Return a batch by which strengths are learnt, of images that no weights are learnt by."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What a half-step found.

    Attributes:
        weights: the gradient of each weight that it read and that the loss depends on, by name.
        strengths: the gradient of each strength, by name.
        loss: on the batch that it was differentiated on, as far as it depends on the data.
        accuracy: on the same batch.
        reward: of sampled paths on average, if the objective has rewards.
    """

    weights: dict[str, Tensor]
    strengths: dict[str, Tensor]
    loss: float
    accuracy: float
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """The gates of a half-step.

    Attributes:
        gates: for each group of images in the batch (usually one) or each sampled path. They have gradients where
            strengths are learnt by them.
        strengths: that the gates depend on, as leaves of the gates' graph; none if the gates are constants.
        seed: of dropout in the forward passes.
    """

    gates: tuple[Gates, ...]
    strengths: Tensors = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Numbers of an objective; each one adds its own.

    Raises:
        ValueError: a value is impossible; the message names the field and what would be right.
    """

    progress: float = 0.0
    """Share of the search that is behind this step, 0 to 1; what changes in a search changes with it."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes."""
    l2: float = 0.0
    """Penalty on the weights that a step reads: l2 times the sum of their squares."""
    clip_norm: float = 0.0
    """Gradients of the weights are scaled down to this norm, over all of them together; 0: never."""

    def __post_init__(self) -> None:
        self.require("progress", 0 <= self.progress <= 1, "from 0 to 1")
        self.require("label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1")
        self.require("l2", self.l2 >= 0, "0 or more")
        self.require("clip_norm", self.clip_norm >= 0, "0 or more")

    def require(self, name: str, holds: bool, what: str) -> None:
        """Raise `ValueError` about a field unless the condition on it holds."""
        if not holds:
            raise ValueError(f"`{name}` must be {what}, got {getattr(self, name)!r}")


S_contra = TypeVar("S_contra", bound=Settings, contravariant=True)
S = TypeVar("S", bound=Settings)


class DrawGates(Protocol[S_contra]):
    """Draws the gates of a half-step."""

    def __call__(self, sizes: Mapping[str, int], given: Gates, settings: S_contra, generator: Generator, /) -> Draw:
        """Return gates that depend on nothing but the arguments.

        Args:
            sizes: the length of each gate.
            given: the strengths by name; of a given path, its gates; nothing for an objective that needs neither.
            settings: the objective's.
            generator: on the CPU.
        """
        ...


class Differentiate(Protocol[S_contra]):
    """Differentiates in a half-step."""

    def __call__(
        self,
        network: SupernetNetwork,
        batches: Batches,
        weights: Tensors,
        draw: Draw,
        settings: S_contra,
        costs: Costs,
        /,
    ) -> Step:
        """Return the gradients that the arguments give; the same ones give the same, to the bit."""
        ...


@dataclass(frozen=True, kw_only=True)
class HalfStep(Generic[S_contra]):
    """A part of a step with a push of its own.

    Attributes:
        draw: draws the gates.
        differentiate: finds the gradients.
        learns: what these are of.
        period: returns, given the settings, at each how many steps it is due.
    """

    draw: DrawGates[S_contra]
    differentiate: Differentiate[S_contra]
    learns: frozenset[Learnt] = frozenset({"weights"})
    period: Callable[[S_contra], int] = lambda settings: 1

    def names(self, network: SupernetNetwork, draw: Draw) -> list[str]:
        """Return the names of the weights that `step` will read, in the network's order."""
        read = {name for gates in draw.gates for name in network.names(gates)}
        return [name for name in network.shapes if name in read]

    def step(
        self,
        network: SupernetNetwork,
        batches: Batches,
        weights: Tensors,
        draw: Draw,
        settings: S_contra,
        costs: Costs | None = None,
    ) -> Step:
        """Return the gradients.

        Args:
            network: the supernet.
            batches: the data, of which it takes one batch or both.
            weights: has each of `names`.
            draw: what the half-step drew.
            settings: the objective's, the same as for `draw`.
            costs: of each option, for objectives that count costs.
        """
        return self.differentiate(network, batches, weights, draw, settings, costs or {})


@dataclass(frozen=True, kw_only=True)
class Objective(Generic[S]):
    """How a supernet is trained.

    Attributes:
        settings: the class of its settings.
        half_steps: the parts of a step, in order.
        reads_strengths: whether what they draw depends on strengths.
    """

    settings: type[S]
    half_steps: tuple[HalfStep[S], ...]
    reads_strengths: bool = False

    def settings_of(self, values: Mapping[str, Any]) -> S:
        """Return the settings with these values, and defaults for all others.

        Raises:
            ValueError: a name is unknown, or a value has the wrong type or is impossible.
        """
        types = get_type_hints(self.settings)
        known = [f.name for f in fields(self.settings)]
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"the objective has no setting {name!r}; it has {', '.join(known)}")
            accepted = get_args(types[name]) or (types[name],)
            if not (value in accepted or type(value) in accepted or (float in accepted and type(value) is int)):
                raise ValueError(f"`{name}` must be {' or '.join(map(_word, accepted))}, got {value!r}")
        return self.settings(**values)

    def due(self, step: int, settings: S) -> tuple[HalfStep[S], ...]:
        """Return the half-steps that are due at a step, counted from 0."""
        return tuple(half for half in self.half_steps if step % half.period(settings) == 0)


def _word(accepted: object) -> str:
    names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", type(None): "unset"}
    return names.get(accepted, repr(accepted)) if isinstance(accepted, type) else repr(accepted)


STRENGTHS: frozenset[Learnt] = frozenset({"strengths"})
"""What a half-step learns that leaves the weights alone."""


def draw_seed(generator: Generator) -> int:
    """Return a seed for the dropout of a half-step."""
    return int(torch.randint(2**62, (), generator=generator))


def leaves(strengths: Gates) -> dict[str, Tensor]:
    """Return the strengths as leaves of a new graph, in which gates have gradients."""
    return {name: torch.as_tensor(value).detach().clone().requires_grad_() for name, value in strengths.items()}
