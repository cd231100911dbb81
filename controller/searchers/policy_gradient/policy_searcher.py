"""What the policy-gradient searchers share: a recurrent policy on the shards, its samples and their scores."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from controller.policies.lstm import Policy, pass_over
from controller.policies.lstm_pass import LstmPass, can_pass, draw_from
from controller.policies.rollout import Rollout
from controller.searcher import ChildRecord, ParameterGroup, Proposal, View, reward_of
from controller.searchers.policy_gradient.options import PolicyOptions
from controller.space import SearchSpace
from controller.spaces.checks import check_decisions

BASELINE = "baseline"
"""The tensor [2] that holds the baseline: moving averages of the rewards and of the constant 1.

Both start at 0 and decay equally, so that their quotient is the average without the bias of the initial value; 0 in the
second means that there is no average yet. The shard that stores it computes the average: with a hundred
replicas, a step computed from a stale copy would overshoot and oscillate.
"""


class PolicySearcher:
    """Samples architectures from a policy; a subclass learns.

    Args:
        name: the searcher's, for messages.
        space: to search in.
        options: of the policy.
    """

    def __init__(self, name: str, space: SearchSpace, options: PolicyOptions) -> None:
        check_decisions(space, name)
        self._space = space
        self._policy_options = options
        self._policy = Policy(space.choice_sizes(), hidden=options.controller_units, layers=options.controller_layers)
        self._drawn: _Drawn | None = None  # the last samples, until they are scored

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the baseline, and the policy's weights drawn from `seed`."""
        options = self._policy_options
        self._policy.initialize(torch.Generator().manual_seed(seed), options.controller_init)
        # The baseline comes first, so that no boundary between shards separates its two elements.
        return (
            ParameterGroup(
                name="baseline",
                values={BASELINE: torch.zeros(2)},
                optimizer="average",
                options={"decay": options.baseline_decay},
            ),
            ParameterGroup(
                name="policy",
                values=self._policy.values(),
                optimizer="adam",
                options={"lr": options.controller_learning_rate},
            ),
        )

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` samples of the policy."""
        decisions, generator = self._space.decisions(view.completed), torch.Generator()
        generator.manual_seed(view.rng.getrandbits(63))
        # A replica that learns from all of these samples with the same weights need not score them.
        if can_pass(decisions):
            samples = pass_over(view.parameters, decisions, n, draw_from(generator))
            rollout = samples.rollout
        else:
            self._policy.load(view.parameters)
            samples = rollout = self._policy.sample(decisions, n, generator, differentiable=True)
        tokens = [tuple(sample) for sample in rollout.tokens.tolist()]
        weights = {name: (tensor, tensor._version) for name, tensor in view.parameters.items()}
        self._drawn = _Drawn(samples, tokens, weights)
        return [
            Proposal(tokens=sample, architecture=self._space.decode(sample), log_prob=log_prob)
            for sample, log_prob in zip(tokens, rollout.log_prob.tolist(), strict=True)
        ]

    def _take_drawn(self, children: Sequence[ChildRecord], view: View) -> LstmPass | Rollout | None:
        """Return the last samples if they are these children and the weights are still those that drew them.

        It does so once, as their gradient can be taken only once.
        """
        drawn, self._drawn = self._drawn, None
        if drawn is None or drawn.tokens != [child.tokens for child in children]:
            return None
        weights, parameters = drawn.weights, view.parameters
        unchanged = weights.keys() == parameters.keys() and all(
            parameters[name] is tensor and tensor._version == version for name, (tensor, version) in weights.items()
        )
        return drawn.samples if unchanged else None

    def _queue_loss(self, view: View) -> Tensor:
        """Return -weight * the mean of log P over the best different children of the search; 0 without `queue_size`.

        This is priority queue training (Abolafia et al. 2018, arXiv 1801.03526).
        """
        options = self._policy_options
        best = best_different(self._learnable(view.history()), options.queue_size) if options.queue_size else []
        return -options.queue_weight * self._score(best)[0].mean() if best else torch.zeros(())

    def _learnable(self, children: Sequence[ChildRecord]) -> Sequence[ChildRecord]:
        """Return those of the children that the policy learns from: all."""
        return children

    def _score(
        self, children: Sequence[ChildRecord], samples: LstmPass | Rollout | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies [m] float32; children of each depth are scored together.

        Args:
            children: m of them.
            samples: what `_take_drawn` returned for them.
        """
        if samples is not None:
            rollout = self._policy.differentiable(samples) if isinstance(samples, LstmPass) else samples
            return rollout.log_prob, rollout.entropy
        by_length: dict[int, list[int]] = {}
        for i, child in enumerate(children):
            by_length.setdefault(len(child.tokens), []).append(i)
        log_prob, entropy = torch.zeros(len(children)), torch.zeros(len(children))
        for length, rows in by_length.items():
            tokens = torch.tensor([children[i].tokens for i in rows]).reshape(len(rows), length)
            scored = self._policy.score(self._space.decisions_of(length), tokens)
            index = torch.tensor(rows)
            log_prob = log_prob.index_put((index,), scored.log_prob)
            entropy = entropy.index_put((index,), scored.entropy)
        return log_prob, entropy


class _Drawn(NamedTuple):
    """Samples, their tokens, and the parameters that drew them, with their versions in PyTorch's count."""

    samples: LstmPass | Rollout
    tokens: list[tuple[int, ...]]
    weights: Mapping[str, tuple[Tensor, int]]


def baseline(parameters: Mapping[str, Tensor]) -> float | None:
    """Return the average of the rewards learnt from so far, or `None` before the first."""
    total, weight = parameters[BASELINE].tolist()
    return total / weight if weight else None


def sampled_log_prob(child: ChildRecord) -> float:
    """Return the log-probability (nats) with which the child was sampled."""
    log_prob = child.log_prob
    assert log_prob is not None, f"child {child.id} has no log-probability"
    return log_prob


def baseline_gradient(rewards: Tensor) -> Tensor:
    """Return what is pushed to the baseline for rewards [m] float32: their mean, and the constant 1; [2] float32."""
    return torch.tensor([rewards.mean().item(), 1.0])


def updated_baseline(average: Tensor, rewards: Tensor, decay: float) -> float:
    """Return the moving average of rewards once it has the mean of these [m] float32.

    Args:
        average: [2] float32, as in `BASELINE`; the first number is the average that starts at 0.
        rewards: the ones to add.
        decay: of the average.
    """
    return decay * average[0].item() + (1 - decay) * rewards.mean().item()


def best_different(history: Sequence[ChildRecord], size: int) -> list[ChildRecord]:
    """Return the children with the highest rewards, at most `size` and none with another's tokens; the best first."""
    rewarded = [child for child in history if child.reward is not None]
    best: dict[tuple[int, ...], ChildRecord] = {}
    for child in sorted(rewarded, key=reward_of, reverse=True):
        best.setdefault(child.tokens, child)
        if len(best) == size:
            break
    return list(best.values())
