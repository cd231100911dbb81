"""ENAS's controller of recurrent cells against the loop of the authors' code (spec §6.3)."""

import pytest
import torch
from torch import Tensor

from controller.decisions import Choice, enumerate_samples
from controller.policies.enas import EnasConstants
from controller.policies.enas_cell import EnasCellPolicy
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.enas_rnn import EnasRnnSpace
from controller.spaces.nasbench201 import NasBench201Space

SPACE = EnasRnnSpace(layers=3, activations=("tanh", "relu"))
CONSTANTS = EnasConstants(temperature=5.0, tanh_constant=2.25)


def policy(space: EnasRnnSpace = SPACE, *, bound: float = 0.8, seed: int = 1) -> EnasCellPolicy:
    made = EnasCellPolicy(space.decisions(0), hidden=8, constants=CONSTANTS)
    made.initialize(torch.Generator().manual_seed(seed), bound)
    return made


def log_prob(made: EnasCellPolicy, tokens: list[int]) -> Tensor:
    """The log-probability of one sample, step by step."""
    weights = made.weights
    cell = torch.nn.LSTMCell(8, 8, bias=False)
    with torch.no_grad():
        cell.weight_ih.copy_(weights["w_input"])
        cell.weight_hh.copy_(weights["w_hidden"])
    total, rest = torch.zeros(()), iter(tokens)
    read, state = weights["start"], (torch.zeros(8), torch.zeros(8))
    anchors = [torch.zeros(8)]
    for layer in range(1, 4):
        state = cell(read, state)
        anchors.append(state[0])
        scores = [
            torch.tanh(weights["w_anchor"] @ anchor + weights["w_query"] @ state[0]) @ weights["v"]
            for anchor in anchors[:-1]
        ]
        logits = [2.25 * torch.tanh(s / 5) - (layer - j) ** 2 / 6 for j, s in enumerate(scores)]
        source = next(rest) if layer > 1 else 0
        total = total + torch.stack(logits).log_softmax(0)[source]
        state = cell(anchors[source] / (0.1 + layer - source), state)
        activation = next(rest)
        total = total + (2.25 * torch.tanh(weights["embedding"] @ state[0] / 5)).log_softmax(0)[activation]
        read = weights["embedding"][activation]
    return total


def test_every_sample_has_the_probability_of_the_loop_and_all_add_up_to_one() -> None:
    made, tokens = policy(), [list(sample) for sample in enumerate_samples(SPACE.decisions(0))]
    found = made.score(torch.tensor(tokens)).log_prob
    torch.testing.assert_close(found, torch.stack([log_prob(made, sample) for sample in tokens]))
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_scoring_gives_what_sampling_gave() -> None:
    made = policy(EnasRnnSpace())
    sampled = made.sample(16, torch.Generator().manual_seed(2))
    assert sampled.tokens.shape == (16, 23)
    for ours, theirs in zip(sampled, made.score(sampled.tokens), strict=True):
        torch.testing.assert_close(ours, theirs)
    EnasRnnSpace().decode(sampled.tokens[0].tolist())


def test_without_weights_near_layers_are_likelier_by_the_prior_alone() -> None:
    """minus distance^2 / 6."""
    made = policy(bound=0.0)
    rollout = made.sample(4_000, torch.Generator().manual_seed(0))
    expected = torch.tensor([-9.0, -4.0, -1.0]).div(6).softmax(0)
    found = torch.bincount(rollout.tokens[:, 3], minlength=3) / 4_000
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    assert rollout.tokens[:, 4].float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_every_weight_has_a_gradient() -> None:
    made = policy(EnasRnnSpace())
    sampled = made.sample(8, torch.Generator().manual_seed(2))
    gradients = made.gradients(made.score(sampled.tokens).log_prob.sum())
    assert gradients.keys() == made.weights.keys()
    assert all(bool((g != 0).any()) for g in gradients.values())
    assert EnasCellPolicy(EnasRnnSpace(layers=1).decisions(0)).weights.keys() == {
        *("w_input", "w_hidden", "start", "embedding")
    }


@pytest.mark.parametrize(
    "decisions",
    [
        NasBench201Space().decisions(0),
        EnasMacroSpace().decisions(0),
        SPACE.decisions(0)[:2],
        (*SPACE.decisions(0)[:-1], Choice("activation", ("tanh",), 3)),
    ],
    ids=["edges", "skips", "a layer without an activation", "other activations"],
)
def test_other_decisions_are_refused(decisions: tuple[Choice, ...]) -> None:
    with pytest.raises(ValueError, match="chooses, of each layer, an earlier layer and an activation, and cannot make"):
        EnasCellPolicy(decisions)
