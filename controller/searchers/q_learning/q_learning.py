"""Tabular Q-learning with an epsilon-greedy policy: MetaQNN's searcher (Baker et al. 2017; spec §7.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.decisions import Decision, Subset, Tokens, applies, offsets, options_at, place_of
from controller.preferences import option_names
from controller.searcher import ChildRecord, OptionValues, ParameterGroup, Proposal, Update, View
from controller.searchers.q_learning.options import QLearningOptions
from controller.searchers.q_learning.q_table import QTable
from controller.space import SearchSpace
from controller.spaces.checks import check_decisions

MAX_DRAWS = 200
"""Samples drawn for one proposal. If all of them repeat architectures that are not wanted again, the last is taken."""


@dataclass(frozen=True)
class QLearning:
    """Samples decisions by their Q values, which follow from the history, and ever fewer of them at random.

    It works on any space. The states of its decisions are the space's own (`HasStates`), or the position with the last
    `state_tokens` tokens. Like the paper's states of layers, these forget what came earlier, so that architectures
    share what is learnt of them.
    """

    space: SearchSpace
    options: QLearningOptions

    def __post_init__(self) -> None:
        check_decisions(self.space, "q-learning")

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: the Q values follow from the history."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` samples, of which none repeats a child that is in training, if there is another one to be had.

        It returns fewer where the search ends with the schedule of epsilon.
        """
        table, pending = self._table.after(view.history()), view.pending()
        decisions = self.space.decisions(view.completed)
        unended = {child.architecture_id for child in pending}
        proposals: list[Proposal] = []
        for _ in range(n):
            models = table.models + sum(not table.knows(model) for model in unended)
            if self.options.ends_with_schedule and models >= self.options.schedule_models:
                break
            epsilon = self.options.epsilon(models)
            proposal = self._wrap(table.sample(decisions, epsilon, view.rng), table)
            for _ in range(MAX_DRAWS - 1):
                known = table.trained(proposal.architecture_id) is not None
                if not (proposal.architecture_id in unended or (known and self.options.repeats == "refuse")):
                    break
                proposal = self._wrap(table.sample(decisions, epsilon, view.rng), table)
            unended.add(proposal.architecture_id)
            proposals.append(proposal)
        return proposals

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the figures of the Q values; they are learnt from the history, and not by gradient."""
        table = self._table.after(view.history())
        figures = {
            "epsilon": self.options.epsilon(table.models),
            "unique_models": float(table.models),
            "start_value": table.start_value(self.space.decisions(view.completed)),
            "known_states": float(table.num_states),
        }
        return Update(gradients={}, figures=figures)

    def option_values(self, view: View) -> tuple[OptionValues, ...]:
        """Return the Q values along the sample with the largest ones; of equal options it takes the first."""
        table, decisions = self._table.after(view.history()), self.space.decisions(view.completed)
        rows: list[OptionValues] = []
        tokens: list[int] = []
        for decision, start in zip(decisions, offsets(decisions), strict=False):
            if not applies(decision, decisions, tokens):
                tokens += [0] * decision.width
                continue
            for number in range(decision.width):
                allowed, state = options_at(decision, start, decisions, tokens), table.state(tokens)
                names = _names(decision)
                values = tuple(table.q(state, option) if option in allowed else None for option in range(len(names)))
                rows.append(
                    OptionValues(
                        kind=f"{decision.kind} {number + 1}" if isinstance(decision, Subset) else decision.kind,
                        layer=place_of(decision),
                        options=names,
                        values=values,
                    )
                )
                tokens.append(max(allowed, key=lambda option: table.q(state, option)))
        return tuple(rows)

    @cached_property
    def _table(self) -> QTable:
        return QTable(self.space, self.options)

    def _wrap(self, tokens: Tokens, table: QTable) -> Proposal:
        architecture = self.space.decode(tokens)
        same_as = table.trained(architecture.id) if self.options.repeats == "reuse" else None
        return Proposal(tokens=tokens, architecture=architecture, same_as=same_as)


def _names(decision: Decision) -> tuple[str, ...]:
    """Return the names of what one token of the decision may be."""
    return ("no", "yes") if isinstance(decision, Subset) else option_names(decision)
