"""The Q values after a history, by temporal difference with replay (Baker et al. 2017; spec §7.2)."""

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from controller.decisions import Decisions, Tokens, applies, offsets, options_at
from controller.searcher import ChildRecord
from controller.searchers.history_state import HistoryState
from controller.searchers.q_learning.options import QLearningOptions
from controller.space import HasStates, SearchSpace

Row = dict[int, float]
"""The Q value of each token that was ever chosen in a state."""


@dataclass(frozen=True, slots=True)
class Step:
    """One decision of a sample.

    Attributes:
        state: where it was made.
        options: the tokens that it could take there.
        token: the one that it took.
    """

    state: Hashable
    options: Sequence[int]
    token: int


class QTable(HistoryState):
    """Learns from each child that ends, and again from some of those before it.

    The draws of the replay are seeded by the child that ended, so that every replica has the same table.
    """

    def __init__(self, space: SearchSpace, options: QLearningOptions) -> None:
        self._space, self._options = space, options
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> "QTable":
        """Return the table, brought up to this history."""
        self.follow(history)
        return self

    @property
    def models(self) -> int:
        """The number of unique architectures that have ended."""
        return len(self._models)

    @property
    def num_states(self) -> int:
        """The number of states in which a decision was learnt from."""
        return len(self._rows)

    def knows(self, architecture_id: str) -> bool:
        """Return whether a child with this architecture has ended."""
        return architecture_id in self._models

    def trained(self, architecture_id: str) -> int | None:
        """Return the first child that was trained with this architecture and has a result; `None` if none has."""
        return self._models.get(architecture_id)

    def q(self, state: Hashable, token: int) -> float:
        """Return the Q value of a token in a state."""
        return self._rows.get(state, {}).get(token, self._options.initial_q)

    def value(self, state: Hashable, options: Sequence[int]) -> float:
        """Return the largest Q value of these tokens in a state."""
        return max(self.q(state, token) for token in options)

    def start_value(self, decisions: Decisions) -> float:
        """Return the largest Q value of the first decision: what the table expects of its best architecture."""
        first = next(decision for decision in decisions if decision.width)
        return self.value(self.state(()), options_at(first, 0, decisions, ()))

    def sample(self, decisions: Decisions, epsilon: float, rng: random.Random) -> Tokens:
        """Draw a sample: each decision is random with probability `epsilon`, or else one of those with the largest Q.

        The Q values stay what they are.
        """
        tokens: list[int] = []
        for decision, start in zip(decisions, offsets(decisions), strict=False):
            if not applies(decision, decisions, tokens):
                tokens += [0] * decision.width
                continue
            for _ in range(decision.width):
                options = options_at(decision, start, decisions, tokens)
                tokens.append(self._choose(self.state(tokens), options, epsilon, rng))
        return tuple(tokens)

    def _choose(self, state: Hashable, options: Sequence[int], epsilon: float, rng: random.Random) -> int:
        if rng.random() < epsilon:
            return rng.choice(options)
        best = self.value(state, options)
        return rng.choice([token for token in options if self.q(state, token) == best])

    def state(self, tokens: Sequence[int]) -> Hashable:
        """Return the state after these tokens: the space's own, or the position and the last `state_tokens` tokens."""
        if isinstance(self._space, HasStates):
            return self._space.state(tokens)
        count = self._options.state_tokens
        return len(tokens), tuple(tokens if count is None else tokens[len(tokens) - min(count, len(tokens)) :])

    def _begin(self) -> None:
        self._rows: dict[Hashable, Row] = {}
        self._models: dict[str, int | None] = {}
        self._experience: list[tuple[tuple[Step, ...], float]] = []

    def _add(self, child: ChildRecord) -> None:
        is_trained = child.outcome is not None and child.outcome.failure is None
        if is_trained and self._models.get(child.architecture_id) is None:
            self._models[child.architecture_id] = child.id
        self._models.setdefault(child.architecture_id, None)
        if child.reward is None:
            return
        self._experience.append((tuple(self._steps(child.tokens)), child.reward))
        self._learn(*self._experience[-1])
        rng = random.Random(child.id)
        for _ in range(self._options.replays):
            self._learn(*rng.choice(self._experience))

    def _steps(self, tokens: Tokens) -> Iterator[Step]:
        """Yield the decisions of a sample that apply, in order."""
        decisions = self._space.decisions_of(len(tokens))
        for decision, start in zip(decisions, offsets(decisions), strict=False):
            if applies(decision, decisions, tokens):
                options = options_at(decision, start, decisions, tokens)
                for position in range(start, start + decision.width):
                    yield Step(self.state(tokens[:position]), options, tokens[position])

    def _learn(self, steps: Sequence[Step], reward: float) -> None:
        """Update the Q values along a sample from its end, so that its reward reaches every decision at once.

        Q(s_T, a) <- (1 - alpha) Q + alpha R at the last decision, and before it
        Q(s_t, a) <- (1 - alpha) Q + alpha gamma max_a' Q(s_{t+1}, a').

        With a trace lambda the target is gamma ((1 - lambda) max_a' Q(s_{t+1}, a') + lambda target_{t+1}) instead
        (Peng & Williams 1996).
        """
        rate, initial, trace = self._options.q_learning_rate, self._options.initial_q, self._options.trace
        target = reward
        for step in reversed(steps):
            row = self._rows.setdefault(step.state, {})
            row[step.token] = (1 - rate) * row.get(step.token, initial) + rate * target
            best = max([row.get(token, initial) for token in step.options])
            target = self._options.discount * ((1 - trace) * best + trace * target)
