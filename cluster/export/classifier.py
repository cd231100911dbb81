"""The network of an export: a trained classifier with what its task does to the pixels before it."""

import torch
from torch import Tensor, nn

from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.networks.build import ImageProblem, build, classifier_on_meta
from child_trainer.networks.weights import check_fit, load, named, statistics
from child_trainer.regime import Regime
from child_trainer.tasks.image import centred
from child_trainer.training.image_classifier import standardise
from cluster.export.programs import Program


class ExportedClassifier(nn.Module):
    """Takes pixels as they are in the data, and does to them what a task of images does before it evaluates."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits `[B, num_classes]` of pixels `[B, C, H, W]`, all float32."""
        return self.network(centred(standardise(pixels)))


def exported_classifier(weights: TrainedWeights, problem: ImageProblem, regime: Regime) -> Program:
    """Build a trained network on the CPU, in evaluation mode and without its auxiliary head.

    Args:
        weights: of the whole network, as a training left them.
        problem: the images that it was trained on.
        regime: how it was trained; it has the constants of batch normalisation.

    Raises:
        InvalidArchitecture: the network does not take these images.
        WrongWeights: the weights are of another network.
    """
    check_fit(classifier_on_meta(weights.architecture, problem, regime), weights.tensors)
    main = weights.architecture.without_auxiliary()
    network = build(main, problem, generator=torch.Generator(), regime=regime)
    places = named(network).keys() | statistics(network).keys()
    load(network, {name: tensor for name, tensor in weights.tensors.items() if name in places})
    return Program(
        network=ExportedClassifier(network).eval(),
        batch={"pixels": 0},
        outputs=("logits",),
        example=lambda number: (_pixels(problem, number),),
    )


def _pixels(problem: ImageProblem, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (number, *problem.input_shape), generator=generator).float()
