"""DARTS: the strengths of all options are learnt by gradient with the shared weights (Liu et al. 2019; spec §12).

Children make the steps. After each epoch one more child is the network that the strengths favour, and is scored.
"""

from collections.abc import Sequence
from functools import cached_property

import torch

from child_trainer.architectures.gates import gate_sizes
from child_trainer.supernets.jobs import Score, Steps
from controller.searcher import ChildRecord, ParameterGroup, Proposal, SharedWeights, Update, View
from controller.searchers.weight_sharing.options import DartsOptions
from controller.searchers.weight_sharing.supernet import check_supernet
from controller.space import SearchSpace


class Darts:
    """Has children move the strengths and the weights in turn, and scores what the strengths favour.

    The strengths are this searcher's parameters, a vector for each gate by the gate's name; the children's workers push
    their gradients. No network is derived while steps of its epoch are pending. With several replicas, or children at
    once, steps are computed from strengths and weights that others move meanwhile.

    Args:
        space: has a supernet whose gates each choose one of their inputs.
        options: the settings.

    Raises:
        ValueError: the space has no such supernet.
    """

    def __init__(self, space: SearchSpace, options: DartsOptions) -> None:
        self._space, self._options = check_supernet(space, "darts"), options
        if not self._space.exclusive:
            raise ValueError(
                f"the searcher 'darts' weighs the options of a gate by a softmax, and samples of a"
                f" {type(space).__name__} may have several of them: use another searcher, such as 'one-shot'"
            )

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The supernet's weights."""
        options = self._options
        rule = {"lr": options.weights_learning_rate, "momentum": options.weights_momentum}
        return SharedWeights(supernet=self._space.supernet(), optimizer="sgd", options=rule)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the strengths, drawn from `seed`."""
        generator = torch.Generator().manual_seed(seed)
        strengths = {
            gate: self._options.strengths_init * torch.randn(size, generator=generator)
            for gate, size in gate_sizes(self.shared_weights.supernet).items()
        }
        adam = {"lr": self._options.strengths_learning_rate, "beta1": 0.5}
        return (ParameterGroup(name="strengths", values=strengths, optimizer="adam", options=adam),)

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return children that make an epoch's steps, then the network that the strengths favour."""
        options, pending = self._options, view.pending()
        place = (view.completed + len(pending)) % (options.training_children + 1)
        training = place < options.training_children
        if any(isinstance(child.job, Steps) != training for child in pending):
            return []
        if training:
            return [self._steps(number) for number in range(place, min(place + n, options.training_children))]
        tokens = self._space.derive({gate: view.parameters[gate].tolist() for gate in self._gates})
        score = Score(settings={"refit_batches": options.refit_batches})
        return [Proposal(tokens=tokens, architecture=self._space.decode(tokens), job=score)]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients, as the children's workers push those; and how decided the strengths are."""
        entropies = [torch.distributions.Categorical(logits=view.parameters[gate]).entropy() for gate in self._gates]
        return Update(figures={"strengths_entropy": torch.stack(entropies).mean().item()})

    @cached_property
    def _gates(self) -> tuple[str, ...]:
        return tuple(gate_sizes(self.shared_weights.supernet))

    def _steps(self, number: int) -> Proposal:
        options = self._options
        settings = {"l2": options.weights_l2, "clip_norm": options.weights_clip_norm, "order": options.order}
        if options.order == 2:
            settings |= {"rate": options.weights_learning_rate, "decay": 2 * options.weights_l2}
        count = options.count_of(options.epoch_steps, number)
        job = Steps(objective="darts", count=count, settings=settings, strengths=True, parts=2)
        return Proposal(tokens=(), architecture=None, job=job)
