"""What recurrent policies share: samples with their log-probabilities, softmax decisions, LSTM steps, pulled weights.

Shapes: B samples; T tokens of a sample; W tokens of one decision; O options of each of its tokens; H hidden units.
A name's suffix spells its shape. Tokens are int64, masks are bool, all other tensors float32.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Rollout(NamedTuple):
    """Samples with their log-probabilities and entropies.

    Attributes:
        tokens: [B, T] int64.
        log_prob: [B] float32, natural logarithm of each sample's probability.
        entropy: [B] float32, the entropies (nats) of the decisions along each sample, summed.
    """

    tokens: Tensor
    log_prob: Tensor
    entropy: Tensor


Pick = Callable[[Tensor, slice], Tensor]
"""Chooses a decision's tokens: (probabilities [B, W, O] float32, the decision's columns) -> tokens [B, W] int64.

Sampling draws them from the probabilities; scoring reads them from the columns of given tokens.
"""


def drawing(generator: torch.Generator) -> Pick:
    """Return what draws tokens from their probabilities."""

    def draw(probabilities_BWO: Tensor, _: slice) -> Tensor:
        flat = probabilities_BWO.reshape(-1, probabilities_BWO.shape[-1])
        return torch.multinomial(flat, 1, generator=generator).view(probabilities_BWO.shape[:-1])

    return draw


def reading(tokens_BT: Tensor) -> Pick:
    """Return what reads given tokens."""
    return lambda _, columns: tokens_BT[:, columns]


class Decided(NamedTuple):
    """The tokens of one decision.

    Attributes:
        tokens: [B, W] int64.
        log_prob: [B] float32, their log-probability (nats), summed over the W.
        entropy: [B] float32 (nats), summed over the W.
        log_probs: [B, W] float32, the log-probability of each.
    """

    tokens: Tensor
    log_prob: Tensor
    entropy: Tensor
    log_probs: Tensor


def decide(logits_BWO: Tensor, columns: slice, pick: Pick) -> Decided:
    """Make W independent softmax decisions from logits [B, W, O] float32."""
    log_probs_BWO = F.log_softmax(logits_BWO, dim=-1)
    probs_BWO = log_probs_BWO.exp()
    token_BW = pick(probs_BWO, columns)
    chosen_BW1 = log_probs_BWO.gather(-1, token_BW.unsqueeze(-1))
    entropy_B = -(probs_BWO * log_probs_BWO).sum((1, 2))
    return Decided(token_BW, chosen_BW1.sum((1, 2)), entropy_B, chosen_BW1[..., 0])


Decider = Callable[[Tensor, slice, Pick], Decided]
"""Makes the tokens of a decision from its logits [B, W, O] float32, as `decide` does, which is the usual one."""

State = list[tuple[Tensor, Tensor]]
"""The hidden and the cell state of each LSTM layer, [B, H] float32 each; the last layer is the top."""


def advance(cells: Sequence[tuple[Tensor, ...]], input_BH: Tensor, state: State) -> State:
    """Advance stacked LSTM cells by one step; each layer reads the hidden state of the layer below.

    Args:
        cells: the weights of each layer, [4 H, H] and [4 H, H] float32, and its biases, [4 H] and [4 H], if it has any,
            as `nn.LSTMCell` has them.
        input_BH: [B, H] float32, read by the lowest layer.
        state: before the step.
    """
    new_state: State = []
    for weights, layer in zip(cells, state, strict=True):
        new_state.append(torch.lstm_cell(input_BH, layer, *weights))
        input_BH = new_state[-1][0]
    return new_state


class PulledPolicy(nn.Module):
    """A policy that holds no state between calls: each call first loads the weights pulled from the shards."""

    _held: Sequence[tuple[Tensor, int, int]] = ()
    """What was loaded last: each pulled tensor, with its version in PyTorch's count and that of the weight."""

    def initialize(self, generator: torch.Generator, bound: float) -> None:
        """Draw every weight from U(-bound, bound)."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    @cached_property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """The weights by name."""
        return dict(self.named_parameters())

    def values(self) -> dict[str, Tensor]:
        """Return copies of the weights by name."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def load(self, parameters: Mapping[str, Tensor]) -> bool:
        """Copy pulled weights, float32 by name, into the policy; others are not looked at.

        Returns whether the policy had them already: the same tensors, which nothing has changed since the last call.
        """
        if self._holds(parameters):
            return True
        pulled = [parameters[name] for name in self.weights]
        weights: list[Tensor] = list(self.weights.values())
        # One call: `load_state_dict` would take as long as sampling, and a call for each weight three times as long.
        torch._foreach_copy_(weights, pulled)  # pyright: ignore[reportPrivateImportUsage]
        self._held = [(new, new._version, own._version) for new, own in zip(pulled, weights, strict=True)]
        return False

    def _holds(self, parameters: Mapping[str, Tensor]) -> bool:
        return len(self._held) == len(self.weights) and all(
            pulled is parameters[name] and pulled._version == seen and weight._version == own
            for (pulled, seen, own), (name, weight) in zip(self._held, self.weights.items(), strict=True)
        )

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the gradient of a loss by name.

        The weights that the loss does not depend on have none, so that Adam does not count a step for them.
        """
        names, weights = zip(*self.weights.items(), strict=True)
        by_name = zip(names, torch.autograd.grad(loss, weights, allow_unused=True), strict=True)
        return {name: gradient for name, gradient in by_name if gradient is not None}
