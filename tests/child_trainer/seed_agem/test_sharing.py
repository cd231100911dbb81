"""T17.1: layers of one shape become shared from the input on, with the means of what they were."""

import math

import pytest
import torch

from child_trainer.networks.build import Classifier
from child_trainer.seed_agem.sharing import layers_of, share, shared_depth, shared_parameters, sharing_groups
from tests.child_trainer.seed_agem.networks import EQUAL, WIDER, subnetworks


def optimizer_of(networks: list[Classifier], momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for network in networks for p in network.parameters()], 0.1, momentum)


def stepped(networks: list[Classifier], optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        optimizer.zero_grad()
        sum((network(images).square().mean() for network in networks), torch.zeros(())).backward()
        optimizer.step()


def count(networks: list[Classifier]) -> int:
    return sum(p.numel() for p in {p for network in networks for p in network.parameters()})


def test_at_first_nothing_is_shared_and_at_last_all_that_has_one_shape() -> None:
    networks = subnetworks(EQUAL, WIDER)
    optimizer = optimizer_of(networks)
    assert not shared_parameters(networks)
    share(networks, optimizer, 4)
    same = [
        [a is b for a, b in zip(first.parameters(), second.parameters(), strict=True)]
        for first, second in zip(*map(layers_of, networks), strict=True)
    ]
    # The second layer is wider, so that the third reads more channels: neither can be shared.
    assert [set(each) for each in same] == [{True}, {False}, {False}, {True}]
    statistics = [{b.data_ptr() for b in network.buffers() if b.dim()} for network in networks]
    assert not statistics[0] & statistics[1]


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1, 0.9), lambda p: torch.optim.Adam(p, 0.1)])
def test_what_becomes_shared_is_the_mean_and_so_are_the_optimizers_moments(make) -> None:
    networks = subnetworks(EQUAL, EQUAL)
    optimizer = make([p for network in networks for p in network.parameters()])
    stepped(networks, optimizer)
    pairs = list(zip(*(list(network.parameters()) for network in networks), strict=True))
    means = [torch.stack([a.detach(), b.detach()]).mean(0) for a, b in pairs]
    moments = [
        {key: torch.stack([optimizer.state[p][key] for p in pair]).mean(0) for key in optimizer.state[pair[0]]}
        for pair in pairs
    ]
    share(networks, optimizer, 4)
    assert len(shared_parameters(networks)) == len(pairs) == len(optimizer.param_groups[0]["params"])
    assert len(optimizer.state) == len(pairs)
    for parameter, mean, moment in zip(networks[0].parameters(), means, moments, strict=True):
        assert torch.equal(parameter, mean)
        assert optimizer.state[parameter].keys() == moment.keys()
        assert all(torch.equal(optimizer.state[parameter][key], value) for key, value in moment.items())
    stepped(networks, optimizer)  # and it goes on


def test_depths_become_shared_one_after_another_and_the_parameters_only_get_fewer() -> None:
    networks = subnetworks(EQUAL, EQUAL)
    optimizer, counts = optimizer_of(networks), [count(subnetworks(EQUAL, EQUAL))]
    for depths in range(1, 5):
        share(networks, optimizer, depths)
        before = [p.detach().clone() for p in networks[0].parameters()]
        share(networks, optimizer, depths)  # once more changes nothing
        assert all(torch.equal(a, b) for a, b in zip(before, networks[0].parameters(), strict=True))
        assert len(sharing_groups(networks)) == 4
        counts.append(count(networks))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] * 2 == counts[0]


def test_of_three_only_those_of_one_shape_share() -> None:
    from child_trainer.networks.build import build
    from child_trainer.tasks.subnetworks import members_of
    from controller.spaces.subnetworks import SubnetworkSpace
    from tests.child_trainer.seed_agem.networks import PROBLEM

    space = SubnetworkSpace(subnetworks=3, layers=1, num_filters=(4, 6), activations=("relu",), skip_connections=False)
    networks = [build(m, PROBLEM) for m in members_of(space.decode((0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)))]
    share(networks, optimizer_of(networks), 2)
    first, wider, third = (list(network.parameters()) for network in networks)
    assert all(a is b for a, b in zip(first, third, strict=True))
    assert not {id(p) for p in wider} & {id(p) for p in first}


def test_the_shared_depth_rises_from_none_to_all() -> None:
    assert [shared_depth(4, epoch, 4) for epoch in range(6)] == [0, 1, 2, 3, 4, 4]
    assert [shared_depth(4, epoch, 2.5) for epoch in range(4)] == [0, 1, 3, 4]
    assert shared_depth(4, 1_000, math.inf) == 0
