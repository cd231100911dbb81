"""Image tasks on which several sub-networks of one child are trained ("A-GEM" of the article; spec §17).

The article's A-GEM is not Averaged Gradient Episodic Memory. The images are those of another task: `digits-subnetworks`
has those of `digits`. An architecture has an output for each sub-network; the metric is the accuracy of the first.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.networks import cost
from child_trainer.networks.build import Classifier, build
from child_trainer.outcome import Budget, Measure
from child_trainer.seed_agem import training
from child_trainer.seed_agem.options import SubnetworkOptions
from child_trainer.seeding import derive
from child_trainer.tasks.image import ImageTask
from child_trainer.training import augment
from child_trainer.training.epochs import (
    global_generator,
    isolated_randomness,
    make_optimizer,
    run_epochs,
    with_hyperparameters,
)
from child_trainer.training.image_classifier import Images, standardise
from child_trainer.training.state import SgdState
from child_trainer.training.task import Progress

SUFFIX = "-subnetworks"
"""What such a task's name has behind that of the task with the images."""

MODE_IMAGES = 1000
"""Training images, the first of them, by which the learning mode of an epoch is chosen."""


def check(name: str, data: Path | None, options: SubnetworkOptions, *, download: bool) -> None:
    """Make sure that the images are there, as their own task does."""
    from child_trainer.tasks.catalogue import check_task

    check_task(name.removesuffix(SUFFIX), data, download=download)


def load(name: str, data: Path | None, options: SubnetworkOptions, *, seed: int, device: str) -> "SubnetworkTask":
    """Return the task with the images of its own task, split as there."""
    from child_trainer.tasks.catalogue import load_task

    images = load_task(name.removesuffix(SUFFIX), data=data, seed=seed, device=device)
    assert isinstance(images, ImageTask)
    return SubnetworkTask(name=name, images=images, options=options)


def load_test(name: str, data: Path | None, options: SubnetworkOptions, *, device: str) -> Images:
    """Return the test images that no search ever sees."""
    from child_trainer.tasks import catalogue

    return catalogue.load_test(name.removesuffix(SUFFIX), data=data, device=device)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubnetworkTask:
    """Images that several sub-networks learn together.

    Attributes:
        name: as in `catalogue.TASKS`.
        images: the task that has the images.
        options: how the sub-networks learn together.
    """

    name: str
    images: ImageTask
    options: SubnetworkOptions

    @property
    def measure(self) -> Measure:
        """The share of images that the first sub-network puts in the right class."""
        return Measure.ACCURACY

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Train the sub-networks, and report the accuracy of the first after each epoch; see `Task.fit`.

        The parameters and FLOPs that it reports are those of the first, which is what remains of the child.
        It can be interrupted before any step and continued, to the bit.

        Raises:
            InvalidArchitecture: there are fewer than two outputs, or a sub-network cannot be built.
        """
        settings = with_hyperparameters(budget, architecture)
        members = self._members(architecture, settings, seed)
        progress.parameters = cost.parameters(members[0])
        progress.flops = cost.flops(members[0], torch.empty((1, *self.images.input_shape), device="meta"))
        network = training.Subnetworks(members, settings.epochs).to(device)
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (missing in PyTorch's stub)
        changes = augment.Augmentation(
            self.images.augmented_with(settings.regime.cutout),
            torch.Generator(device).manual_seed(derive(seed, "augmentation")),
        )
        images = self.images.training.first(settings.train_fraction).to(device)
        with isolated_randomness(derive(seed, "dropout"), device):
            state = SgdState(
                network,
                make_optimizer(network.students, settings),
                images.labels,
                order=torch.Generator(device).manual_seed(derive(seed, "order")),
                others={
                    "global": global_generator(images.labels.device),
                    "augmentation": changes.generator,
                },
                settings=repr(self.options),
            )
            _Fit(self, network, state, settings, progress, images, changes).run(self.images.validation.to(device))

    def _members(self, architecture: Architecture, budget: Budget, seed: int) -> list[Classifier]:
        """Return the sub-networks with initial weights of their own, on the CPU."""
        if architecture.kind != "feedforward" or len(architecture.outputs) < 2:
            raise InvalidArchitecture(
                f"the task {self.name!r} trains at least 2 sub-networks, each with an output of its own, got"
                f" {len(architecture.outputs)} in a {architecture.kind} architecture"
            )
        return [
            build(
                member,
                self.images,
                generator=torch.Generator().manual_seed(derive(seed, f"weights of {member.outputs[0]}")),
                regime=budget.regime,
            )
            for member in members_of(architecture)
        ]


def members_of(architecture: Architecture) -> list[Architecture]:
    """Return the sub-networks of an architecture: for each output the nodes on which it depends."""
    return [
        Architecture(architecture.kind, architecture.nodes, (output,), architecture.hyperparameters).pruned()
        for output in architecture.outputs
    ]


@dataclass(frozen=True, slots=True)
class _Fit:
    """One training: what its epochs need."""

    task: SubnetworkTask
    network: training.Subnetworks
    state: SgdState
    budget: Budget
    progress: Progress
    images: Images
    augmentation: augment.Augmentation

    def run(self, validation: Images) -> None:
        """Train until the last epoch; the measurements are those after the last one that was validated."""

        def evaluate() -> float:
            outputs = self.network.outputs(validation, self.task.images.centred)
            labels, options = validation.labels, self.task.options
            self.progress.measurements = training.measurements(self.network, outputs, labels, options)
            return (outputs[0].argmax(-1) == labels).double().mean().item()

        resumable = training.SubnetworksState(self.network, self.state)
        run_epochs(resumable, self.budget.epochs, self.progress, self._train_epoch, evaluate)

    def _train_epoch(self, epoch: int) -> Tensor:
        """Train one epoch, counted from 1, and return the sum of the steps' losses."""
        images, state, place = self.images, self.state, epoch - 1
        order = torch.randperm(len(images), generator=state.order, device=images.labels.device)
        size = min(self.budget.batch_size, len(images))
        steps = len(images) // size
        if self.progress.step == 0:
            some = Images(images.pixels[:MODE_IMAGES], images.labels[:MODE_IMAGES])
            training.begin_epoch(
                self.network, state.optimizer, some, self.task.images.centred, self.task.options, place
            )
        for step in range(self.progress.step, steps):
            self.progress.before_step(step)
            batch = order[step * size : (step + 1) * size]
            inputs = self.augmentation(standardise(images.pixels[batch])).contiguous(memory_format=torch.channels_last)
            where = (place, step, steps)
            training.take_step(self.network, state, inputs, images.labels[batch], self.task.options, self.budget, where)
        total = state.loss
        state.next_epoch()
        return total
