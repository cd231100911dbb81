"""One-shot search: a supernet is trained once, and random paths of it are scored (Bender et al. 2018; spec §11)."""

from collections.abc import Sequence
from functools import cached_property

from child_trainer.supernets.jobs import Score, Steps
from controller.searcher import ChildRecord, ParameterGroup, Proposal, SharedWeights, Update, View
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.searchers.weight_sharing.supernet import check_supernet
from controller.space import SearchSpace, first_tokens


class OneShot:
    """Trains a supernet with path dropout, then scores random paths with its weights; the best are worth training.

    Replicas that ask at once may begin a few training children more than there are to be. No path is scored before all
    training children have ended.

    Args:
        space: has a supernet.
        options: the settings.

    Raises:
        ValueError: the space has no supernet.
    """

    def __init__(self, space: SearchSpace, options: OneShotOptions) -> None:
        self._space, self._options = check_supernet(space, "one-shot"), options

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The supernet's weights."""
        options = self._options
        rule = {"lr": options.weights_learning_rate, "momentum": options.weights_momentum}
        return SharedWeights(supernet=self._space.supernet(), optimizer="sgd", options=rule)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: nothing is learnt of which paths are good."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return training children, then none until all of these have ended, then random paths to score."""
        pending = view.pending()
        begun, training = view.completed + len(pending), self._options.training_children
        if begun < training:
            return [self._steps(number) for number in range(begun, min(begun + n, training))]
        if any(isinstance(child.job, Steps) for child in pending):
            return []
        samples = [first_tokens(self._space, view.completed, view.rng) for _ in range(n)]
        score = Score(settings={"refit_batches": self._options.refit_batches})
        return [Proposal(tokens=tokens, architecture=self._space.decode(tokens), job=score) for tokens in samples]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients."""
        return Update()

    def _steps(self, number: int) -> Proposal:
        """Return the training child of this number, from 0; the last one makes the steps that are left."""
        options = self._options
        first = number * options.steps_per_child
        count = options.count_of(options.supernet_steps, number)
        settings = {
            "drop_rate": options.path_dropout,
            "groups": options.ghost_groups,
            "l2": options.weights_l2,
        }
        job = Steps(objective="dropout", count=count, settings=settings, first=first, total=options.supernet_steps)
        return Proposal(tokens=(), architecture=None, job=job)
