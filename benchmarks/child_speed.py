"""Children a core-hour: a plain loop with torchvision's transforms and a `DataLoader`, and ours, now and before.

    python -m benchmarks.child_speed [options] [NETWORK ...]

A NETWORK is one of those below, each with the budget of the recipe that it is named after (cifar10: one of its ten
epochs); without any it is all of them. It is the network in the middle, by its FLOPs, of 15 random ones of the recipe.

Each loop trains the same network with the same budget in a process of its own, with one thread, and they take turns
of four seeds, so that other load slows all of them; what is compared is the CPU time of a training, with all that is
computed for it and without the loading of the files. Printed are medians, the ratio within each seed (median, lowest
and highest), and the accuracies after the last epoch.

The plain loop is what one writes by hand: PIL images, `Resize`, `RandomCrop`, `RandomHorizontalFlip` and the
standardisation of each image in a `DataLoader` without further processes, PyTorch's own SGD, evaluation without
gradients in batches of the training's size.

The last loop trains four seeds as one network (`--fuse-seeds 4`), also where the option would not, because it is
slower there; a seed's time is a quarter of it.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks import cost
from child_trainer.networks.build import build, classifier_on_meta
from child_trainer.outcome import Budget
from child_trainer.seeding import derive
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.torchvision_import import datasets
from child_trainer.training.image_classifier import Images, standardise
from child_trainer.training.train import train
from cluster.config.recipes import RECIPES
from controller.space import first_tokens

CHECKOUT = Path(__file__).resolve().parents[1]

DRAWN = 15
"""Random networks of which the one in the middle is trained."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network to train: the recipe it is from, the seeds it is trained with, and the epochs if not the recipe's."""

    recipe: str
    seeds: int
    epochs: int | None = None


CASES: Mapping[str, Case] = {
    "digits": Case(recipe="digits", seeds=20),
    "nasnet-digits": Case(recipe="nasnet-digits", seeds=10),
    "fashion-mnist": Case(recipe="fashion-mnist", seeds=5),
    "cifar10": Case(recipe="cifar10", seeds=2, epochs=1),
}

LOOPS = {
    "plain": "plain loop",
    "before": "ours before",
    "now": "ours now",
    "bfloat16": "ours now, bfloat16",
    "fused": "ours now, 4 seeds as one",
}

FUSED = 4
"""Seeds that are trained as one by the loop `fused`."""


# --- One process, which trains by one loop -----------------------------------------------------------------------


def folder_of(task: str, data: Path | None) -> Path | None:
    """Return the folder of a task's images."""
    return None if task == "digits" or data is None else data / task


def prepared(name: str, data: Path | None) -> tuple[ImageTask, Budget, Architecture]:
    """Return the task, the budget and the network of a case."""
    case = CASES[name]
    config = RECIPES[case.recipe]()
    task = load_task(config.task.task, data=folder_of(config.task.task, data), seed=0)
    assert isinstance(task, ImageTask)
    rng, space = random.Random(0), config.search_space
    drawn = [space.decode(first_tokens(space, 0, rng)) for _ in range(DRAWN)]
    image = torch.empty((1, *task.input_shape), device="meta")
    drawn.sort(key=lambda network: cost.flops(classifier_on_meta(network, task), image))
    budget = config.budget if case.epochs is None else replace(config.budget, epochs=case.epochs)
    return task, budget, drawn[DRAWN // 2]


class PilImages(Dataset[tuple[torch.Tensor, int]]):
    """Images as torchvision's data sets give them: from an array to PIL, then through transforms."""

    def __init__(self, images: Images, transform: Callable[[Any], torch.Tensor]) -> None:
        self.arrays = images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels, self.transform = images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        array = self.arrays[place]
        return self.transform(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)), self.labels[place]


def train_plainly(
    network: Architecture, task: ImageTask, budget: Budget, seed: int, device: str = "cpu", readers: int = 0
) -> list[float]:
    """Train as one would by hand; return the validation accuracy after each epoch.

    Args:
        network, task, budget, seed: as of `train`; the task's images are on the CPU.
        device: where the network is.
        readers: processes that prepare the batches; 0: this one does.
    """
    assert datasets  # torchvision, imported where its operators do not match, too
    from torchvision import transforms

    enlarge = transforms.Resize(task.upsampled_size)
    pixels = transforms.Lambda(lambda image: standardise(255 * transforms.functional.to_tensor(image)[None])[0])
    mirror = [transforms.RandomHorizontalFlip()] if task.flip else []
    changes = transforms.Compose([enlarge, transforms.RandomCrop(task.crop_size), *mirror, pixels])
    centre = transforms.Compose([enlarge, transforms.CenterCrop(task.crop_size), pixels])
    torch.manual_seed(derive(seed, "order"))
    training = PilImages(task.training.first(budget.train_fraction), changes)
    batches = DataLoader(training, budget.batch_size, shuffle=True, drop_last=True, num_workers=readers)
    validation = DataLoader(PilImages(task.validation, centre), budget.batch_size, num_workers=readers)
    model = build(network, task, generator=torch.Generator().manual_seed(derive(seed, "weights"))).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        budget.learning_rate,
        budget.momentum,
        weight_decay=budget.weight_decay,
        nesterov=budget.momentum > 0,
    )
    curve = []
    for epoch in range(budget.epochs):
        model.train()
        for step, (images, labels) in enumerate(batches):
            for group in optimizer.param_groups:
                passed = epoch + step / len(batches)
                group["lr"] = budget.regime.rate(budget.learning_rate, passed, budget.epochs)
            optimizer.zero_grad()
            F.cross_entropy(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
        curve.append(_accuracy(model, validation, device))
    return curve


def _accuracy(model: nn.Module, batches: DataLoader[Any], device: str) -> float:
    model.eval()
    correct, count = 0, 0
    with torch.no_grad():
        for images, labels in batches:
            correct += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
            count += len(labels)
    return correct / count


def train_by(loop: str, network: Architecture, task: ImageTask, budget: Budget, seed: int) -> list[float]:
    """Train one child by a loop; return its curve."""
    if loop == "plain":
        return train_plainly(network, task, budget, seed)
    if loop == "bfloat16":
        budget = replace(budget, regime=replace(budget.regime, precision="bfloat16"))
    outcome = train(network, task, budget, seed=seed)
    assert outcome.failure is None, outcome.failure
    return list(outcome.curve)


def train_as_one(network: Architecture, task: ImageTask, budget: Budget, seeds: Sequence[int]) -> list[list[float]]:
    """Train children with several seeds as one network; return their curves."""
    from child_trainer.training.task import Progress

    each = [Progress() for _ in seeds]
    errors = task.fit_together(network, budget, Progress(epochs=budget.epochs), each, seeds=seeds)
    assert not any(errors), errors
    return [one.curve for one in each]


def serve(loop: str, name: str, data: Path | None) -> None:
    """Train a child for each of the seeds in a line of standard input; print their curves and CPU seconds as JSON."""
    torch.set_num_threads(1)
    task, budget, network = prepared(name, data)
    short = replace(budget, epochs=1, train_fraction=0.02)

    def trained(budget: Budget, seeds: Sequence[int]) -> list[tuple[float, list[float]]]:
        if loop == "fused":
            started = time.process_time()
            curves = train_as_one(network, task, budget, seeds)
            return [((time.process_time() - started) / len(seeds), curve) for curve in curves]
        found: list[tuple[float, list[float]]] = []
        for seed in seeds:
            started = time.process_time()
            curve = train_by(loop, network, task, budget, seed)
            found.append((time.process_time() - started, curve))
        return found

    trained(short, range(FUSED))  # kernels are compiled at first
    for line in sys.stdin:
        print(json.dumps(trained(budget, [int(word) for word in line.split()])), flush=True)


# --- The measurement ---------------------------------------------------------------------------------------------


class Loop:
    """A process that trains by one loop, with the code of a checkout."""

    def __init__(self, loop: str, name: str, data: Path | None, checkout: Path) -> None:
        words = [sys.executable, __file__, "--serve", loop, name, *(("--data", str(data)) if data else ())]
        path = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            words, env=os.environ | path, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def train(self, seeds: Sequence[int]) -> list[tuple[float, list[float]]]:
        """Return the CPU seconds of a child with each of these seeds, and its curve."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{' '.join(map(str, seeds))}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.process.args!r} has ended; its error is above")
        return [(seconds, curve) for seconds, curve in json.loads(line)]

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def measure(name: str, data: Path | None, before: Path | None, seeds: int | None, loops: Collection[str]) -> None:
    """Train the network of one case by these loops, and print its rows."""
    checkouts = {loop: before if loop == "before" else CHECKOUT for loop in LOOPS if loop in loops}
    processes = {loop: Loop(loop, name, data, checkout or CHECKOUT) for loop, checkout in checkouts.items()}
    results: dict[str, list[tuple[float, list[float]]]] = {loop: [] for loop in processes}
    each = range(seeds or CASES[name].seeds)
    for group in (each[first : first + FUSED] for first in range(0, len(each), FUSED)):
        for loop, process in processes.items():
            results[loop] += process.train(group)
    for process in processes.values():
        process.close()
    times = {loop: [seconds for seconds, _ in found] for loop, found in results.items()}
    for loop, found in results.items():
        accuracies = [curve[-1] for _, curve in found]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        columns = [
            f"{3600 / statistics.median(times[loop]):,.0f}",
            *(_ratio(times[other], times[loop]) if other in times else "" for other in ("plain", "before", "now")),
            f"{100 * statistics.fmean(accuracies):.1f} ± {100 * spread:.1f}",
        ]
        print(f"| {name} | {LOOPS[loop]} | {' | '.join(columns)} |", flush=True)
    if {"now", "fused"} <= results.keys():
        print(f"\n{name}: {_apart(results['now'], results['fused'])}\n")
    if {"now", "before"} <= results.keys():
        same = sum(ours == theirs for (_, ours), (_, theirs) in zip(results["now"], results["before"], strict=True))
        print(f"\n{name}: {same} of {len(results['now'])} curves of ours before and now are equal to the bit.\n")


def _apart(alone: Sequence[tuple[float, list[float]]], fused: Sequence[tuple[float, list[float]]]) -> str:
    """Return how far the last accuracies of seeds as one are from those of each alone."""
    differences = [100 * (ours[-1] - theirs[-1]) for (_, theirs), (_, ours) in zip(alone, fused, strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    return (
        f"seeds as one are {statistics.fmean(differences):+.1f} ± {error:.1f} % from each alone, the mean and its error"
    )


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _checkout(text: str) -> Path:
    from benchmarks.command_words import checkout_folder  # not at the top: the loop of an older checkout has no such

    return checkout_folder(text)


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.child_speed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"one of {', '.join(CASES)}; default: all")
    parser.add_argument("--data", type=Path, help="the folder that holds fashion-mnist/ and cifar10/; without: digits")
    parser.add_argument(
        "--before", metavar="CHECKOUT", type=_checkout, help="a checkout of another commit, whose loop is measured, too"
    )
    parser.add_argument(
        "--seeds", type=int, help="trainings by each loop; default: 20 on digits, 2 to 10 on the others"
    )
    parser.add_argument("--serve", metavar="LOOP", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=tuple(LOOPS), help="the loops; default: all")
    given = parser.parse_args(arguments)
    loops = [loop for loop in given.loops if loop != "before" or given.before]
    if unknown := [name for name in given.networks if name not in CASES]:
        parser.error(f"NETWORK must be one of {', '.join(CASES)}, got {unknown[0]!r}")
    data = given.data and given.data.resolve()
    if given.serve:
        serve(given.serve, given.networks[0], data)
        return
    names = given.networks or [name for name in CASES if data or "digits" in name]
    print("Children a core-hour; ratios of CPU time within a seed: median (lowest to highest); accuracy in %.\n")
    print("| network | loop | children a core-hour | to the plain loop | to ours before | to ours now | accuracy |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        measure(name, data, given.before, given.seeds, loops)


if __name__ == "__main__":
    main(sys.argv[1:])
