"""Gradients of a batch's cross-entropy with respect to weights and gates, and from gates back to strengths."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from child_trainer.supernets.gated_graph import Gate, Gates
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.objective import Batch, Draw, Settings, Tensors
from child_trainer.training.epochs import isolated_randomness

Of = Literal["weights", "gates", "both"]
"""What to differentiate with respect to."""

GateGradients = list[list[Tensor]]
"""For each of the draw's gates, the gradient of every number that has one, in order."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """A loss and its gradients.

    Attributes:
        weights: by name, of those that the loss depends on, if asked for.
        gates: if asked for.
        loss: a scalar; of a batch, the mean cross-entropy.
        accuracy: the share of images in the right class, or of words that were predicted.
    """

    weights: dict[str, Tensor]
    gates: GateGradients
    loss: Tensor
    accuracy: float


def differentiate(
    network: SupernetNetwork,
    batch: Batch,
    weights: Tensors,
    draw: Draw,
    settings: Settings,
    *,
    of: Of,
) -> Gradients:
    """Return the loss of a batch and its gradients.

    With several gates, the batch is divided into as many groups, each with gates and statistics of normalisation of its
    own.

    Args:
        network: the supernet.
        batch: images and labels.
        weights: by name.
        draw: the gates.
        settings: the objective's.
        of: what to differentiate with respect to.

    Raises:
        ValueError: there are fewer images than groups.
    """
    images, labels = batch
    count = len(draw.gates)
    if len(labels) < count:
        raise ValueError(f"a batch must have an example for each of {count} groups, got {len(labels)}")
    groups = [
        _group(network, (some, classes), weights, gates, settings, of=of, share=len(classes) / len(labels), seed=seed)
        for gates, some, classes, seed in zip(
            draw.gates,
            images.tensor_split(count),
            labels.tensor_split(count),
            range(draw.seed, draw.seed + count),
            strict=True,
        )
    ]
    sums: dict[str, Tensor] = {}
    for group in groups:
        for name, gradient in group.weights.items():
            sums[name] = sums[name] + gradient if name in sums else gradient
    loss = torch.stack([group.loss for group in groups]).sum()
    accuracy = sum(group.accuracy for group in groups)
    return Gradients(sums, [gradients for group in groups for gradients in group.gates], loss, accuracy)


def _group(  # noqa: PLR0913
    network: SupernetNetwork,
    batch: Batch,
    weights: Tensors,
    gates: Gates,
    settings: Settings,
    *,
    of: Of,
    share: float,
    seed: int,
) -> Gradients:
    """Return the gradients of a group of images, which is this share of the batch."""
    images, labels = batch
    used, variable = with_leaves(gates) if of != "weights" else (constant(gates), [])
    own = {name: weights[name].detach().requires_grad_(of != "gates") for name in network.names(used)}
    learnt = own if of != "gates" else {}
    wanted = [*learnt.values(), *variable]
    with isolated_randomness(seed, str(images.device)), torch.enable_grad():
        logits = network(own, images, used)
        loss = share * F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        # In here, too: on a GPU a convolution's backward pass is deterministic only where it is asked to be.
        found = torch.autograd.grad(loss, wanted, allow_unused=True) if wanted else ()
    of_weights = {name: gradient for name, gradient in zip(learnt, found, strict=False) if gradient is not None}
    of_gates = [
        torch.zeros_like(number) if gradient is None else gradient
        for number, gradient in zip(variable, found[len(learnt) :], strict=True)
    ]
    right = int((logits.detach().argmax(1) == labels).sum())
    return Gradients(of_weights, [of_gates], loss.detach(), share * right / labels.numel())


def with_leaves(gates: Gates) -> tuple[Gates, list[Tensor]]:
    """Return the gates with their variable numbers as leaves of a new graph, and those."""
    used: dict[str, Gate] = {}
    variable: list[Tensor] = []

    def leaf(number: Tensor) -> Tensor:
        variable.append(number.detach().requires_grad_())
        return variable[-1]

    for name, gate in gates.items():
        if isinstance(gate, Tensor):
            used[name] = leaf(gate) if gate.requires_grad else gate
        else:
            used[name] = [leaf(n) if isinstance(n, Tensor) and n.requires_grad else n for n in gate]
    return used, variable


def variable_numbers(gates: Gates) -> list[Tensor]:
    """Return the numbers, or vectors of them, that have gradients."""
    numbers = [n for gate in gates.values() for n in ([gate] if isinstance(gate, Tensor) else gate)]
    return [n for n in numbers if isinstance(n, Tensor) and n.requires_grad]


def constant(gates: Gates) -> Gates:
    """Return the gates without gradients."""
    return {
        name: gate.detach() if isinstance(gate, Tensor) else [n.item() if isinstance(n, Tensor) else n for n in gate]
        for name, gate in gates.items()
    }


def pull_back(draw: Draw, gradients: GateGradients, rest: Callable[[], Tensor] | None = None) -> dict[str, Tensor]:
    """Return the gradient of each strength, by name.

    Args:
        draw: the gates, as functions of the strengths.
        gradients: of the loss with respect to the gates.
        rest: returns what the loss has besides, a scalar that depends on the draw's strengths directly.
    """
    outputs = [number for gates in draw.gates for number in variable_numbers(gates)]
    given = [gradient for some in gradients for gradient in some]
    if rest is not None:
        with torch.enable_grad():
            outputs, given = [*outputs, rest()], [*given, None]
    strengths = list(draw.strengths.values())
    found = torch.autograd.grad(outputs, strengths, given, allow_unused=True) if outputs else [None] * len(strengths)
    return {
        name: torch.zeros_like(strength) if gradient is None else gradient
        for (name, strength), gradient in zip(draw.strengths.items(), found, strict=True)
    }


def penalised(gradients: dict[str, Tensor], weights: Tensors, read: Iterable[str], l2: float) -> dict[str, Tensor]:
    """Return the gradients with that of l2 times the sum of the squares of the weights that were read."""
    if not l2:
        return gradients
    of_penalty = {name: 2 * l2 * weights[name] for name in read}
    return gradients | {name: p + gradients[name] if name in gradients else p for name, p in of_penalty.items()}


def clipped(gradients: dict[str, Tensor], norm: float) -> dict[str, Tensor]:
    """Return the gradients scaled down to a norm, over all of them together; 0 is no limit."""
    if not norm or not gradients:
        return gradients
    scale = (norm / (get_total_norm(list(gradients.values())) + 1e-6)).clamp(max=1.0)
    return {name: gradient * scale for name, gradient in gradients.items()}


def weight_gradients(
    network: SupernetNetwork, found: Gradients, weights: Tensors, draw: Draw, settings: Settings
) -> dict[str, Tensor]:
    """Return the gradients of the weights that a draw reads, with penalty and clipping as the settings say."""
    read = {name for gates in draw.gates for name in network.names(gates)} - network.unpenalised
    names = [name for name in network.shapes if name in read]
    return clipped(penalised(found.weights, weights, names, settings.l2), settings.clip_norm)
