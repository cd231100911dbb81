"""ENAS on the cluster's parts, one of each, equals a loop of plain PyTorch to the bit."""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from child_trainer.seeding import derive
from child_trainer.supernets.batches import Batches, ImageSource
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.threads import computing_with
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.build import make_parameters, make_searcher
from cluster.runners.shared_weights import GROUP
from cluster.runners.trainer import loaded_task
from cluster.search import seeding
from cluster.search.seeding import child_seed
from controller.policies.enas import EnasPolicy, skip_divergence
from tests.cluster.search.test_replica import Run

FLAGS = (
    "--replicas 1 --children 1 --shards 1 --layers 3 --operations conv_3x3 max_3x3 --filters 4 --batch-size 16"
    " --epoch-steps 5 --steps-per-child 2 --epoch-scores 3 --score-batches 2 --refit-batches 1 --weights-l2 0"
    " --weights-clip-norm 0 --weights-snapshot 0 --controller-units 6 --max-children 12"
)
"""Two epochs of 3 children that make 2, 2 and 1 steps, and of 3 scores."""


def plain_loop(  # noqa: PLR0915 - a loop to be read from its beginning to its end
    config: RunConfig,
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
    """Return the shared weights, the policy's weights, and the scores (Pham et al. 2018, section 2.2)."""
    space, options, task = config.search_space, config.searcher_options, config.task.entry
    assert task.problem is not None
    images: Any = loaded_task(config.task, seed=seeding.derive(config.seed, "split"))
    source = ImageSource(images.training, images.validation, images.augmented, images.centred)
    supernet: Any = space
    network = SupernetNetwork(supernet.supernet(), task.problem, config.budget.regime)
    omega = network.initial(seeding.derive(config.seed, GROUP))
    policy = EnasPolicy(space.choice_sizes(), hidden=options.controller_units, bound=options.logit_bound)
    policy.initialize(torch.Generator().manual_seed(seeding.derive(config.seed, "parameters")), options.controller_init)
    theta, decisions, baseline = dict(policy.named_parameters()), space.decisions(0), 0.0
    sgd = torch.optim.SGD(
        [value.requires_grad_() for value in omega.values()],
        options.weights_learning_rate,
        options.weights_momentum,
        foreach=False,
    )
    adam = torch.optim.Adam(
        theta.values(), options.controller_learning_rate, (0.0, 0.999), eps=1e-3, foreach=True, fused=False
    )
    scores = []
    for child in range(1, config.max_children + 1):
        rng = random.Random(seeding.derive(config.seed, "ask", 0, child))
        generator, seed = torch.Generator().manual_seed(rng.getrandbits(63)), child_seed(config.seed, child)

        def batches(purpose: str, seed: int = seed) -> Batches:
            drawn = torch.Generator().manual_seed(derive(seed, purpose))
            return Batches(source, config.budget.batch_size, drawn)

        def gates(path: list[int]) -> dict[str, Tensor]:
            return {name: torch.tensor(gate) for name, gate in supernet.gates(path).items()}

        place = (child - 1) % (options.training_children + options.epoch_scores)
        if place < options.training_children:
            count = options.count_of(options.epoch_steps, place)
            for step, path in enumerate(policy.sample(decisions, count, generator).tokens.tolist()):
                inputs, labels = batches(f"images of step {step}").training()
                sgd.zero_grad()
                F.cross_entropy(network.train()(omega, inputs, gates(path)), labels).backward()
                sgd.step()
            continue
        tokens = policy.sample(decisions, 1, generator).tokens
        path, given = gates(tokens[0].tolist()), batches("images to refit")
        statistics = network.eval().refit(omega, path, given.to_refit(options.refit_batches))
        with torch.no_grad():
            found = [
                (network(omega, inputs, path, statistics).argmax(1) == labels).sum().item()
                for inputs, labels in given.some_validation(options.score_batches)
            ]
        scores.append(sum(found) / (config.budget.batch_size * options.score_batches))
        rollout, skips = policy.score_skips(decisions, tokens)
        reward = torch.tensor([scores[-1]]) + options.entropy_bonus * rollout.entropy.detach()
        new = options.baseline_decay * baseline + (1 - options.baseline_decay) * reward.item()
        loss = -((reward - new) * rollout.log_prob).mean()
        loss = loss + options.skip_weight * skip_divergence(skips, options.skip_target).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        # As the shard computes it, in float32.
        moved = torch.tensor([baseline]).mul_(options.baseline_decay).add_(reward, alpha=1 - options.baseline_decay)
        baseline = moved.item()
    detached = ({name: value.detach() for name, value in values.items()} for values in (omega, theta))
    return (*detached, scores)


def test_one_of_everything_is_the_plain_loop(tmp_path: Path) -> None:
    config = parse_run(RECIPES["enas-macro-digits"](), FLAGS.split(), "enas-macro-digits")
    run = Run(tmp_path, config)
    run.start()
    with computing_with(1):
        omega, theta, scores = plain_loop(config)
    assert [metric for (metric,) in run.rows("SELECT metric FROM children WHERE metric IS NOT NULL")] == scores
    assert run.weights.keys() == omega.keys()
    assert all(torch.equal(run.weights[name], omega[name]) for name in omega)
    moved = [name for name in theta if not torch.equal(run.values[name], first(config)[name])]
    assert len(moved) == len(theta)
    assert all(torch.equal(run.values[name], theta[name]) for name in theta)


def first(config: RunConfig) -> dict[str, Tensor]:
    """The policy's first weights."""
    groups = make_parameters(config, make_searcher(config))
    return {name: value for group in groups for name, value in group.values.items()}
