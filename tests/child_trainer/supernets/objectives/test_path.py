import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.networks.build import build
from child_trainer.networks.weights import load, named
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.objective import Draw
from child_trainer.supernets.objectives.path import DROPOUT, PATH, keep_mask
from child_trainer.supernets.restriction import restrict
from tests.child_trainer.supernets.problem import Problem, one_hot
from tests.contracts.objective import Data

PROBLEM = Problem()
WINDOW = {"height": 3, "width": 3, "filters": 4}
SUPERNET = Architecture(
    "feedforward",
    (
        node("stem", "conv", "image", **WINDOW),
        node("a", "conv", "stem", **WINDOW),
        node("b", "conv", "stem", **WINDOW),
        node("op", "mix", ("a", "b", "stem"), gate="op"),
        node("c", "conv", "op", **WINDOW),
        node("next", "mix", ("c", "op"), gate="next"),
        node("end", "add", ("next", "stem")),
    ),
    ("end",),
)
NETWORK = SupernetNetwork(SUPERNET, PROBLEM)
DATA = Data(PROBLEM.images(16), PROBLEM.labels(16))


def run(objective, given, weights, seed=0, data=DATA, **values):
    settings = objective.settings_of(values)
    (half,) = objective.due(0, settings)
    draw = half.draw(NETWORK.gate_sizes, given, settings, Generator().manual_seed(seed))
    return half.step(NETWORK, data, weights, draw, settings), draw


@pytest.mark.parametrize("seed", range(3))
def test_a_step_along_a_path_is_a_step_of_its_child(seed):
    gates, weights = one_hot(NETWORK.gate_sizes, seed), NETWORK.initial(seed)
    step, _ = run(PATH, gates, weights, label_smoothing=0.1, l2=1e-2, clip_norm=0.2)
    child = build(restrict(SUPERNET, {name: gate.tolist() for name, gate in gates.items()}), PROBLEM)
    load(child, {name: weights[name] for name in named(child)})
    images, labels = DATA.training()
    logits = child(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
    (loss + 1e-2 * sum(w.square().sum() for w in child.parameters())).backward()
    norm = nn.utils.clip_grad_norm_(child.parameters(), 0.2)
    assert norm > 0.2
    assert step.weights.keys() == named(child).keys()
    for name, parameter in named(child).items():
        torch.testing.assert_close(step.weights[name], parameter.grad, rtol=1e-5, atol=1e-7)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert step.accuracy == (logits.argmax(1) == labels).float().mean().item()


def test_paths_with_an_operation_in_common_move_the_same_tensor_and_no_other():  # spec §6.4, T6.3
    weights = NETWORK.initial(0)
    one, other = (
        run(PATH, {"op": torch.eye(3)[0], "next": torch.eye(2)[place]}, weights)[0].weights for place in (0, 1)
    )
    assert "a/conv.weight" in one.keys() & other.keys()
    assert not any(name.startswith("b/") for name in one.keys() | other.keys())
    assert "c/conv.weight" in one.keys() - other.keys()


# --- One-Shot ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "draws"), [(3, 100_000), (1, 30_000), (8, 30_000)])
def test_all_paths_into_a_choice_are_dropped_with_the_drop_rate(size, draws):  # spec §11, T11.1, G15
    generator, rate = Generator().manual_seed(0), 0.1
    masks = torch.stack([keep_mask(size, rate, generator) for _ in range(draws)])
    assert masks.unique().tolist() == [0.0, 1.0]
    assert (masks.sum(1) == 0).float().mean().item() == pytest.approx(rate, abs=0.003)
    assert (1 - masks).mean().item() == pytest.approx(rate ** (1 / size), abs=0.003)


def test_dropping_begins_at_nothing_and_rises_linearly():
    sizes = {f"gate{i}": 1 for i in range(4000)}

    def dropped(progress: float) -> float:
        settings = DROPOUT.settings_of({"progress": progress, "drop_rate": 0.4})
        (half,) = DROPOUT.due(0, settings)
        (gates,) = half.draw(sizes, {}, settings, Generator().manual_seed(1)).gates
        return 1 - torch.cat([torch.as_tensor(gate) for gate in gates.values()]).mean().item()

    assert dropped(0) == 0
    assert dropped(0.5) == pytest.approx(0.2, abs=0.02)
    assert dropped(1) == pytest.approx(0.4, abs=0.02)


def test_each_ghost_group_has_paths_and_statistics_of_its_own():
    weights = NETWORK.initial(0)
    step, draw = run(DROPOUT, {}, weights, groups=4, progress=1.0, drop_rate=0.5)
    assert len({str(gates) for gates in draw.gates}) > 1
    images, labels = DATA.training()
    own = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    losses = [
        F.cross_entropy(NETWORK(own, some, gates), classes)
        for gates, some, classes in zip(draw.gates, images.chunk(4), labels.chunk(4), strict=True)
    ]
    loss = torch.stack(losses).mean()
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert step.weights.keys() == {name for name, w in own.items() if w.grad is not None}
    for name, gradient in step.weights.items():
        torch.testing.assert_close(gradient, own[name].grad, rtol=1e-5, atol=1e-7)


def test_groups_of_unequal_size_count_by_their_images():
    weights = NETWORK.initial(0)
    data = Data(PROBLEM.images(10), PROBLEM.labels(10))  # 5 training images in groups of 3 and 2
    step, draw = run(DROPOUT, {}, weights, data=data, groups=2)
    images, labels = data.training()
    losses = [
        F.cross_entropy(NETWORK(weights, images[part], gates), labels[part], reduction="sum")
        for part, gates in zip((slice(3), slice(3, 5)), draw.gates, strict=True)
    ]
    assert step.loss == pytest.approx(torch.stack(losses).sum().item() / 5, rel=1e-6)


def test_the_penalty_is_on_active_paths_only():  # spec §11, T11.3
    weights = NETWORK.initial(0)
    (half,) = DROPOUT.half_steps
    draw = Draw(({"op": torch.tensor([1.0, 0.0, 0.0]), "next": torch.tensor([0.0, 1.0])},))
    with_penalty, without = (
        half.step(NETWORK, DATA, weights, draw, DROPOUT.settings_of({"l2": l2})).weights for l2 in (0.01, 0.0)
    )
    assert with_penalty.keys() == without.keys()
    assert not any(name.startswith(("b/", "c/")) for name in with_penalty)
    for name, gradient in with_penalty.items():
        torch.testing.assert_close(gradient - without[name], 0.02 * weights[name], rtol=1e-3, atol=1e-6)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="`drop_rate` must be at least 0 and below 1, got 1"):
        DROPOUT.settings_of({"drop_rate": 1})
    with pytest.raises(ValueError, match="`groups` must be at least 1, got 0"):
        DROPOUT.settings_of({"groups": 0})
    with pytest.raises(ValueError, match=r"`groups` must be a whole number, got 1\.5"):
        DROPOUT.settings_of({"groups": 1.5})
    with pytest.raises(ValueError, match="an example for each of 9 groups, got 8"):
        run(DROPOUT, {}, NETWORK.initial(0), groups=9)


def test_the_backward_pass_is_as_deterministic_as_the_forward_pass():
    """On a GPU convolutions would otherwise add up their gradients in any order."""
    seen: list[bool] = []

    def watch(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda gradient: seen.append(torch.backends.cudnn.deterministic))

    hook = register_module_forward_hook(watch)
    try:
        run(PATH, one_hot(NETWORK.gate_sizes, 0), NETWORK.initial(0))
    finally:
        hook.remove()
    assert seen
    assert all(seen)
