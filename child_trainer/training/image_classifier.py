"""Classification by stochastic gradient descent on images that stay on the device (spec §1.6)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.outcome import Budget
from child_trainer.training.augment import Augmentation
from child_trainer.training.epochs import global_generator, make_optimizer, run_epochs
from child_trainer.training.state import SgdState
from child_trainer.training.task import Diverged, Progress

EVALUATION_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Images:
    """Images and their classes, whole, on one device.

    Attributes:
        pixels: `[N, C, H, W]` uint8: a quarter of the memory of float32, and standardised batch by batch.
        labels: `[N]` int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, share: float) -> "Images":
        """The first `share` of them, at least one."""
        count = max(1, round(len(self) * share))
        return Images(self.pixels[:count], self.labels[:count])

    def to(self, device: str | torch.device) -> "Images":
        """The same images on a device; no copy if they are there already."""
        return Images(self.pixels.to(device), self.labels.to(device))


def standardise(pixels: Tensor) -> Tensor:
    """Each image as `(x - mean) / max(std, 1 / sqrt(N))`, N its number of values: `[B, C, H, W]` float32.

    The whitening of spec §1.6. The bound keeps an image of one colour finite (it becomes all zeros).
    """
    images = pixels.float()
    variance, mean = torch.var_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    smallest = images[0].numel() ** -0.5
    return (images - mean) / variance.sqrt().clamp_min(smallest)


def fit(
    network: nn.Module,
    training: Images,
    evaluate: Callable[[nn.Module], float],
    budget: Budget,
    progress: Progress,
    *,
    augment: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> None:
    """Train `network` in place, reporting a metric after each epoch.

    Momentum SGD after Nesterov with a constant learning rate (spec §1.6). An epoch is a new order of all images
    in full batches; an incomplete last one is left out, because batch normalisation cannot train on one image.
    What an earlier part of this training saved through `progress` is gone on from.

    Args:
        network: is moved to the images' device.
        training: what the gradients come from.
        evaluate: the network's validation metric, asked for after each epoch.
        budget: epochs, batch size and the optimizer's settings.
        progress: is told each epoch's metric, and may end the training.
        augment: standardised images `[B, C, H, W]` to what the network is trained on; an `Augmentation` if it draws
            random numbers and the training is to go on from checkpoints.
        generator: draws the order, on the images' device.

    Raises:
        Diverged: a loss or an output is NaN or infinite.
        OverTime, Preempted: `progress` said so.
    """
    # Channels last is the layout that convolutions compute in: about a fifth faster on a CPU.
    network.to(training.labels.device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (missing in PyTorch's stub)
    state = SgdState(
        network,
        make_optimizer(network, budget),
        training.labels,
        order=generator,
        others=_drawn_from(augment, training.labels.device),
    )

    def train_epoch(epoch: int) -> Tensor:
        return _train_epoch(state, training, budget.batch_size, augment, progress)

    run_epochs(state, budget.epochs, progress, train_epoch, lambda: evaluate(network))


def accuracy(network: nn.Module, images: Images, prepare: Callable[[Tensor], Tensor]) -> float:
    """The share of images, standardised and then prepared, that the network puts in the right class.

    Raises:
        Diverged: an output is NaN or infinite, so that its class means nothing.
    """
    was_training = network.training
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    finite = torch.ones((), dtype=torch.bool, device=images.labels.device)
    with torch.inference_mode():
        for start in range(0, len(images), EVALUATION_BATCH):
            batch = slice(start, start + EVALUATION_BATCH)
            logits = network(prepare(standardise(images.pixels[batch])))
            finite &= logits.isfinite().all()
            correct += (logits.argmax(1) == images.labels[batch]).sum()
    network.train(was_training)
    if not finite:
        raise Diverged("the network's outputs on the validation images are not finite")
    return correct.item() / len(images)


def _drawn_from(augment: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, torch.Generator]:
    """The generators that a step draws from: the augmentation's, and the device's global one, which dropout uses."""
    own = {"augmentation": augment.generator} if isinstance(augment, Augmentation) else {}
    return {"global": global_generator(device), **own}


def _train_epoch(
    state: SgdState, images: Images, batch_size: int, augment: Callable[[Tensor], Tensor], progress: Progress
) -> Tensor:
    """The sum of the steps' losses: NaN or infinite if one of them was. Read once, so a GPU never waits.

    Begins after the steps that an earlier part of the training has done (`progress.step`).
    """
    network, optimizer = state.network, state.optimizer
    order = torch.randperm(len(images), generator=state.order, device=images.labels.device)
    size = min(batch_size, len(images))
    for step in range(progress.step, len(images) // size):
        progress.before_step(step)
        batch = order[step * size : (step + 1) * size]
        inputs = augment(standardise(images.pixels[batch])).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(inputs), images.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state.loss += loss.detach()
    total = state.loss
    state.next_epoch()
    return total
