"""T17.6 and T17.7: the learning modes and the loss of a step."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.seed_agem.modes import Mode
from child_trainer.seed_agem.options import SubnetworkOptions
from child_trainer.seed_agem.sharing import share, shared_parameters
from child_trainer.seed_agem.training import (
    MODES,
    Subnetworks,
    absolute_error,
    gradients,
    subnetwork_loss,
    take_step,
)
from child_trainer.training.state import SgdState
from tests.child_trainer.seed_agem.networks import EQUAL, WIDER, subnetworks

OPTIONS = SubnetworkOptions()
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(8, 1, 8, 8, generator=GENERATOR)
LABELS = torch.arange(8)


def made(shared: int = 1) -> tuple[Subnetworks, torch.optim.Optimizer]:
    """Two sub-networks, whose layers of the first depths are shared."""
    network = Subnetworks(subnetworks(EQUAL, WIDER), 2)
    optimizer = torch.optim.SGD(network.trained(), 0.5, 0.9, weight_decay=0.01)
    share(network.members, optimizer, shared)
    return network, optimizer


def loss_of(network: Subnetworks, k: int) -> torch.Tensor:
    logits = network.members[k](IMAGES)
    return subnetwork_loss(logits, network.teacher_logits(k, IMAGES), LABELS, OPTIONS)


def step(network: Subnetworks, optimizer: torch.optim.Optimizer, mode: Mode, turn: int = 0) -> None:
    gradients(lambda k: loss_of(network, k), network, mode, turn)
    optimizer.step()


def changed(network: Subnetworks, act) -> dict[str, set[str]]:
    """The names of the tensors that `act` changes, buffers included, by sub-network."""
    before = copy.deepcopy([member.state_dict() for member in network.members])
    act()
    return {
        str(k): {name for name, tensor in member.state_dict().items() if not torch.equal(tensor, before[k][name])}
        for k, member in enumerate(network.members)
    }


def names_of(network: Subnetworks, k: int, *, shared: bool) -> set[str]:
    common = set(map(id, shared_parameters(network.members)))
    return {name for name, p in network.members[k].named_parameters() if (id(p) in common) == shared}


def norm_of(member: torch.nn.Module) -> float:
    return math.sqrt(sum(p.grad.square().sum().item() for p in member.parameters() if p.grad is not None))


def test_the_individual_mode_leaves_what_is_shared_bit_identical() -> None:
    network, optimizer = made()
    step(network, optimizer, Mode.JOINT)  # so that there are moments, which must not move it either
    names = changed(network, lambda: step(network, optimizer, Mode.INDIVIDUAL))
    for k in (0, 1):
        assert names_of(network, k, shared=True)
        assert not names[str(k)] & names_of(network, k, shared=True)
        assert names_of(network, k, shared=False) <= names[str(k)]


def test_in_the_individual_mode_each_has_the_gradient_of_its_own_loss() -> None:
    network, _ = made()
    gradients(lambda k: loss_of(network, k), network, Mode.INDIVIDUAL, 0)
    for k in (0, 1):
        own = dict(network.members[k].named_parameters())
        private = [own[name] for name in sorted(names_of(network, k, shared=False))]
        for parameter, expected in zip(private, torch.autograd.grad(loss_of(network, k), private), strict=True):
            torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("mode", [Mode.INDIVIDUAL, Mode.JOINT])
def test_in_the_individual_mode_a_long_gradient_makes_no_other_subnetworks_shorter(mode: Mode) -> None:
    """One network's gradient is long, as its classifier multiplies; the other's is shorter than the limit."""
    network, _ = made(shared=0)
    with torch.no_grad():
        network.members[0].head.weight.mul_(50)
    optimizer = torch.optim.SGD(network.trained(), 0.0)
    gradients(lambda k: loss_of(network, k), network, mode, 0)
    before = [norm_of(member) for member in network.members]
    limit = before[1] * 1.5
    assert before[0] > 10 * limit
    budget = Budget(epochs=2, learning_rate=1.0, regime=Regime(clip_norm=limit))
    network.modes[0] = MODES.index(mode)
    state = SgdState(network, optimizer, LABELS, others={})
    take_step(network, state, IMAGES, LABELS, OPTIONS, budget, (0, 0, 1))
    after = [norm_of(member) for member in network.members]
    if mode is Mode.INDIVIDUAL:
        assert after == pytest.approx([limit, before[1]], rel=1e-4)
    else:  # there the gradient is one, of all parameters together
        scale = limit / math.hypot(*before)
        assert after == pytest.approx([scale * before[0], scale * before[1]], rel=1e-4)


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_the_iterative_mode_touches_the_tensors_of_one_subnetwork_in_turn(turn: int) -> None:
    network, optimizer = made()
    names = changed(network, lambda: step(network, optimizer, Mode.ITERATIVE, turn))
    active, other = turn % 2, (turn + 1) % 2
    assert names[str(other)] == names_of(network, other, shared=True)  # its statistics stay, too
    assert names_of(network, active, shared=True) | names_of(network, active, shared=False) <= names[str(active)]


def test_the_joint_gradient_is_the_mean_of_the_single_ones() -> None:
    network, _ = made()
    parameters = network.trained()
    gradients(lambda k: loss_of(network, k), network, Mode.JOINT, 0)
    joint = [parameter.grad for parameter in parameters]
    single = [torch.autograd.grad(loss_of(network, k), parameters, allow_unused=True) for k in (0, 1)]
    for gradient, *parts in zip(joint, *single, strict=True):
        total = sum(part for part in parts if part is not None)
        torch.testing.assert_close(gradient, total / 2)


def test_the_loss_is_cross_entropy_and_divergence_from_a_constant_teacher() -> None:
    logits = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0])
    p, q = logits.softmax(1), teacher.softmax(1)
    expected = sum(
        -0.1 * math.log(p[i, labels[i]].item())
        + 0.9 * sum(q[i, a].item() * math.log(q[i, a].item() / p[i, a].item()) for a in range(4))
        for i in range(5)
    )
    loss = subnetwork_loss(logits, teacher, labels, OPTIONS)
    assert loss.item() == pytest.approx(expected / 5, abs=1e-12)
    loss.backward()
    assert teacher.grad is None
    equal = subnetwork_loss(logits, logits, labels, OPTIONS).item()
    assert equal == pytest.approx(0.1 * F.cross_entropy(logits, labels).item(), abs=1e-12)


def test_a_teacher_follows_its_subnetwork_and_learns_by_no_gradient() -> None:
    network, optimizer = made(shared=0)
    first = [p.detach().clone() for p in network.members[0].parameters()]
    step(network, optimizer, Mode.JOINT)
    network.move_teachers(0.75)
    teacher = list(network._teachers[0].parameters())
    for old, new, average in zip(first, network.members[0].parameters(), teacher, strict=True):
        torch.testing.assert_close(average, 0.75 * old + 0.25 * new)
        assert average.grad is None
        assert not average.requires_grad


def test_the_absolute_error_is_what_is_missing_to_the_true_label() -> None:
    outputs = torch.tensor([[[0.7, 0.3], [0.2, 0.8]], [[1.0, 0.0], [0.5, 0.5]]])
    assert absolute_error(outputs, torch.tensor([0, 1])) == pytest.approx((0.3 + 0.2 + 0.0 + 0.5) / 4)
