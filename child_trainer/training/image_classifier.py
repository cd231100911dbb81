"""Classification by stochastic gradient descent on images that stay on the device (spec §1.6)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.networks.build import Classifier
from child_trainer.networks.operations import DropPath
from child_trainer.outcome import Budget
from child_trainer.regime import Precision, Regime
from child_trainer.training.augment import Augmentation
from child_trainer.training.epochs import (
    computing_in,
    global_generator,
    make_optimizer,
    run_epochs,
    set_rate,
    take_step,
    use_gradients,
)
from child_trainer.training.recorded_pass import Capture, RecordedPass, capture_for, record
from child_trainer.training.state import SgdState
from child_trainer.training.task import Diverged, Progress, TaskError

EVALUATION_BATCH = 1000
"""Images that are evaluated at once, on a GPU."""

CPU_EVALUATION_BATCH = 128
"""Images that are evaluated at once on a CPU: their feature maps stay in its caches.

It divides like 1000 by the rows that matrix products take at once, so that the last bits are those of batches of 1000.
"""

MAX_PREPARED_BYTES = 192 * 2**20
"""Images are prepared once for a whole training if they take no more memory than this, and otherwise at each use."""


@dataclass(frozen=True, slots=True)
class Images:
    """A data set of images and their classes, on one device.

    Attributes:
        pixels: `[N, C, H, W]` uint8, a quarter of the memory of float32; standardised batch by batch.
        labels: `[N]` int64.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, right, value, dimensions, dtype in (
            ("pixels", "[N, C, H, W] of uint8", self.pixels, 4, torch.uint8),
            ("labels", "[N] of int64", self.labels, 1, torch.int64),
        ):
            if not isinstance(value, Tensor) or value.dim() != dimensions or value.dtype != dtype:
                raise TaskError(f"`{name}` of images must be a tensor {right}, got {_form(value)}")
        if len(self.pixels) != len(self.labels):
            raise TaskError(f"there must be a label for each image, got {len(self.pixels)} and {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def check(self, what: str, shape: tuple[int, ...], classes: int) -> None:
        """Raise `TaskError` unless the images have this shape `(C, H, W)`, and labels from 0 to `classes`, exclusive.

        `what` is what they are, for the message.
        """
        if (found := tuple(self.pixels.shape[1:])) != tuple(shape):
            raise TaskError(f"{what} must have images of shape {tuple(shape)}, got {found}")
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes:
            raise TaskError(
                f"{what} must have labels from 0 to {classes - 1}, of {classes} classes, got"
                f" {int(self.labels.min())} to {int(self.labels.max())}"
            )

    def first(self, share: float) -> "Images":
        """Return the first `share` of the images, at least one."""
        count = max(1, round(len(self) * share))
        return Images(self.pixels[:count], self.labels[:count])

    def to(self, device: str | torch.device) -> "Images":
        """Return the images on a device; no copy if they are there already."""
        return Images(self.pixels.to(device), self.labels.to(device))


def _form(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"


def standardise(pixels: Tensor) -> Tensor:
    """Return each image as `(x - mean) / max(std, 1 / sqrt(N))`, where N is its number of values.

    This is the whitening of spec §1.6. The bound keeps an image of one colour finite (it becomes all zeros).

    Args:
        pixels: `[B, C, H, W]` of any dtype.

    Returns:
        `[B, C, H, W]` float32.
    """
    images = pixels.float()
    variance, mean = torch.var_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    smallest = images[0].numel() ** -0.5
    return (images - mean) / variance.sqrt().clamp_min(smallest)


class PreparedImages:
    """Images as a network sees them, but for random changes: computed once and kept if they are few.

    Args:
        images: the data set.
        prepare: changes standardised images `[B, C, H, W]` float32, each independently of the others.
    """

    def __init__(self, images: Images, prepare: Callable[[Tensor], Tensor]) -> None:
        self.images = images
        self._prepare = prepare
        self._size = CPU_EVALUATION_BATCH if images.labels.device.type == "cpu" else EVALUATION_BATCH
        self._batches: list[Tensor] = []
        self._all: Tensor | None = None

    @cached_property
    def few(self) -> bool:
        """Whether they are kept."""
        one = self._prepare(standardise(self.images.pixels[:1]))
        return one.untyped_storage().nbytes() * len(self.images) <= MAX_PREPARED_BYTES

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images `[B, C, H, W]` float32 and their classes `[B]`, in their order."""
        if self.few and not self._batches:
            self._batches = list(self._computed())
        return zip(self._batches or self._computed(), self.images.labels.split(self._size), strict=True)

    def chosen(self, places: Tensor) -> Tensor:
        """Return the images `[B, C, H, W]` float32 at these places `[B]` int64."""
        if not self.few:
            return self._prepare(standardise(self.images.pixels[places]))
        if self._all is None:
            self._all = torch.cat(list(self._computed()))
        return self._all[places]

    def _computed(self) -> Iterator[Tensor]:
        return (self._prepare(standardise(pixels)) for pixels in self.images.pixels.split(self._size))


def fit(  # noqa: PLR0913  (all but the first five are options)
    network: nn.Module,
    training: Images,
    evaluate: Callable[[nn.Module], float],
    budget: Budget,
    progress: Progress,
    *,
    augment: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    prepare: Callable[[Tensor], Tensor] | None = None,
    make_again: Callable[[int], nn.Module] | None = None,
    capture: Capture | None = None,
) -> None:
    """Train `network` in place as the budget's regime says, and report a metric after each epoch.

    An epoch is a new order of all images in full batches; an incomplete last batch is left out, because batch
    normalisation cannot train on one image. Training resumes from the checkpoint that an earlier part of it saved
    through `progress`.

    Args:
        network: is moved to the images' device.
        training: the training images.
        evaluate: returns the network's validation metric; called after each epoch.
        budget: epochs, batch size, the optimizer's settings and the regime.
        progress: takes each epoch's metric, and may stop the training.
        augment: changes prepared images `[B, C, H, W]` float32 before the network sees them; must be an
            `Augmentation` if it draws random numbers and the training is to resume from checkpoints.
        generator: draws the order of the images, on their device.
        prepare: changes standardised images `[B, C, H, W]` float32 first, each in the same way in every epoch and
            independently of the others.
        make_again: returns the network with other initial weights, on the CPU, for a restart of this number (from 1);
            without it, the training never begins again.
        capture: records the passes of the steps, which are then replayed; `None`: `capture_for` decides.

    Raises:
        Diverged: a loss or an output is NaN or infinite.
        OverTime, Preempted: raised by `progress`.
    """
    # Convolutions compute in the channels-last layout: about a fifth faster on a CPU.
    network.to(training.labels.device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (missing in PyTorch's stub)
    state = SgdState(
        network,
        make_optimizer(network, budget),
        training.labels,
        order=generator,
        others=_step_generators(augment, training.labels.device),
    )
    threshold = budget.regime.restart_below
    state.restarts = None if threshold is None else 0

    prepared = PreparedImages(training, prepare or (lambda images: images))
    steps = budget.epochs * (len(training) // min(budget.batch_size, len(training)))
    take = _Steps(state, budget.regime, capture or capture_for(network, training.labels.device, steps))

    def train_epoch(epoch: int) -> Tensor:
        return _train_epoch(state, prepared, budget, augment, progress, take)

    def begin_again(metric: float) -> bool:
        number = (state.restarts or 0) + 1
        if make_again is None or threshold is None or metric > threshold or number > budget.regime.restarts:
            return False
        state.begin_again(make_again(number))
        return True

    run_epochs(state, budget.epochs, progress, train_epoch, lambda: evaluate(network), begin_again)


def accuracy(network: nn.Module, images: PreparedImages, precision: Precision = "float32") -> float:
    """Return the share of images that the network classifies correctly.

    Args:
        network: is in the same mode, training or evaluation, afterwards as before.
        images: as they are evaluated.
        precision: as in `Regime`.

    Raises:
        Diverged: an output is NaN or infinite, so that its class is meaningless.
    """
    device = images.images.labels.device
    was_training = network.training
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    finite = torch.ones((), dtype=torch.bool, device=device)
    with torch.inference_mode(), computing_in(precision, device):
        for batch, labels in images.batches():
            logits = network(batch)
            finite &= logits.isfinite().all()
            correct += (logits.argmax(1) == labels).sum()
    network.train(was_training)
    if not finite:
        raise Diverged("the network's outputs are not finite")
    return correct.item() / len(images.images)


def _step_generators(augment: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, torch.Generator]:
    """Return the generators that a step draws from: the augmentation's, and the device's global one for dropout."""
    augmentation = {"augmentation": augment.generator} if isinstance(augment, Augmentation) else {}
    return {"global": global_generator(device), **augmentation}


class _Steps:
    """Takes the steps of a training: by a recorded pass where there is one, and else by one that is computed anew."""

    def __init__(self, state: SgdState, regime: Regime, capture: Capture | None) -> None:
        self._state, self._regime, self._capture = state, regime, capture
        self._recorded: RecordedPass | None = None

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        """Change the weights by the gradient of a batch."""
        state, clip_norm = self._state, self._regime.clip_norm
        # Not a method: a recording that held these steps would outlive its training, and keep its memory of the GPU.
        loss = partial(_loss, state.network, regime=self._regime)
        if self._capture is not None and self._recorded is None:
            self._recorded = record(state.network, loss, inputs, labels, self._capture)
            self._capture = None  # one attempt: where it failed, it would fail again
        if self._recorded is None:
            take_step(state, loss(inputs, labels), clip_norm)
        else:
            use_gradients(state, self._recorded(inputs, labels), clip_norm)


def _train_epoch(
    state: SgdState,
    prepared: PreparedImages,
    budget: Budget,
    augment: Callable[[Tensor], Tensor],
    progress: Progress,
    take: _Steps,
) -> Tensor:
    """Train one epoch, and return the sum of the steps' losses: NaN or infinite if one of them is.

    It starts after the steps that an earlier part of the training has done (`progress.step`). The losses are summed on
    the device and read once, so that a GPU never waits.
    """
    regime, epoch, images = budget.regime, len(progress.curve), prepared.images
    initial = budget.learning_rate * regime.restart_decay ** (state.restarts or 0)
    paths = [module for module in state.network.modules() if isinstance(module, DropPath)]
    order = torch.randperm(len(images), generator=state.order, device=images.labels.device)
    size = min(budget.batch_size, len(images))
    steps = len(images) // size
    for step in range(progress.step, steps):
        progress.before_step(step)
        set_rate(state.optimizer, regime.rate(initial, epoch + step / steps, budget.epochs))
        for path in paths:
            path.advance(regime.path_keep, (epoch + step / steps) / budget.epochs)
        batch = order[step * size : (step + 1) * size]
        inputs = augment(prepared.chosen(batch)).contiguous(memory_format=torch.channels_last)
        take(inputs, images.labels[batch])
    total = state.loss
    state.next_epoch()
    return total


def _loss(network: nn.Module, inputs: Tensor, labels: Tensor, *, regime: Regime) -> Tensor:
    """Return the cross-entropy of a step, with that of the auxiliary head if there is one and the regime weighs it."""
    smoothing, weight = regime.label_smoothing, regime.auxiliary_weight
    if not (weight and isinstance(network, Classifier) and network.auxiliary_head is not None):
        with computing_in(regime.precision, inputs.device):
            logits = network(inputs)
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
    with computing_in(regime.precision, inputs.device):
        logits, others = network.with_auxiliary(inputs)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
    return loss + weight * F.cross_entropy(others.float(), labels, label_smoothing=smoothing)
