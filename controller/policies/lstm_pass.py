"""One pass of the LSTM policy over its decisions, with its gradient written out (Zoph & Le 2017, sections 3.2, 3.3).

The policy is small: PyTorch's automatic differentiation takes several times as long for its thousands of operations as
the operations themselves. This pass makes the same ones in the same order, so that its results have the same bits, but
records no graph; sums and products, which round equally everywhere, are NumPy's on the same memory, whose calls take a
third of the time.

Shapes: as in `controller.policies.lstm`; L layers, S steps, one for each decision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import GradientEdge

from controller.decisions import Choice, Decisions, Subset, offsets
from controller.policies.lstm_layer import room_for, tanh_backward
from controller.policies.rollout import Rollout

Array = NDArray[Any]

Draw = Callable[[Tensor, slice], Array]
"""Chooses a decision's tokens: (probabilities [N, O] float32 of N tokens, its columns) -> tokens [N] int64."""

_log_softmax_backward: Any = torch.ops.aten._log_softmax_backward_data
_embedding_backward: Any = torch.ops.aten.embedding_dense_backward


def can_pass(decisions: Decisions) -> bool:
    """Return whether `LstmPass` knows all of these decisions."""
    return all(one.when is None if isinstance(one, Choice) else isinstance(one, Subset) for one in decisions)


def draw_from(generator: torch.Generator) -> Draw:
    """Return what draws tokens from their probabilities, the same ones as `torch.multinomial`."""

    def draw(probabilities_NO: Tensor, _: slice) -> Array:
        # What `torch.multinomial` does, without its checks, which take three times as long.
        noise_NO = torch.empty_like(probabilities_NO).exponential_(1, generator=generator).numpy()
        return np.divide(probabilities_NO.numpy(), noise_NO, out=noise_NO).argmax(-1)

    return draw


def read_from(tokens_BT: Tensor) -> Draw:
    """Return what reads given tokens."""
    return lambda _, columns: tokens_BT[:, columns].reshape(-1).numpy()


@dataclass(frozen=True, slots=True)
class _Decided:
    """The tokens of one decision, which are N for all samples, and what led to them.

    Attributes:
        tokens: [N] int64.
        log_probs, probs: [N, O] float32, of all options.
    """

    tokens: Array
    log_probs: Tensor
    probs: Tensor


class _Group(NamedTuple):
    """What was decided at some steps with O options each, their N tokens end to end."""

    steps: list[int]
    tokens_N: Tensor
    log_probs_NO: Tensor
    probs_NO: Tensor


@dataclass(frozen=True, slots=True)
class _Attended:
    """What attention to J earlier anchors leaves for the backward pass.

    Attributes:
        anchors: the steps of the anchors.
        keys: [B, J, H] float32, their hidden states.
        tanh: [B J, H] float32, whose products with v are the scores.
        weights: [B, J] float32, of the keys in the next input.
    """

    anchors: Sequence[int]
    keys: Tensor
    tanh: Tensor
    weights: Array


def _cell(layer: int) -> list[str]:
    """Return the names of a layer's weights."""
    return [f"cells.{layer}.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


class LstmPass:
    """A pass over the decisions of B samples: their tokens, log-probabilities and entropies.

    Args:
        weights: the policy's, by their names in `Policy`, without a gradient; they must not change before `backward`.
        decisions: that `can_pass` accepts.
        batch: B.
        draw: chooses the tokens.
        forbid: returns the mask [B, O] bool of what a choice forbids: (its number, the tokens [B, T] so far).
        impossible: the logit of what is forbidden.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        decisions: Decisions,
        batch: int,
        draw: Draw,
        forbid: Callable[[int, Tensor], Tensor],
        impossible: float,
    ) -> None:
        self._weights, self._decisions, self._batch, self._draw = weights, decisions, batch, draw
        self._forbid, self._impossible = forbid, impossible
        self._hidden = len(weights["start"])
        self._starts = offsets(decisions)
        cells: list[list[str]] = []
        while (names := _cell(len(cells)))[0] in weights:
            cells.append(names)
        self._cells = cells
        room = room_for(self, len(cells), len(decisions), batch, self._hidden)
        self._inputs, self._inputs_np, self._layers = room.inputs, room.inputs_np, room.layers
        for layer, names in zip(self._layers, cells, strict=True):
            layer.begin([weights[name] for name in names])
        self._tokens_BT = np.zeros((batch, self._starts[-1]), np.int64)
        self._decided: dict[int, _Decided] = {}
        self._attended: dict[int, _Attended] = {}
        self._forbidden: dict[int, Tensor] = {}
        self._run()
        self._groups = self._grouped()
        self.rollout = Rollout(torch.from_numpy(self._tokens_BT), *self._totals())
        """The samples."""

    def _run(self) -> None:
        anchors: list[int] = []
        self._inputs[0].copy_(self._weights["start"])
        for step, decision in enumerate(self._decisions):
            if not isinstance(decision, Choice):
                self._inputs[step].copy_(self._weights["anchor"])
            for layer in self._layers:
                layer.advance(step)
            columns = slice(self._starts[step], self._starts[step + 1])
            if isinstance(decision, Choice):
                self._tokens_BT[:, columns.start] = self._choose(step, decision, columns)
                continue
            anchors = anchors if decision.count else []
            assert decision.count == len(anchors), f"{decision} after {len(anchors)} anchors"
            if anchors:
                self._tokens_BT[:, columns] = self._attend(step, columns, anchors)
            else:
                self._inputs[step + 1].zero_()
            anchors = [*anchors, step]

    def _choose(self, step: int, decision: Choice, columns: slice) -> Array:
        """Return a choice's tokens [B]; the embedding of each is the next input."""
        weight, bias = self._weights[f"heads.{decision.name}.weight"], self._weights[f"heads.{decision.name}.bias"]
        logits_BO = torch.addmm(bias, self._layers[-1].hidden[step + 1], weight.t())
        if decision.allowed is not None:
            self._forbidden[step] = self._forbid(step, torch.from_numpy(self._tokens_BT))
            logits_BO = logits_BO.masked_fill_(self._forbidden[step], self._impossible)
        token_B = self._decide(step, logits_BO, columns)  # `_totals` refuses tokens that are no option
        embeddings = self._weights[f"embeddings.{decision.name}.weight"].numpy()
        np.take(embeddings, token_B, axis=0, out=self._inputs_np[step + 1], mode="clip")
        return token_B

    def _attend(self, step: int, columns: slice, anchors: Sequence[int]) -> Array:
        """Return the bits [B, J] for the earlier anchors; see `Policy._attend`."""
        hidden, count = self._layers[-1].hidden, len(anchors)
        keys_BJH_np = np.stack([self._layers[-1].hidden_np[anchor + 1] for anchor in anchors], axis=1)
        keys_BJH = torch.from_numpy(keys_BJH_np)
        scores_NH = torch.mm(keys_BJH.view(-1, self._hidden), self._weights["w_prev"].t())
        from_query_BH = torch.mm(hidden[step + 1], self._weights["w_curr"].t())
        scores_BJH_np = scores_NH.numpy().reshape(self._batch, count, -1)
        np.add(scores_BJH_np, from_query_BH.numpy()[:, None], out=scores_BJH_np)
        tanh_NH = torch.tanh(scores_NH)
        logits_N2 = torch.zeros(self._batch * count, 2)
        logits_N2.numpy()[:, 1] = torch.mv(tanh_NH, self._weights["v"]).numpy()
        token_BJ = self._decide(step, logits_N2, columns).reshape(self._batch, count)
        weights_BJ = token_BJ.astype(np.float32)
        weights_BJ /= np.maximum(weights_BJ.sum(1, keepdims=True), np.float32(1))
        selected_BJH = torch.from_numpy(weights_BJ[:, :, None] * keys_BJH_np)
        torch.sum(selected_BJH, 1, out=self._inputs[step + 1])
        self._attended[step] = _Attended(anchors, keys_BJH, tanh_NH, weights_BJ)
        return token_BJ

    def _decide(self, step: int, logits_NO: Tensor, columns: slice) -> Array:
        log_probs_NO = torch.log_softmax(logits_NO, -1)
        probs_NO = log_probs_NO.exp()
        token_N = self._draw(probs_NO, columns)
        self._decided[step] = _Decided(token_N, log_probs_NO, probs_NO)
        return token_N

    def _grouped(self) -> "list[_Group]":
        """Return what was decided, together for each number of options, those with the fewest tokens first."""
        groups: dict[int, list[int]] = {}
        for step in sorted(self._decided, key=lambda step: self._starts[step + 1] - self._starts[step]):
            groups.setdefault(self._decided[step].probs.shape[1], []).append(step)
        return [
            _Group(
                steps,
                torch.from_numpy(np.concatenate([self._decided[step].tokens for step in steps])),
                torch.cat([self._decided[step].log_probs for step in steps]),
                torch.cat([self._decided[step].probs for step in steps]),
            )
            for steps in groups.values()
        ]

    def _totals(self) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy [B] float32, each summed over the decisions in their order."""
        added: dict[int, Any] = {}
        for steps, tokens_N, log_probs_NO, probs_NO in self._groups:
            # The decisions of each number of tokens are added up together.
            chosen = log_probs_NO.gather(1, tokens_N[:, None])
            products = probs_NO * log_probs_NO
            first = 0
            for each, alike in groupby(steps, key=lambda step: self._starts[step + 1] - self._starts[step]):
                its = list(alike)
                samples = len(its) * self._batch
                rows = slice(first, first + samples * each)
                sums = (
                    chosen[rows].view(samples, -1).sum(1).view(len(its), -1).numpy(),
                    -products[rows].view(samples, -1).sum(1).view(len(its), -1).numpy(),
                )
                added |= zip(its, zip(*sums, strict=True), strict=True)
                first = rows.stop
        log_prob_B, entropy_B = np.zeros(self._batch, np.float32), np.zeros(self._batch, np.float32)
        for step in sorted(added):
            np.add(log_prob_B, added[step][0], out=log_prob_B)
            np.add(entropy_B, added[step][1], out=entropy_B)
        if not np.isfinite(log_prob_B).all():
            raise ValueError("the policy's probabilities are not finite: its weights are not, or they are too large")
        return torch.from_numpy(log_prob_B), torch.from_numpy(entropy_B)

    def backward(self, of_log_prob_B: Tensor | None, of_entropy_B: Tensor | None) -> dict[str, Tensor]:
        """Return the gradients by name, given those of the log-probabilities and of the entropies.

        Weights that neither depends on have none.
        """
        gradients = _Gradients()
        of_logits = self._of_logits(of_log_prob_B, of_entropy_B)
        steps = max(of_logits, default=-1) + 1
        if not steps:
            return gradients.by_name
        for layer in self._layers:
            layer.begin_backward()
        of_anchors: dict[int, Array] = {}
        of_hidden: list[Tensor | None] = [None] * len(self._layers)  # from the step after, of each layer
        of_input: Tensor | None = None  # of the step after, if it reads what this one decided
        for step in reversed(range(steps)):
            decision, number = self._decisions[step], len(self._layers) - 1
            if isinstance(decision, Choice):
                more = self._back_through_choice(step, decision, of_logits[step], of_input, gradients)
            else:
                # As PyTorch adds them: what was created last comes back first.
                of_anchor = of_anchors.pop(step, None)
                of_anchor = None if of_anchor is None else torch.from_numpy(of_anchor)
                of_hidden[number] = _plus(of_anchor, of_hidden[number])
                more = None
                if step in of_logits:
                    more = self._back_through_attention(step, of_logits[step], of_input, of_anchors, gradients)
            while number >= 0:
                layer, of_state = self._layers[number], _plus(of_hidden[number], more)
                assert of_state is not None, "the last step that counts has a gradient"
                layer.go_back(step, of_state)
                of_hidden[number] = layer.of_hidden_before(step) if step else None
                more = layer.of_input(step)
                number -= 1
            assert more is not None
            of_input = more if isinstance(decision, Choice) else None
            if not isinstance(decision, Choice):
                gradients.add("anchor", more.sum(0))
            elif step == 0:
                gradients.add("start", more.sum(0))
        for names, layer in zip(self._cells, self._layers, strict=True):
            gradients.by_name.update(zip(names, layer.of_weights(), strict=True))
        return gradients.by_name

    def _of_logits(self, of_log_prob_B: Tensor | None, of_entropy_B: Tensor | None) -> dict[int, Tensor]:
        """Return the gradients of the logits [N, O] of each step that has any."""
        found: dict[int, Tensor] = {}
        for steps, tokens_N, log_probs_NO, probs_NO in self._groups:
            widths = [self._starts[step + 1] - self._starts[step] for step in steps]
            less_N1 = None if of_entropy_B is None else _spread(-of_entropy_B, widths)
            of_log_probs = None if less_N1 is None else less_N1 * probs_NO
            if of_log_prob_B is not None:
                index_N1 = tokens_N[:, None]
                chosen = torch.zeros_like(probs_NO).scatter_add_(1, index_N1, _spread(of_log_prob_B, widths))
                of_log_probs = _plus(of_log_probs, chosen)
            if less_N1 is not None:
                of_log_probs = _plus(of_log_probs, less_N1 * log_probs_NO * probs_NO)
            if of_log_probs is not None:
                of_logits = _log_softmax_backward(of_log_probs, log_probs_NO, -1, log_probs_NO.dtype)
                parts = of_logits.split([self._batch * width for width in widths])
                found |= zip(steps, parts, strict=True)
        return found

    def _back_through_choice(
        self, step: int, decision: Choice, of_logits_BO: Tensor, of_input_BH: Tensor | None, gradients: "_Gradients"
    ) -> Tensor:
        """Return the gradient of the top layer's hidden state [B, H]."""
        name = decision.name
        if of_input_BH is not None:
            tokens, rows = torch.from_numpy(self._decided[step].tokens), len(self._weights[f"embeddings.{name}.weight"])
            gradients.add(f"embeddings.{name}.weight", _embedding_backward(of_input_BH, tokens, rows, -1, False))
        if step in self._forbidden:
            of_logits_BO = of_logits_BO.masked_fill(self._forbidden[step], 0)
        gradients.add(f"heads.{name}.weight", torch.mm(of_logits_BO.t(), self._layers[-1].hidden[step + 1]))
        gradients.add(f"heads.{name}.bias", of_logits_BO.sum(0))
        return torch.mm(of_logits_BO, self._weights[f"heads.{name}.weight"])

    def _back_through_attention(
        self,
        step: int,
        of_logits_N2: Tensor,
        of_input_BH: Tensor | None,
        of_anchors: dict[int, Array],
        gradients: "_Gradients",
    ) -> Tensor:
        """Add to the gradients of the earlier anchors, and return that of this one's hidden state [B, H]."""
        attended, hidden_BH = self._attended[step], self._layers[-1].hidden[step + 1]
        keys_BJH, tanh_NH = attended.keys, attended.tanh
        of_scores_N = of_logits_N2[:, 1].contiguous()
        gradients.add("v", torch.mv(tanh_NH.t(), of_scores_N))
        of_tanh_NH = torch.from_numpy(np.multiply.outer(of_scores_N.numpy(), self._weights["v"].numpy()))
        of_sums_NH = tanh_backward(of_tanh_NH, tanh_NH, grad_input=torch.empty_like(tanh_NH))
        of_query_BH = of_sums_NH.view_as(keys_BJH).sum(1)
        gradients.add("w_curr", torch.mm(of_query_BH.t(), hidden_BH))
        gradients.add("w_prev", torch.mm(of_sums_NH.t(), keys_BJH.view_as(tanh_NH)))
        of_keys_BJH = torch.mm(of_sums_NH, self._weights["w_prev"]).numpy().reshape(keys_BJH.shape)
        if of_input_BH is not None:
            of_keys_BJH = of_input_BH.numpy()[:, None] * attended.weights[:, :, None] + of_keys_BJH
        for place, anchor in enumerate(attended.anchors):
            of_key_BH, of_anchor = of_keys_BJH[:, place], of_anchors.get(anchor)
            of_anchors[anchor] = of_key_BH.copy() if of_anchor is None else of_anchor + of_key_BH
        return torch.mm(of_query_BH, self._weights["w_curr"])


def _spread(of_B: Tensor, widths: Sequence[int]) -> Tensor:
    """Return for each of the N tokens of some decisions, which have these numbers of tokens, what its sample has."""
    of_B_np, (width, *others) = of_B.numpy(), widths
    if any(other != width for other in others):
        return torch.from_numpy(np.concatenate([np.repeat(of_B_np, each) for each in widths])[:, None])
    return torch.from_numpy(np.tile(np.repeat(of_B_np, width), len(widths))[:, None])


class _Gradients:
    """Gradients by name, each of which is added to as PyTorch does: what was created last comes first."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}

    def add(self, name: str, gradient: Tensor) -> None:
        known = self.by_name.get(name)
        self.by_name[name] = gradient if known is None else _sum(known, gradient)


def _plus(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Return the sum of those that there are; see `_sum`."""
    if first is None or second is None:
        return second if first is None else first
    return _sum(first, second)


def _sum(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum in the memory of the first, which nobody else has."""
    total = first.numpy()
    np.add(total, second.numpy(), out=total)
    return first


class _Scored(torch.autograd.Function):
    """The log-probabilities and entropies of a pass as functions of the weights."""

    @staticmethod
    def forward(ctx: Any, done: LstmPass, names: Sequence[str], *weights: Tensor) -> tuple[Tensor, Tensor]:
        ctx.done, ctx.names, ctx.weights = done, names, weights
        ctx.versions = [weight._version for weight in weights]
        ctx.set_materialize_grads(False)
        # Copies, as what is returned will refer to the pass, which must not refer to it.
        return done.rollout.log_prob.clone(), done.rollout.entropy.clone()

    @staticmethod
    def backward(ctx: Any, *of_results: Tensor | None) -> tuple[Tensor | None, ...]:
        gradients = _back_through(ctx, *of_results)
        return (None, None, *(gradients.get(name) for name in ctx.names))


def _back_through(scored: Any, *of_results: Tensor | None) -> Mapping[str, Tensor]:
    """Return the gradients of the weights by name, given those of what a `_Scored` returned."""
    if [weight._version for weight in scored.weights] != scored.versions:
        raise RuntimeError("a weight has been modified by an inplace operation since the pass that is differentiated")
    return scored.done.backward(*of_results)


_MAX_OPERATIONS = 50
"""Of a loss, as many as are looked at: those of a score are fewer, and those of a pass of PyTorch's more."""


def gradients_through_pass(loss: Tensor) -> Mapping[str, Tensor] | None:
    """Return the gradients of the weights by name, if the loss depends on them through one pass alone; else `None`.

    PyTorch's automatic differentiation would return the same ones, but looks at each weight several times.
    """
    scored: Any = None
    seen, left = set[Any](), [loss.grad_fn]
    while left:
        operation: Any = left.pop()
        if operation is None or operation in seen:
            continue
        seen.add(operation)
        if isinstance(getattr(operation, "done", None), LstmPass):
            if scored is not None:
                return None
            scored = operation
        elif hasattr(operation, "variable") or len(seen) > _MAX_OPERATIONS:
            return None
        else:
            left += [before for before, _ in operation.next_functions]
    if scored is None:
        return None
    results = [GradientEdge(scored, number) for number in range(2)]
    with torch.no_grad():
        found = _back_through(scored, *torch.autograd.grad(loss, results, allow_unused=True))
    return {name: found[name] for name in scored.names if name in found}


def with_its_gradient(done: LstmPass, weights: Mapping[str, Tensor]) -> Rollout:
    """Return the samples of a pass with log-probabilities and entropies whose gradient can be taken.

    Args:
        done: the pass.
        weights: that it had.
    """
    log_prob_B, entropy_B = _Scored.apply(done, tuple(weights), *weights.values())  # pyright: ignore
    return Rollout(done.rollout.tokens, log_prob_B, entropy_B)
