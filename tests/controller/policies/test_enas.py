"""ENAS's controller (spec §6.1, §6.2): what it samples, and the values of its penalty (T6.2)."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from controller.decisions import Choice, Condition, Decisions, Pointer, Subset, enumerate_samples
from controller.policies.enas import EnasConstants, EnasPolicy, skip_kl
from controller.spaces.darts import DartsSpace
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.enas_micro import EnasMicroSpace
from controller.spaces.mbconv import MbconvSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.one_shot import OneShotSpace
from controller.spaces.smash import SmashSpace

MACRO = EnasMacroSpace(layers=3, operations=("conv_3x3", "max_3x3")).decisions(0)
MICRO = EnasMicroSpace(operations=("sep_3x3", "identity"), blocks=2).decisions(0)

SPACES = (
    EnasMacroSpace(),
    EnasMicroSpace(),
    OneShotSpace(),
    SmashSpace(),
    DartsSpace(),
    MbconvSpace(),
    NasBench201Space(),
)


def policy(
    decisions: Decisions, *, hidden: int = 8, seed: int = 1, bound: float = 0.5, **constants: object
) -> EnasPolicy:
    made = EnasPolicy(decisions, hidden=hidden, constants=EnasConstants(**constants))  # type: ignore[arg-type]
    made.initialize(torch.Generator().manual_seed(seed), bound)
    return made


def tokens(decisions: Decisions) -> Tensor:
    return torch.tensor(list(enumerate_samples(decisions)))


@pytest.mark.parametrize("decisions", [MACRO, MICRO[:8]], ids=["macro", "a cell"])
def test_the_probabilities_of_all_samples_add_up_to_one(decisions: Decisions) -> None:
    total = policy(decisions, tanh_constant=1.5).score(tokens(decisions)).log_prob.exp().sum().item()
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("decisions", [MACRO, MICRO], ids=["macro", "micro"])
def test_scoring_gives_what_sampling_gave(decisions: Decisions) -> None:
    made = policy(decisions, tanh_constant=1.1, tanh_reduce=2.5, favoured=("sep_3x3",), favoured_bonus=0.25)
    sampled = made.sample(16, torch.Generator().manual_seed(2))
    scored = made.score(sampled.tokens)
    for ours, theirs in zip(sampled, scored, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_samples_occur_as_often_as_their_probabilities_say() -> None:
    made = policy(MACRO[:4])
    drawn = made.sample(20_000, torch.Generator().manual_seed(3)).tokens
    for sample, probability in zip(tokens(MACRO[:4]), made.score(tokens(MACRO[:4])).log_prob.exp(), strict=True):
        share = (drawn == sample).all(1).float().mean().item()
        assert share == pytest.approx(probability.item(), abs=0.015)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_samples_every_space_with_a_supernet(space: EnasMacroSpace) -> None:
    made = policy(space.decisions(0))
    for sample in made.sample(3, torch.Generator().manual_seed(0)).tokens.tolist():
        assert space.gates(sample)


def test_operations_share_a_softmax_and_states_have_attention() -> None:
    """ENAS has one softmax for the operations of all nodes and both cells; weights do not grow with the cell."""
    names = {name: tuple(w.shape) for name, w in policy(MICRO).named_parameters()}
    heads = {name: shape for name, shape in names.items() if name.startswith("heads")}
    assert heads == {"heads.normal_first_operation_1.weight": (2, 8)}
    assert {"w_anchor", "w_query", "v"} <= names.keys()
    large = EnasMicroSpace(operations=("sep_3x3", "identity"), blocks=5).decisions(0)
    assert names == {name: tuple(w.shape) for name, w in policy(large).named_parameters()}
    assert not any("bias" in name for name in names)


def test_a_layer_without_skips_makes_no_decision_about_them() -> None:
    made = policy(MACRO)
    assert made.sample(2, torch.Generator().manual_seed(0)).tokens.shape == (2, 3 + 0 + 1 + 2)
    assert made.score(tokens(MACRO)).skip_kl.min() >= 0


# The controllers, step by step, as the specification says them.


class PlainLstm:
    """The LSTM of a policy, and what it has read so far."""

    def __init__(self, policy: EnasPolicy) -> None:
        self.policy, self.hidden, self.cell = policy, torch.zeros(1, 8), torch.zeros(1, 8)

    def read(self, value: Tensor) -> Tensor:
        gates = value @ self.policy.w_input.T + self.hidden @ self.policy.w_hidden.T
        i, f, g, o = gates.chunk(4, 1)
        self.cell = f.sigmoid() * self.cell + i.sigmoid() * g.tanh()
        self.hidden = o.sigmoid() * self.cell.tanh()
        return self.hidden

    def attended(self, keys: Sequence[Tensor]) -> Tensor:
        queries = [key @ self.policy.w_anchor.T + self.hidden @ self.policy.w_query.T for key in keys]
        return torch.stack([torch.tanh(query) @ self.policy.v for query in queries], 1)


def test_the_macro_controller_is_the_specifications() -> None:
    made = policy(MACRO, tanh_constant=1.5, temperature=5.0)
    sample = torch.tensor([[1, 0, 1, 1, 1, 0]])  # operation; operation, skip; operation, two skips
    start, emb = made.start[None], made.weights["embeddings.operation_1.weight"]
    soft, lstm = made.weights["heads.operation_1.weight"], PlainLstm(made)
    read, anchors, log_prob, penalties = start, list[Tensor](), torch.zeros(()), []
    for operation, skips in ((1, []), (0, [1]), (1, [1, 0])):
        logits = 1.5 * torch.tanh(lstm.read(read) @ soft.T / 5)
        log_prob = log_prob + F.log_softmax(logits, 1)[0, operation]
        hidden = lstm.read(emb[operation][None])
        read = start
        if skips:
            q = 1.5 * torch.tanh(lstm.attended(anchors)[0] / 5)
            chosen = F.log_softmax(torch.stack([-q, q], 1), 1)
            log_prob = log_prob + sum(chosen[place, skip] for place, skip in enumerate(skips))
            p = torch.sigmoid(2 * q)
            penalties.append((p * (p / 0.4).log() + (1 - p) * ((1 - p) / 0.6).log()).sum())
            taken = [anchor for anchor, skip in zip(anchors, skips, strict=True) if skip]
            read = torch.stack(taken).sum(0) / (1 + len(taken))
        anchors.append(hidden)
    scored = made.score(sample)
    torch.testing.assert_close(scored.log_prob[0], log_prob)
    torch.testing.assert_close(scored.skip_kl[0], torch.stack(penalties).mean())


def test_the_micro_controller_is_the_specifications() -> None:
    """Spec §6.2: two inputs by attention, two operations by softmax; the second cell goes on from the first's state."""
    made = policy(MICRO, tanh_constant=1.1, tanh_reduce=2.5)
    sample = [[1, 0, 0, 1], [2, 1, 1, 1], [0, 0, 1, 0], [1, 2, 0, 0]]  # two blocks of each cell
    start, emb = made.start[None], made.weights["embeddings.normal_first_operation_1.weight"]
    soft, lstm = made.weights["heads.normal_first_operation_1.weight"], PlainLstm(made)
    log_prob = torch.zeros(())
    for cell in (sample[:2], sample[2:]):
        keys = [lstm.read(start), lstm.read(start)]
        values = [torch.zeros(1, 8), torch.zeros(1, 8)]
        for block in cell:
            read = start
            for state in block[:2]:
                lstm.read(read)
                logits = 1.1 * torch.tanh(lstm.attended(keys))
                log_prob = log_prob + F.log_softmax(logits, 1)[0, state]
                read = values[state]
            for operation in block[2:]:
                logits = 0.44 * torch.tanh(lstm.read(read) @ soft.T)
                log_prob = log_prob + F.log_softmax(logits, 1)[0, operation]
                read = emb[operation][None]
            keys.append(lstm.read(read))
            values.append(keys[-1])
    scored = made.score(torch.tensor(sample).reshape(1, -1))
    torch.testing.assert_close(scored.log_prob[0], log_prob)
    assert scored.skip_kl.tolist() == [0]


def test_logits_are_bounded() -> None:
    """The least likely option of two has at least the probability sigmoid(-2 c)."""
    made = policy(MICRO[:4], bound=100.0, tanh_constant=1.1, tanh_reduce=2.5)
    least = made.score(tokens(MICRO[:4])).log_prob.min().item()
    of_state, of_operation = (math.log(1 / (1 + math.exp(2 * c))) for c in (1.1, 0.44))
    assert least >= 2 * of_state + 2 * of_operation - 1e-4


def test_favoured_operations_are_likelier_in_the_first_cell() -> None:
    """Spec §6.2: a trainable bias of 10 inside the bound, and +-0.25 outside of it in the normal cell alone."""
    constants = {"favoured": ("sep_3x3",), "favoured_init": 10.0, "favoured_bonus": 0.25}
    made = policy(MICRO, bound=1e-6, tanh_constant=1.1, tanh_reduce=2.5, **constants)
    assert made.biases["normal_first_operation_1"].tolist() == [10.0, 0.0]
    drawn = made.sample(4000, torch.Generator().manual_seed(1)).tokens
    for column, logit in ((2, 0.44 + 0.5), (10, 0.44)):
        share = (drawn[:, column] == 0).float().mean().item()
        assert share == pytest.approx(1 / (1 + math.exp(-logit)), abs=0.025)


# T6.2


def test_the_penalty_is_zero_at_its_rate_and_the_divergence_elsewhere() -> None:
    probabilities = torch.tensor([0.4, 0.5, 0.9])
    found = skip_kl(torch.logit(probabilities), 0.4)
    expected = [0.0, 0.5 * math.log(0.5 / 0.4) + 0.5 * math.log(0.5 / 0.6)]
    expected.append(0.9 * math.log(0.9 / 0.4) + 0.1 * math.log(0.1 / 0.6))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert expected[1:] == pytest.approx([0.0204110, 0.5506610], abs=1e-6)
    assert skip_kl(torch.tensor([-80.0, 80.0]), 0.4).tolist() == pytest.approx([-math.log(0.6), -math.log(0.4)])


@pytest.mark.parametrize(("compatible", "expected"), [(False, 0.4), (True, 0.308)])
def test_the_penalty_draws_skips_to_its_rate_and_in_the_codes_form_to_another(
    compatible: bool, expected: float
) -> None:
    decisions = MACRO[:4]
    made = policy(decisions, tanh_constant=1.5, compatible=compatible)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
    sample = torch.tensor([[0, 0, 1]])
    for _ in range(200):
        optimizer.zero_grad()
        made.score(sample).skip_kl.sum().backward()
        optimizer.step()
    both = made.score(torch.tensor([[0, 0, 0], [0, 0, 1]])).log_prob
    assert torch.softmax(both, 0)[1].item() == pytest.approx(expected, abs=0.002)


def test_the_sampled_entropy_is_of_the_tokens_that_were_drawn() -> None:
    made = policy((Choice("operation", ("a", "b", "c"), 1),))
    scored = made.score(torch.tensor([[0], [1], [2]]))
    p = scored.log_prob.exp()
    torch.testing.assert_close(scored.sample_entropy, (-p * p.log()).detach())
    torch.testing.assert_close(scored.sample_entropy.sum(), scored.entropy[0].detach())
    assert not scored.sample_entropy.requires_grad


@pytest.mark.parametrize(
    ("decisions", "what"),
    [
        ((Pointer("anchor", 0), Pointer("anchor", 1)), "pointers"),
        ((Choice("a", (1, 2)), Choice("b", (1, 2), when=Condition(0, (1,)))), "choices that depend on earlier ones"),
    ],
)
def test_refuses_decisions_that_it_cannot_make(decisions: Decisions, what: str) -> None:
    with pytest.raises(ValueError, match=f"cannot make {what}"):
        EnasPolicy(decisions)


def test_first_weights_are_fixed_by_the_seed() -> None:
    ours, theirs, other = (policy(MICRO, seed=seed).values() for seed in (1, 1, 2))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["w_input"], other["w_input"])


def test_skips_are_chosen_among_all_earlier_layers() -> None:
    with pytest.raises(ValueError, match="among all 0 earlier layers"):
        EnasPolicy((Subset("skip", 2),))
