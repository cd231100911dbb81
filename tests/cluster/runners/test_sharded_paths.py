"""Steps along paths, on shards: 20 of them are those of a plain loop, to the bit, on any number of shards (rule 5)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from child_trainer.seeding import derive
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from child_trainer.threads import computing_with
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.objective_steps import path_gates
from cluster.runners.shared_data import data_of
from cluster.runners.shared_weights import GROUP, local_weights, make_network
from cluster.runners.trainer import Trainer, loaded_task
from cluster.search import seeding
from cluster.search.evaluator import Assignment
from controller.searcher import Lane, shared_weights_of
from tests.cluster.runners.first_jobs import first_job
from tests.lengths import LONG

STEPS = 20

MACRO = "--space enas-macro --layers 3 --operations conv_3x3 max_3x3 --filters 4"
SEARCHES = {
    "enas": f"{MACRO} --searcher enas --search-epochs 1 --steps-per-epoch {STEPS}",
    "enas-rnn": "--space enas-rnn --layers 2 --task text --cell-layers 1 --hidden-size 6 --max-vocabulary 50 --unroll 4"
    f" --searcher enas --search-epochs 1 --steps-per-epoch {STEPS} --reward perplexity",
    "one-shot": f"{MACRO} --searcher one-shot --supernet-steps {STEPS} --ghost-groups 2 --path-dropout 0.5",
    "smash": f"--space smash --searcher smash --hyper-growth 3 --hyper-depths 2 --supernet-steps {STEPS}",
}


def config(search: str, shards: int = 1) -> RunConfig:
    flags = f"--reward accuracy {SEARCHES[search]} --steps-per-child {STEPS} --batch-size 8 --max-children 200"
    return parse_run(RECIPES["digits"](), [*flags.split(), "--weights-shards", str(shards)], "digits")


def sharded(of: RunConfig) -> dict[str, Tensor]:
    """The weights after the steps of one child, as a worker makes them on the shards."""
    weights = local_weights(of, "run")
    assert weights
    child = Assignment(
        child_id=1,
        seed=seeding.child_seed(of.seed, 1),
        architecture=None,
        job=first_job(of, STEPS),
        lane=Lane(replica=0, number=0, steps_before=0),
    )
    assert Trainer(of, weights=weights).train(child).failure is None
    return weights.pull().values


def plain_loop(of: RunConfig) -> dict[str, Tensor]:
    """The same without shards: PyTorch's optimizer, which leaves weights alone that no path of a step reads."""
    job, seed, shared = first_job(of, STEPS), seeding.child_seed(of.seed, 1), shared_weights_of(of.make_searcher())
    assert shared
    network = make_network(of, shared)
    weights = network.initial(seeding.derive(of.seed, GROUP))
    rules = dict(shared.options)
    rate = rules["lr"] if job.rate is None else job.rate
    optimizer: torch.optim.Optimizer
    if shared.optimizer == "adam":
        betas = rules["beta1"], 0.999
        optimizer = torch.optim.Adam(weights.values(), lr=rate, betas=betas, eps=rules["eps"], foreach=False)
    else:
        nesterov, momentum = bool(rules.get("nesterov")), rules["momentum"]
        optimizer = torch.optim.SGD(weights.values(), lr=rate, momentum=momentum, nesterov=nesterov, foreach=False)
    task: Any = loaded_task(of.task, seed=seeding.derive(of.seed, "split"))
    data = data_of(task)
    objective, space = OBJECTIVES[job.objective], of.search_space
    for step in range(STEPS):
        settings = objective.settings_of(job.settings)
        if job.total:
            settings = replace(settings, progress=step / job.total)
        (half,) = objective.due(step, settings)
        given: Any = path_gates(space, job.paths[step]) if job.paths else {}  # type: ignore[arg-type]
        gates = Generator().manual_seed(derive(seed, f"gates of step {step}"))
        draw = half.draw(network.gate_sizes, given, settings, gates)
        images = Generator().manual_seed(derive(seed, f"images of step {step}"))
        found = half.step(network, data.batches(of.budget.batch_size, images), weights, draw, settings)
        for name, value in weights.items():
            value.grad = found.weights.get(name)
        optimizer.step()
    return {name: value.detach() for name, value in weights.items()}


@pytest.mark.parametrize("search", [pytest.param(name, marks=LONG) if name == "smash" else name for name in SEARCHES])
def test_twenty_steps_on_one_three_and_twenty_shards_are_those_of_a_plain_loop(search: str) -> None:
    with computing_with(1):
        expected = plain_loop(config(search))
        for shards in (1, 3, 20):
            found = sharded(config(search, shards))
            assert found.keys() == expected.keys()
            different = [name for name in found if not torch.equal(found[name], expected[name])]
            assert not different, f"{shards} shards"
