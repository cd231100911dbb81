"""Image classification: data that stays on the device, and how a child is trained on it (spec §1.6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture
from child_trainer.inheritance.inherited_weights import inherited
from child_trainer.inheritance.trained_weights import Start
from child_trainer.networks import cost
from child_trainer.networks.build import Classifier, build
from child_trainer.networks.horizontal_fusion import CannotFuse, FusedClassifier, check_can_fuse
from child_trainer.networks.weights import load, named, statistics
from child_trainer.outcome import ACCURACY_BEFORE, Budget, Measure
from child_trainer.regime import Precision
from child_trainer.seeding import derive
from child_trainer.training import augment, fused_classifier
from child_trainer.training import image_classifier as sgd
from child_trainer.training.epochs import isolated_randomness, with_hyperparameters
from child_trainer.training.freed_memory import freed_memory_kept
from child_trainer.training.image_classifier import Images, PreparedImages
from child_trainer.training.task import Progress, TaskError

MAX_CPU_PIXELS = 4096
"""Pixels in a batch of images up to which a CPU trains several networks as one faster than one after another.

Up to it a step's time is that of its calls (`python -m benchmarks.child_speed digits nasnet-digits --loops now fused`).
Above, a CPU computes grouped convolutions more slowly than those of each network. The bound comes from single steps of
a few networks.
"""

UPSAMPLING = 1.25
"""Training images are enlarged by this factor before the crop back to their size: 32 -> 40 (spec §1.6)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTask:
    """Images to be classified, carved into training and validation; the test images are not in it.

    Attributes:
        name: as in `catalogue.TASKS`.
        num_classes: labels are 0 to this, exclusive.
        flip: whether a mirrored image is of the same class, and training may mirror it.
        training: in a random order fixed by the split's seed, so that its first part is a fair sample.
        validation: carved from the same source, evaluated at its centre (`centred`).
    """

    name: str
    num_classes: int
    flip: bool
    training: Images
    validation: Images

    def __post_init__(self) -> None:
        for name, images in (("training", self.training), ("validation", self.validation)):
            if not isinstance(images, Images) or not len(images):
                raise TaskError(f"`{name}` of the task {self.name!r} must be Images, at least one, got {images!r:.60}")
            images.check(f"`{name}` of the task {self.name!r}", self.input_shape, self.num_classes)

    @property
    def inherits(self) -> bool:
        """Whether its trainings can begin with given weights, and give the weights back (`training.task.Task`)."""
        return True

    @property
    def measure(self) -> Measure:
        """The share of images that are put in the right class."""
        return Measure.ACCURACY

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.training.pixels.shape[1:]
        return channels, height, width

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of a training crop: those of the original image."""
        return self.input_shape[1:]

    @property
    def upsampled_size(self) -> tuple[int, int]:
        """Height and width that a training image is enlarged to before it is cropped."""
        return enlarged(self.crop_size)

    def to(self, device: str | torch.device) -> Self:
        """Return this task with its images on a device."""
        return replace(self, training=self.training.to(device), validation=self.validation.to(device))

    def on_all_training(self) -> Self:
        """Return this task with the validation images among the training images, as after a search.

        Validation is still on those images: it says whether a training went well, and nothing of new images.
        """
        parts = (self.training, self.validation)
        pixels, labels = torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts])
        return replace(self, training=Images(pixels, labels))

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return standardised images `[B, C, H, W]` for training: enlarged, cropped, perhaps mirrored (spec §1.6)."""
        return self._changed(self._upsampled(images), generator)

    def augmented_with(self, cutout: int) -> Callable[[Tensor, torch.Generator], Tensor]:
        """Return the change of training images, with a blanked square of this side unless it is 0."""
        return _with_cutout(self.augmented, cutout)

    def _changed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return enlarged images `[B, C, H, W]` cropped, perhaps mirrored: the random part of `augmented`."""
        cropped = augment.crop(images, self.crop_size, generator)
        return augment.flip(cropped, generator) if self.flip else cropped

    def _preparation(
        self,
    ) -> tuple[Callable[[Tensor], Tensor] | None, Callable[[Tensor, torch.Generator], Tensor]]:
        """Return `augmented` in two parts, of which the first is equal in every epoch; a task's own is one part."""
        if type(self).augmented is ImageTask.augmented:
            return self._upsampled, self._changed
        return None, self.augmented

    def centred(self, images: Tensor) -> Tensor:
        """Return standardised images `[B, C, H, W]` for evaluation: up-sampled and cropped back at the centre.

        The paper does not say how it evaluates. At the images' own scale, which training never shows, accuracy is
        10 to 20 points lower and jumps from epoch to epoch; measured on digits and on Fashion-MNIST.
        """
        return centred(images)

    def accuracy(self, network: nn.Module, images: Images) -> float:
        """Return the share of images (of this task's validation or test images) that a network gets right."""
        return sgd.accuracy(network, PreparedImages(images, self.centred))

    def _evaluation(self, images: Images, precision: Precision) -> Callable[[nn.Module], float]:
        """Return `accuracy` on these images, for many networks or epochs; a task's own computes it itself."""
        if type(self).accuracy is not ImageTask.accuracy:
            return lambda network: self.accuracy(network, images)
        prepared = PreparedImages(images, self.centred)
        return lambda network: sgd.accuracy(network, prepared, precision)

    def _upsampled(self, images: Tensor) -> Tensor:
        return upsampled(images, self.upsampled_size)

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Build the architecture and train it as the budget's regime says; see `Task.fit`.

        The architecture's own hyperparameters go before the budget's settings. Weights, order and augmentation are
        drawn from generators of this child's own; the global one, which dropout uses, is put back afterwards. It can be
        interrupted before any step and continued, to the bit. With weights to begin with (`Progress.start`) it never
        begins again with others, and the accuracy before the training is measured.
        """
        settings = with_hyperparameters(budget, architecture)
        regime = settings.regime

        def make(what: str) -> Classifier:
            generator = torch.Generator().manual_seed(derive(seed, what))
            return build(architecture, self, generator=generator, regime=regime)

        network = make("weights")
        if progress.start is not None:
            network = self._inheriting(network, progress.start, settings, seed).to(device)
            progress.measurements[ACCURACY_BEFORE] = self.accuracy(network, self.validation.to(device))
        progress.parameters, progress.flops = (
            cost.parameters(network),
            cost.flops(network, torch.empty((1, *self.input_shape), device="meta")),
        )
        order = torch.Generator(device).manual_seed(derive(seed, "order"))
        changes = torch.Generator(device).manual_seed(derive(seed, "augmentation"))
        prepare, change = self._preparation()
        with freed_memory_kept(), isolated_randomness(derive(seed, "dropout"), device):
            sgd.fit(
                network,
                self.training.first(budget.train_fraction).to(device),
                self._evaluation(self.validation.to(device), regime.precision),
                settings,
                progress,
                augment=augment.Augmentation(_with_cutout(change, regime.cutout), changes),
                generator=order,
                prepare=prepare,
                make_again=None if progress.start else lambda number: make(f"weights after restart {number}"),
            )
        if progress.keeps_weights:
            progress.trained = named(network) | statistics(network)

    def why_alone(self, architecture: Architecture, budget: Budget, device: str = "cpu") -> str | None:
        """Return why trainings of this architecture must not be computed as one; `None` if they may, and it is faster.

        Raises:
            InvalidArchitecture: its own hyperparameters are impossible.
        """
        if type(self).fit is not ImageTask.fit or type(self).accuracy is not ImageTask.accuracy:
            return f"the task {self.name} trains its networks in a way of its own"
        settings = with_hyperparameters(budget, architecture)
        if settings.regime.restart_below is not None:
            return "with `restart_below` each training may begin again"
        try:
            check_can_fuse(architecture)
        except CannotFuse as error:
            return str(error)
        height, width = self.crop_size
        pixels = settings.batch_size * height * width
        if device == "cpu" and pixels > MAX_CPU_PIXELS:
            return (
                f"a CPU is slower with networks as one where a batch has more than {MAX_CPU_PIXELS:,} pixels, and this"
                f" has {pixels:,}"
            )
        return None

    def fit_together(
        self,
        architecture: Architecture,
        budget: Budget,
        progress: Progress,
        each: Sequence[Progress],
        *,
        seeds: Sequence[int],
        device: str = "cpu",
    ) -> list[Exception | None]:
        """Train the architecture with several seeds as one network, each as `fit` would but for the order of sums.

        Args:
            architecture: for which `why_alone` has no reason.
            budget: of each training.
            progress: of all together, which has the mean metric of each epoch.
            each: of each training; gets its curve, sizes and weights, the curve also if an error is raised.
            seeds: of each training.
            device: as of `fit`.

        Returns:
            The error of each training that has diverged, else `None`.

        Raises:
            Exception: as `fit`, for all of them.
        """
        settings = with_hyperparameters(budget, architecture)
        networks = [
            build(
                architecture,
                self,
                generator=torch.Generator().manual_seed(derive(seed, "weights")),
                regime=settings.regime,
            )
            for seed in seeds
        ]
        parameters = cost.parameters(networks[0])
        flops = cost.flops(networks[0], torch.empty((1, *self.input_shape), device="meta"))
        progress.parameters, progress.flops = parameters, flops
        prepare, change = self._preparation()
        draws = [
            fused_classifier.Draws(
                torch.Generator(device).manual_seed(derive(seed, "order")),
                augment.Augmentation(
                    _with_cutout(change, settings.regime.cutout),
                    torch.Generator(device).manual_seed(derive(seed, "augmentation")),
                ),
            )
            for seed in seeds
        ]
        training = self.training.first(budget.train_fraction).to(device)
        fused = FusedClassifier(architecture, networks)
        optimizer = fused_classifier.prepared_network(fused, settings, training.labels.device)
        state = fused_classifier.FusedState(fused, optimizer, training.labels, draws, settings.epochs)
        try:
            with freed_memory_kept(), isolated_randomness(derive(seeds[0], "dropout"), device):
                fused_classifier.fit(
                    state,
                    training,
                    PreparedImages(self.validation.to(device), self.centred),
                    settings,
                    progress,
                    prepare=prepare,
                )
        finally:
            for number, one in enumerate(each):
                one.curve[:] = state.curve(number)
                one.parameters, one.flops = parameters, flops
        if any(one.keeps_weights for one in each):
            fused.copy_to(networks)
            for one, network in zip(each, networks, strict=True):
                one.trained = named(network) | statistics(network)
        return [state.failure(number) for number in range(len(seeds))]

    def _inheriting(self, network: Classifier, start: Start, budget: Budget, seed: int) -> Classifier:
        """Return the child's network, on the CPU, with the weights that it begins with.

        New batch normalisation is measured on the first training images, as many as a step has.
        """
        images = self.centred(sgd.standardise(self.training.pixels[: budget.batch_size].cpu()))
        weights = inherited(
            start.parent.architecture,
            start.parent.tensors,
            start.changes,
            self,
            images,
            generator=torch.Generator().manual_seed(derive(seed, "inheritance")),
            regime=budget.regime,
        )
        load(network, weights)
        return network


def _with_cutout(
    change: Callable[[Tensor, torch.Generator], Tensor], side: int
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Return the change of images, followed by a blanked square of this side unless it is 0."""
    if not side:
        return change
    return lambda images, generator: augment.cutout(change(images, generator), side, generator)


def enlarged(size: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width that images of this height and width are up-sampled to."""
    height, width = size
    return round(height * UPSAMPLING), round(width * UPSAMPLING)


def upsampled(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images `[B, C, H, W]` in another height and width, bilinearly."""
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def centred(images: Tensor) -> Tensor:
    """Return standardised images `[B, C, H, W]` as every task of images evaluates them; see `ImageTask.centred`."""
    height, width = images.shape[2:]
    tall, wide = enlarged((height, width))
    top, left = (tall - height) // 2, (wide - width) // 2
    return upsampled(images, (tall, wide))[:, :, top : top + height, left : left + width]


def carve(images: Images, sizes: tuple[int, ...], seed: int) -> list[Images]:
    """Return disjoint random parts of the given sizes, each in random order; equal seeds give equal parts."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(derive(seed, "split")))
    return [Images(images.pixels[part], images.labels[part]) for part in order[: sum(sizes)].split(list(sizes))]
