"""Classification with several seeds at once: K networks of one architecture, trained as one (HFTA: Wang et al. 2021).

Each network sees its own images in its own order with its own random changes, has its own loss, and ends as it would
alone, up to the order in which sums are taken. One that diverges does not concern the others, as no value of it reaches
them.

Shapes: K networks; B images of a step; C channels of an image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.networks.horizontal_fusion import FusedClassifier
from child_trainer.outcome import Budget
from child_trainer.regime import Precision
from child_trainer.training.augment import Augmentation
from child_trainer.training.checkpoint import CheckpointError
from child_trainer.training.epochs import computing_in, make_optimizer, run_epochs, set_rate
from child_trainer.training.image_classifier import Images, PreparedImages
from child_trainer.training.state import SgdState
from child_trainer.training.task import Diverged, Progress

_OWN = ("curves", "diverged_in", "diverged_loss")
"""The names of the tensors that a fused training has beside those of any other."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The generators of one network's training, on the images' device.

    Attributes:
        order: draws the order of the images.
        augment: changes prepared images `[B, C, H, W]` float32.
    """

    order: torch.Generator
    augment: Augmentation


class FusedState:
    """The state of K trainings between two epochs (a `training.task.Resumable`).

    Args:
        network: on its device, in the memory format that it is trained in.
        optimizer: of its parameters.
        data: as of `SgdState`.
        draws: of each network.
        epochs: of the whole training.
    """

    def __init__(
        self,
        network: FusedClassifier,
        optimizer: torch.optim.Optimizer,
        data: Tensor,
        draws: Sequence[Draws],
        epochs: int,
    ) -> None:
        generators = {f"order {number}": each.order for number, each in enumerate(draws)}
        generators |= {f"augmentation {number}": each.augment.generator for number, each in enumerate(draws)}
        self.network, self.optimizer, self.draws = network, optimizer, draws
        self.curves = torch.full((network.networks, epochs), torch.nan, dtype=torch.float64)
        """`[K, epochs]`: the metric of each network after each epoch; NaN after its last one."""
        self.diverged_in = torch.zeros(network.networks, dtype=torch.int64)
        """`[K]`: the epoch (from 1) in which a network diverged; 0 for one that did not."""
        self.diverged_loss = torch.zeros(network.networks)
        """`[K]`: the loss with which it diverged; a finite one if its outputs were not finite."""
        self._sgd = SgdState(network, optimizer, data, others=generators)

    def fingerprint(self) -> str:
        """Return a digest of the training data."""
        return self._sgd.fingerprint()

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the state by name."""
        return self._sgd.tensors() | {name: getattr(self, name) for name in _OWN}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` returned; raise `CheckpointError` if it does not fit, with nothing changed."""
        if any(name not in tensors or tensors[name].shape != getattr(self, name).shape for name in _OWN):
            raise CheckpointError("the checkpoint does not fit: it is of another number of trainings or epochs")
        self._sgd.restore({name: tensor for name, tensor in tensors.items() if name not in _OWN})
        for name in _OWN:
            getattr(self, name).copy_(tensors[name])

    def curve(self, number: int) -> tuple[float, ...]:
        """Return the metrics of one network after its finished epochs."""
        metrics = self.curves[number]
        return tuple(metrics[~metrics.isnan()].tolist())

    def failure(self, number: int) -> Diverged | None:
        """Return the error of a network that has diverged."""
        epoch, loss = int(self.diverged_in[number]), self.diverged_loss[number]
        if not epoch:
            return None
        if loss.isfinite():
            return Diverged("the network's outputs are not finite")
        return Diverged(f"the training loss is {loss.item()} in epoch {epoch}")

    def mark(self, epoch: int, losses: Tensor, broken: Tensor) -> None:
        """Record that networks diverged in an epoch; one that had diverged before stays as it was.

        Args:
            epoch: from 1.
            losses: `[K]` of the epoch.
            broken: `[K]` bool: which networks have.

        Raises:
            Diverged: all networks have.
        """
        new = broken.cpu() & (self.diverged_in == 0)
        self.diverged_in[new], self.diverged_loss[new] = epoch, losses.cpu()[new].float()
        if (self.diverged_in > 0).all():
            raise Diverged("every network of a fused training has diverged")


def fit(
    state: FusedState,
    training: Images,
    validation: PreparedImages,
    budget: Budget,
    progress: Progress,
    *,
    prepare: Callable[[Tensor], Tensor] | None,
) -> None:
    """Train K networks as one, as the budget's regime says; `state` has the curve of each.

    An epoch is what it is for one network (`image_classifier.fit`). The training can be interrupted between two epochs.

    Args:
        state: at the start of a training.
        training: the training images, on the network's device.
        validation: the images by which each network is judged after each epoch.
        budget: epochs, batch size, the optimizer's settings and the regime, which must not begin again.
        progress: takes the mean metric after each epoch.
        prepare: as of `image_classifier.fit`.

    Raises:
        Diverged: all networks have diverged.
        OverTime, Preempted: raised by `progress`.
    """
    prepared = PreparedImages(training, prepare or (lambda images: images))
    precision = budget.regime.precision
    latest = torch.zeros(state.network.networks)

    def train_epoch(epoch: int) -> Tensor:
        nonlocal latest
        latest = _train_epoch(state, prepared, budget, epoch)
        state.mark(epoch, latest, ~latest.isfinite())
        return latest[latest.isfinite()].sum()

    def evaluate() -> float:
        epoch = len(progress.curve) + 1
        metrics, finite = accuracies(state.network, validation, precision)
        state.mark(epoch, torch.zeros_like(latest), ~finite)
        well = state.diverged_in == 0
        state.curves[well, epoch - 1] = metrics.cpu()[well]
        return float(metrics.cpu()[well].mean())

    run_epochs(state, budget.epochs, progress, train_epoch, evaluate)


def prepared_network(network: FusedClassifier, budget: Budget, device: torch.device) -> torch.optim.Optimizer:
    """Bring a network to its device and into the layout that it is trained in, and return its optimizer."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (missing in PyTorch's stub)
    return make_optimizer(network, budget)


@torch.inference_mode()
def accuracies(
    network: FusedClassifier, images: PreparedImages, precision: Precision = "float32"
) -> tuple[Tensor, Tensor]:
    """Return the share of images that each network classifies correctly, `[K]` float64, and which outputs are finite.

    The network is in the same mode, training or evaluation, afterwards as before.
    """
    device, networks = images.images.labels.device, network.networks
    was_training = network.training
    network.eval()
    correct = torch.zeros(networks, dtype=torch.int64, device=device)
    finite = torch.ones(networks, dtype=torch.bool, device=device)
    with computing_in(precision, device):
        for batch, labels in images.batches():
            logits = network(batch.repeat(1, networks, 1, 1))
            finite &= logits.isfinite().all(2).all(0)
            correct += (logits.argmax(2) == labels[:, None]).sum(0)
    network.train(was_training)
    return correct.double() / len(images.images), finite


def _train_epoch(state: FusedState, prepared: PreparedImages, budget: Budget, epoch: int) -> Tensor:
    """Train one epoch (counted from 1), and return the sum of the steps' losses of each network, `[K]`."""
    regime, images, network = budget.regime, prepared.images, state.network
    device = images.labels.device
    orders = [torch.randperm(len(images), generator=each.order, device=device) for each in state.draws]
    size = min(budget.batch_size, len(images))
    steps = len(images) // size
    total = torch.zeros(network.networks, device=device)
    for step in range(steps):
        set_rate(state.optimizer, regime.rate(budget.learning_rate, epoch - 1 + step / steps, budget.epochs))
        places = [order[step * size : (step + 1) * size] for order in orders]
        inputs = [each.augment(prepared.chosen(batch)) for each, batch in zip(state.draws, places, strict=True)]
        labels = torch.stack([images.labels[batch] for batch in places], dim=1)
        losses = _losses(network, torch.cat(inputs, dim=1), labels, budget)
        state.optimizer.zero_grad()
        losses.sum().backward()
        if regime.clip_norm is not None:
            clip_each(network, regime.clip_norm)
        state.optimizer.step()
        total += losses.detach()
    return total


def _losses(network: FusedClassifier, images: Tensor, labels: Tensor, budget: Budget) -> Tensor:
    """Return the cross-entropy of each network, `[K]`.

    Args:
        network: the K networks.
        images: `[B, K * C, H, W]`.
        labels: `[B, K]`.
        budget: has the regime.
    """
    regime = budget.regime
    with computing_in(regime.precision, images.device):
        logits = network(images.contiguous(memory_format=torch.channels_last))
    each = F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=regime.label_smoothing
    )
    return each.view_as(labels).mean(0)


@torch.no_grad()
def clip_each(network: FusedClassifier, clip_norm: float) -> None:
    """Scale the gradient of each network down to a norm, as `nn.utils.clip_grad_norm_` does that of one."""
    parameters: list[nn.Parameter] = [p for p in network.parameters() if p.grad is not None]
    each = [p.grad.reshape(network.networks, -1) for p in parameters if p.grad is not None]
    norms = torch.stack([gradient.square().sum(1) for gradient in each]).sum(0).sqrt()
    factors = (clip_norm / (norms + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        assert parameter.grad is not None
        rest = (1,) * (parameter.dim() - 1)
        parameter.grad *= factors.repeat_interleave(len(parameter) // network.networks).view(-1, *rest)
