"""What the searchers have in common that learn strengths by gradient, with the weights of a supernet.

Workers make the steps: they move the weights on the shards of the weights, and the strengths on those of the searcher.
After each epoch the architecture that the strengths favour is scored, so that the best one and the curves mean
something; the search ends with that of the last epoch, or by early stopping with one of too many skip connections.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from child_trainer.architectures.gates import gate_sizes
from child_trainer.supernets.jobs import Score, Steps
from controller.searcher import (
    ChildRecord,
    OptionValues,
    ParameterGroup,
    Proposal,
    SharedWeights,
    Update,
    ValuesAt,
    View,
)
from controller.searchers.weight_sharing.gradient_options import GradientOptions
from controller.searchers.weight_sharing.option_names import option_names
from controller.searchers.weight_sharing.skips import connections, num_skips
from controller.searchers.weight_sharing.supernet import check_supernet
from controller.space import SearchSpace
from controller.spaces.checks import space_words
from controller.strengths import before_name, strengths_in, strengths_name

STRENGTHS = "strengths"
"""The group of the strengths, and the key of a scored child's notes with those that it follows from."""


class GradientSearch(ABC):
    """Learns the strengths of a supernet's options with its weights.

    Args:
        space: has a supernet of exclusive choices.
        options: the settings.

    Raises:
        ValueError: the space has no supernet, or a choice of it may have several options.
    """

    name: ClassVar[str]
    """The searcher's."""
    first_strengths: ClassVar[tuple[float, float]] = (0.0, 1e-3)
    """Mean and standard deviation of the strengths before the first step."""
    keeps_before = False
    """Whether one sample moves weights and strengths, so that the strengths before each step are kept."""
    exclusive = True
    """No two replicas ask from one view: each part of an epoch is one child's."""

    def __init__(self, space: SearchSpace, options: GradientOptions) -> None:
        self._space, self._options = check_supernet(space, self.name), options
        if not self._space.exclusive:
            raise ValueError(
                f"the searcher {self.name!r} learns one probability for each option of a choice, and a choice of"
                f" {space_words(space)} may have several options at once: use a space such as darts or mbconv, or"
                " another searcher"
            )
        if options.early_stop_skips and space.kind == "recurrent":
            raise ValueError(
                f"`early_stop_skips` must be 0 with {space_words(space)}, whose cells have no skip connections, got"
                f" {options.early_stop_skips}"
            )

    @abstractmethod
    def objective(self, epoch: int) -> tuple[str, dict[str, float | str]]:
        """Return the objective of an epoch's steps and its settings."""

    @property
    def costs(self) -> Mapping[str, Any]:
        """The fields of `SharedWeights` about costs."""
        return {}

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The supernet's weights."""
        options = self._options
        rule: dict[str, float] = {
            "lr": options.weights_learning_rate,
            "momentum": options.weights_momentum,
            "weight_decay": options.weights_decay,
        }
        if options.nesterov:
            rule["nesterov"] = 1.0
        supernet = self._space.supernet()
        return SharedWeights(supernet=supernet, optimizer="sgd", options=rule, moves_strengths=True, **self.costs)

    def strengths_rule(self) -> tuple[str, dict[str, float]]:
        """Return the optimizer of the strengths and its options."""
        options = self._options
        return "adam", {
            "lr": options.strengths_learning_rate,
            "beta1": 0.5,
            "beta2": 0.999,
            "weight_decay": options.strengths_decay,
        }

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the strengths of each gate, drawn from `seed`, and those before the last step if they are kept."""
        mean, deviation = self.first_strengths
        generator = torch.Generator().manual_seed(seed)
        first = {gate: mean + deviation * torch.randn(size, generator=generator) for gate, size in self._sizes.items()}
        optimizer, rule = self.strengths_rule()
        now = {strengths_name(gate): value for gate, value in first.items()}
        groups = [ParameterGroup(name=STRENGTHS, values=now, optimizer=optimizer, options=rule)]
        if self.keeps_before:
            kept = {before_name(gate): value.clone() for gate, value in first.items()}
            groups.append(ParameterGroup(name="before", values=kept, optimizer="average", options={"decay": 0.0}))
        return tuple(groups)

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return children with the steps of an epoch, then one to score; none while others must end first."""
        options, pending = self._options, view.pending()
        epoch, place = divmod(view.completed + len(pending), options.children_per_epoch + 1)
        if epoch == options.epochs:
            return []
        if place < options.children_per_epoch:
            # The weights stay as they are while an architecture is scored.
            if place == 0 and (pending or self.stop_reason(view)):
                return []
            return [self._steps(epoch, part) for part in range(place, min(place + n, options.children_per_epoch))]
        return [] if pending else [self._score(view)]

    def stop_reason(self, view: View) -> str:
        """Return why the search ends before its last epoch: early stopping; empty if it does not."""
        limit = self._options.early_stop_skips
        noted = _last_strengths(view)
        if not limit or not noted:
            return ""
        skips = num_skips(self._connections(noted, reduction=False))
        if skips < limit:
            return ""
        return (
            f"early stopping: the cell that the strengths favour has {skips} skip connections, and --early-stop-skips"
            f" is {limit}"
        )

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients, as workers push them with the steps; and figures of the strengths."""
        strengths = _numbers(view)
        entropies = [_entropy(values) for values in strengths.values()]
        figures: dict[str, float] = {"strengths_entropy": sum(entropies) / len(entropies)}
        if self._space.kind != "recurrent":  # where an identity is an activation, and no skip connection
            figures |= {
                "skip_share": self._skip_share(strengths),
                "normal_skips": num_skips(self._connections(strengths, reduction=False)),
            }
        return Update(figures=figures)

    def option_values(self, view: View) -> tuple[OptionValues, ...]:
        """Return the probability of each option by the strengths of the last architecture that was scored."""
        return self._values(_last_strengths(view))

    def value_history(self, view: View) -> tuple[ValuesAt, ...]:
        """Return the probabilities of the options at each architecture that was scored."""
        return tuple(
            ValuesAt(child=child, values=self._values(child.notes[STRENGTHS]))
            for child in view.history()
            if STRENGTHS in child.notes
        )

    def _values(self, strengths: Mapping[str, Sequence[float]]) -> tuple[OptionValues, ...]:
        return tuple(
            OptionValues(kind=gate, layer=0, options=self._names[gate], values=tuple(_softmax(values).tolist()))
            for gate, values in strengths.items()
        )

    def _steps(self, epoch: int, part: int) -> Proposal:
        options = self._options
        done = part * options.steps_per_child
        objective, settings = self.objective(epoch)
        job = Steps(
            objective=objective,
            count=min(options.steps_per_child, options.steps_per_epoch - done),
            settings=settings,
            first=epoch * options.steps_per_epoch + done,
            total=options.total_steps,
            rate=options.rate(epoch),
        )
        return Proposal(tokens=(), architecture=None, job=job)

    def _score(self, view: View) -> Proposal:
        strengths = _numbers(view)
        tokens = self._space.derive(strengths)
        return Proposal(
            tokens=tokens,
            architecture=self._space.decode(tokens),
            notes={STRENGTHS: strengths},
            job=Score(settings={"refit_batches": self._options.refit_batches}),
        )

    def _skip_share(self, strengths: Mapping[str, Sequence[float]]) -> float:
        """Return the share of skip connections among the connections that the strengths favour."""
        favoured = self._connections(strengths)
        return num_skips(favoured) / len(favoured) if favoured else 0.0

    def _connections(self, strengths: Mapping[str, Sequence[float]], *, reduction: bool = True) -> list[str]:
        """Return the names of the connections of the architecture that the strengths favour."""
        return connections(self._space.gates(self._space.derive(strengths)), self._names, reduction=reduction)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return gate_sizes(self._space.supernet())

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        return option_names(self._space.supernet())


def _last_strengths(view: View) -> Mapping[str, Sequence[float]]:
    """Return the strengths that the last scored architecture follows from; nothing before the first."""
    noted = (child.notes[STRENGTHS] for child in reversed(view.history()) if STRENGTHS in child.notes)
    return next(noted, {})


def _numbers(view: View) -> dict[str, list[float]]:
    return {gate: value.tolist() for gate, value in strengths_in(view.parameters).items()}


def _softmax(strengths: Sequence[float]) -> Tensor:
    return torch.tensor(strengths, dtype=torch.float64).softmax(0)


def _entropy(strengths: Sequence[float]) -> float:
    """Return the entropy of a choice, in nats."""
    return float(torch.special.entr(_softmax(strengths)).sum())
