"""The memory of a GPU that the training of an image classifier allocates, predicted without a GPU."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.build import classifier_on_meta
from child_trainer.outcome import Budget
from child_trainer.tasks.entry import ImageProblem
from child_trainer.tasks.image import UPSAMPLING
from child_trainer.training.epochs import with_hyperparameters
from child_trainer.training.image_classifier import EVALUATION_BATCH, MAX_PREPARED_BYTES

BYTES = 4
"""Of a value in float32. With bfloat16 half of the maps are smaller; the prediction is not, on the safe side."""

GRADIENTS_AT_ONCE = 3
"""Maps of the largest size whose gradients are there at the same time in the backward pass."""

EVALUATED_AT_ONCE = 3
"""Maps of the largest size that are there at the same time in an evaluation: an operation's inputs and its output."""

MOMENTS = {"sgd": 0, "adam": 2, "rmsprop": 1}
"""Values that an optimizer keeps for each weight, besides momentum."""

WORKSPACE_BYTES = 64 * 2**20
"""What cuDNN and cuBLAS may allocate for a single operation. An assumption."""


def training_bytes(architecture: Architecture, problem: ImageProblem, budget: Budget, examples: int | None) -> int:
    """Return the most bytes that a training allocates at once, without those of the CUDA context.

    They are those of a step (`step_bytes`), those of an evaluation, beside which the memory of a recorded step remains,
    and the images.

    Args:
        architecture: feed-forward.
        problem: what the images are like.
        budget: of the training.
        examples: the number of training images, which the validation images are taken not to exceed; `None` if unknown.

    Raises:
        InvalidArchitecture: no such network can be built.
    """
    size = min(budget.batch_size, examples or budget.batch_size)
    step, largest = step_bytes(architecture, problem, replace(budget, batch_size=size))
    evaluation = EVALUATED_AT_ONCE * largest * EVALUATION_BATCH // size
    return step + evaluation + _images(problem, budget.train_fraction, examples) + WORKSPACE_BYTES


def step_bytes(architecture: Architecture, problem: ImageProblem, budget: Budget) -> tuple[int, int]:
    """Return the most bytes that a step allocates at once, and those of a batch's largest map.

    They are the weights, their gradients, the optimizer's values, and what a batch keeps for its backward pass. The
    network and its batch are on the `meta` device, so that nothing is computed.

    Raises:
        InvalidArchitecture: no such network can be built.
    """
    settings = with_hyperparameters(budget, architecture)
    regime = settings.regime
    network = classifier_on_meta(architecture, problem, regime)
    auxiliary = bool(regime.auxiliary_weight) and network.auxiliary_head is not None
    inputs = torch.empty((settings.batch_size, *problem.input_shape), device="meta")
    kept, largest = kept_for_backward(network, network.with_auxiliary if auxiliary else network, inputs)
    values = 2 + MOMENTS[regime.optimizer] + (settings.momentum > 0 and regime.optimizer != "adam")
    weights = sum(p.numel() for p in network.parameters()) * BYTES * values
    return weights + kept + GRADIENTS_AT_ONCE * largest, largest


def kept_for_backward(network: nn.Module, run: Callable[[Tensor], object], inputs: Tensor) -> tuple[int, int]:
    """Return the bytes that a training pass keeps for its backward pass, and those of the largest tensor among them.

    Args:
        network: on the `meta` device.
        run: makes its pass.
        inputs: of the pass, on the `meta` device.
    """
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors are held, so that no storage's address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage()._cdata) not in weights:
            kept[place] = tensor
        return tensor

    was_training = network.training
    network.train()
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run(inputs)
    finally:
        network.train(was_training)
    sizes = [tensor.untyped_storage().nbytes() for tensor in (*kept.values(), inputs)]
    return sum(sizes), max(sizes)


def _images(problem: ImageProblem, fraction: float, examples: int | None) -> int:
    """Return the bytes of the images and of their prepared copies, for training and validation."""
    if examples is None:
        return 2 * MAX_PREPARED_BYTES
    values = math.prod(problem.input_shape)
    enlarged = round(values * UPSAMPLING**2) * BYTES
    training, validation = enlarged * round(examples * fraction), enlarged * examples
    # Those for training are there twice while they are put together; more than the bound are not prepared at all.
    prepared = 2 * training * (training <= MAX_PREPARED_BYTES) + min(validation, MAX_PREPARED_BYTES)
    return 2 * examples * values + prepared
