import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Budget, Cause
from child_trainer.tasks.catalogue import TASKS, check_options, check_task, find_task, load_task, load_test
from child_trainer.tasks.entry import ImageProblem
from child_trainer.tasks.image import ImageTask, carve
from child_trainer.tasks.synthetic import SyntheticTask, score
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.training.image_classifier import Images, standardise
from child_trainer.training.task import TaskError
from child_trainer.training.train import train
from controller.spaces.recurrent import RecurrentSpace
from tests.golden import GOLDEN_CELL, architecture, chained, densely_connected


def rows(images: Images) -> list[bytes]:
    return [pixels.numpy().tobytes() for pixels in images.pixels]


def images(count=100, side=8, channels=1):
    pixels = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)
    return Images(pixels, torch.arange(count))


def test_carved_parts_are_disjoint_random_and_fixed_by_the_seed():
    parts = carve(images(), (60, 25), seed=1)
    chosen = torch.cat([part.labels for part in parts])
    assert [len(part) for part in parts] == [60, 25]
    assert len(set(chosen.tolist())) == 85
    assert chosen.tolist() != sorted(chosen.tolist())
    assert torch.equal(chosen, torch.cat([part.labels for part in carve(images(), (60, 25), seed=1)]))
    assert not torch.equal(chosen, torch.cat([part.labels for part in carve(images(), (60, 25), seed=2)]))


def test_carving_keeps_images_and_labels_together():
    whole = images()
    (part,) = carve(whole, (30,), seed=4)
    assert torch.equal(part.pixels, whole.pixels[part.labels])


def test_digits_are_split_as_promised_and_the_test_images_stay_out():
    test = load_test("digits")
    tasks = [load_task("digits", seed=seed) for seed in (1, 1, 2)]
    sizes = [(len(task.training), len(task.validation), len(test)) for task in tasks]
    assert sizes == [(937, 500, 360)] * 3
    assert rows(tasks[0].training) == rows(tasks[1].training)
    assert rows(tasks[0].training) != rows(tasks[2].training)
    for task in tasks:
        everything = sorted(rows(task.training) + rows(task.validation) + rows(test))
        assert everything == sorted(rows(tasks[0].training) + rows(tasks[0].validation) + rows(test))
        assert len(set(everything)) > 1700
    assert torch.equal(test.pixels, load_test("digits").pixels)
    assert (tasks[0].input_shape, tasks[0].num_classes, tasks[0].flip) == ((1, 8, 8), 10, False)


def test_a_digit_is_what_its_label_says():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    known = {row.astype("uint8").tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    task = load_task("digits", seed=1)
    for part in (task.training, task.validation, load_test("digits")):
        assert [known[row] for row in rows(part)] == part.labels.tolist()


def image_task(side, flip):
    part = images(4, side)
    return ImageTask(name="test", num_classes=10, flip=flip, training=part, validation=part)


@pytest.mark.parametrize(("side", "upsampled"), [(32, 40), (28, 35), (8, 10)])
def test_images_are_upsampled_as_the_paper_did(side, upsampled):  # spec §1.6
    task = image_task(side, flip=False)
    assert (task.upsampled_size, task.crop_size) == ((upsampled, upsampled), (side, side))


def test_a_training_image_is_a_crop_of_its_upsampled_self():
    task = image_task(8, flip=False)
    source = standardise(images(200).pixels)
    large = torch.nn.functional.interpolate(source, (10, 10), mode="bilinear", align_corners=False)
    corners = set()
    for whole, crop in zip(large, task.augmented(source, torch.Generator().manual_seed(0)), strict=True):
        found = [(y, x) for y in range(3) for x in range(3) if torch.equal(whole[:, y : y + 8, x : x + 8], crop)]
        assert len(found) == 1
        corners.update(found)
    assert corners == {(y, x) for y in range(3) for x in range(3)}


def test_an_evaluated_image_is_the_centre_at_the_scale_of_training():
    source = standardise(images(5).pixels)
    large = torch.nn.functional.interpolate(source, (10, 10), mode="bilinear", align_corners=False)
    assert torch.equal(image_task(8, flip=True).centred(source), large[:, :, 1:9, 1:9])


def test_only_a_task_that_may_flip_flips():
    source = standardise(images(100).pixels)

    def crops(flip):
        return image_task(8, flip).augmented(source, torch.Generator().manual_seed(0))

    mirrored = [not torch.equal(a, b) for a, b in zip(crops(True), crops(False), strict=True)]
    assert 25 < sum(mirrored) < 75
    for a, b in zip(crops(True), crops(False), strict=True):
        assert torch.equal(a, b) or torch.equal(a, b.flip(2))


# --- The catalogue -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [check_task, load_task, load_test])
def test_an_unknown_task_is_refused_with_the_known_ones(function):
    with pytest.raises(
        TaskError,
        match="no task 'mnist'; the tasks are digits, fashion-mnist, cifar10, ptb, wikitext2, text, synthetic",
    ):
        function("mnist")


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_tasks_without_data_are_ready(name):
    check_task(name)
    assert load_task(name).name == name


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_impossible_child_seconds_are_refused(seconds):
    with pytest.raises(TaskError, match="`child_seconds` must be 0 or more, got"):
        check_task("synthetic", options=SyntheticOptions(child_seconds=seconds))


@pytest.mark.parametrize("function", [check_task, load_task, check_options])
def test_options_of_another_task_are_refused(function):
    with pytest.raises(TaskError, match=r"options of the task 'digits' must be NoOptions\(...\), got SyntheticOptions"):
        function("digits", options=SyntheticOptions(child_seconds=1.0))


def test_options_reach_the_task():
    task = load_task("synthetic", options=SyntheticOptions(child_seconds=1.0, child_spread=0.5, child_faults="hang=1"))
    assert task == SyntheticTask(child_seconds=1.0, child_spread=0.5, faults={"hang": 1.0})


@pytest.mark.parametrize("data", ["text", Path("text")])
def test_data_may_be_a_text_or_a_path(data):
    with pytest.raises(TaskError, match="`--data` text is not a folder"):
        load_task("fashion-mnist", data=data)


def test_a_tilde_in_data_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(TaskError, match=f"`--data` {tmp_path}/none is not a folder"):
        check_task("cifar10", "~/none")
    with pytest.raises(TaskError, match="`data` ~no-such-user/x cannot be found"):
        check_task("cifar10", "~no-such-user/x")
    with pytest.raises(TaskError, match="`data` must be the path of a folder, got 3"):
        load_task("cifar10", data=3)


def test_a_name_that_is_nearly_right_gets_a_suggestion():
    with pytest.raises(TaskError, match=r"there is no task 'cifar'; .*; did you mean 'cifar10'\?"):
        find_task("cifar")


def test_a_spread_without_seconds_is_refused():
    with pytest.raises(TaskError, match=r"`child_spread` needs a `child_seconds` above 0, got 0\.5 with 0 seconds"):
        check_task("synthetic", options=SyntheticOptions(child_spread=0.5))


def test_the_synthetic_task_has_no_test_images():
    with pytest.raises(TaskError, match="has no test images"):
        load_test("synthetic")


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
@pytest.mark.parametrize("function", [check_task, lambda n, d: load_task(n, data=d)])
def test_missing_data_is_refused_with_the_folder_that_would_be_right(name, function, tmp_path):
    layout = {"fashion-mnist": "FashionMNIST/raw/train-images", "cifar10": "cifar-10-batches-py/data_batch_1"}[name]
    with pytest.raises(TaskError, match=f"needs `--data DIR`, a folder that holds {layout}.*`--download`"):
        function(name, None)
    with pytest.raises(TaskError, match=f"`--data` .*/none is not a folder.*{layout}.*`--download`"):
        function(name, tmp_path / "none")
    with pytest.raises(TaskError, match=f"{layout}.* is missing; `--data` must be.*`--download`"):
        function(name, tmp_path)


def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    from child_trainer.tasks.torchvision_import import datasets

    def fail(self):
        raise RuntimeError("no network\nand more")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(TaskError, match=rf"'cifar10' could not be downloaded to {tmp_path}: no network$"):
        check_task("cifar10", tmp_path, download=True)


def test_the_catalogue_describes_every_task():
    assert list(TASKS) == ["digits", "fashion-mnist", "cifar10", "ptb", "wikitext2", "text", "synthetic", "nasbench201"]
    assert all(task.summary for task in TASKS.values())


@pytest.mark.parametrize("name", TASKS)
def test_each_row_of_the_catalogue_is_whole(name):
    entry = find_task(name)
    functions = entry.functions()
    assert callable(functions.check)
    assert callable(functions.load)
    assert (entry.problem is not None) == (entry.family == "images") == (entry.load_test() is not None)
    assert isinstance(entry.usual_options, entry.options)
    check_options(name, entry.usual_options)
    assert not (entry.trains and entry.instant(entry.usual_options))


def test_the_problem_of_a_row_is_that_of_its_images():
    task, problem = load_task("digits"), find_task("digits").problem
    assert problem == ImageProblem(shape=task.input_shape, classes=task.num_classes)


def test_a_space_that_a_table_does_not_know_is_refused():
    entry, options = find_task("nasbench201"), {"cells_per_stage": 5, "stem_channels": 16}
    entry.check_space("nasbench201", "nasbench201", options)
    find_task("digits").check_space("digits", "anything", {})
    for space, wrong in (("convolutional", {}), ("nasbench201", options | {"stem_channels": 8})):
        with pytest.raises(ValueError, match="use the space 'nasbench201' and leave its options as they are, got"):
            entry.check_space("nasbench201", space, wrong)


# --- The synthetic task ------------------------------------------------------------------------------------------

BEST = architecture(tuple((5, 3, 48, tuple(j for j in (i - 1, i) if j > 0)) for i in range(8)))


def test_the_best_network_scores_one_and_the_worst_zero():
    assert score(BEST) == 1.0
    opposite = tuple((1, 7, 24, tuple(j for j in range(1, i - 1))) for i in range(5))
    assert score(architecture(opposite)) == 0.0


@pytest.mark.parametrize(("layers", "expected"), [(densely_connected(), 27 / 105), (chained(), 92 / 105)])
def test_a_score_by_hand(layers, expected):
    # Of 105 pairs, 27 are of near neighbours (14 at distance 1, 13 at 2): all on, or just the 14 and no far ones.
    shares = [sum(layer[k] == best for layer in layers) / 15 for k, best in enumerate((5, 3, 48))]
    assert score(architecture(layers)) == pytest.approx((sum(shares) + expected) / 4)


def test_each_decision_moves_the_score():
    base = ((3, 5, 24, ()), (3, 5, 24, (1,)), (3, 5, 24, (2,)))
    better = [
        ((5, 5, 24, ()), *base[1:]),
        ((3, 3, 24, ()), *base[1:]),
        ((3, 5, 48, ()), *base[1:]),
        (*base[:2], (3, 5, 24, (1, 2))),
    ]
    gains = [score(architecture(layers)) - score(architecture(base)) for layers in better]
    assert gains == pytest.approx([1 / 12] * 4)


def test_what_is_dead_or_no_convolution_does_not_count():
    nodes = (*BEST.nodes, node("dead", "conv", "image", height=1, width=1, filters=24))
    assert score(Architecture("feedforward", nodes, BEST.outputs)) == 1.0
    assert score(Architecture("feedforward", (node("r", "relu", "image"),), ("r",))) == 0.0


def test_the_metric_approaches_the_score_and_ignores_seed_and_budget():
    outcome = train(BEST, SyntheticTask(), Budget(epochs=4), seed=1)
    assert outcome.curve == (0.5, 0.75, 0.875, 0.9375)
    assert train(BEST, SyntheticTask(), Budget(epochs=2), seed=9).curve == outcome.curve[:2]
    assert (outcome.parameters, outcome.flops, outcome.failure) == (None, None, None)


def test_a_child_pretends_to_train_for_its_seconds():
    outcome = train(BEST, SyntheticTask(child_seconds=0.05), Budget(epochs=5), seed=1)
    assert 0.05 <= outcome.seconds < 0.5
    stopped = train(BEST, SyntheticTask(child_seconds=0.5), Budget(epochs=10), seed=1, on_epoch=lambda *_: True)
    assert stopped.seconds < 0.4
    late = train(BEST, SyntheticTask(child_seconds=0.05), Budget(epochs=5, max_seconds=0.02), seed=1)
    assert late.failure.cause is Cause.TIMEOUT


def test_children_are_as_unlike_in_their_seconds_as_the_spread_says():
    task = SyntheticTask(child_seconds=3600.0, child_spread=0.5)
    logarithms = [math.log(task.seconds_of(seed) / 3600) for seed in range(4000)]
    assert abs(statistics.mean(logarithms)) < 0.03
    assert statistics.stdev(logarithms) == pytest.approx(0.5, abs=0.02)
    assert task.seconds_of(7) == task.seconds_of(7)
    assert SyntheticTask(child_seconds=2.0).seconds_of(7) == 2.0
    (slow, quick) = (max(range(20), key=task.seconds_of), min(range(20), key=task.seconds_of))
    short = SyntheticTask(child_seconds=0.05, child_spread=0.5)
    for seed in (slow, quick):
        assert train(BEST, short, Budget(epochs=2), seed=seed).seconds >= short.seconds_of(seed)


def cell(*, leaf=("add", "sigmoid"), inner=("multiply", "tanh"), inject="add", names="abdefgijkl") -> Architecture:
    """Two leaves, joined; c comes in at the first leaf."""
    w, u, p, q, x, y, joined, root, out, spare = names
    nodes = (
        node(w, "linear", "x", bias=False),
        node(u, "linear", "h", bias=False),
        node(p, leaf[0], (w, u)),
        node(q, leaf[0], (u, w)),
        node(x, leaf[1], p),
        node(y, leaf[1], q),
        node(joined, inject, (x, "c")),
        node(root, inner[0], (joined, y)),
        node(out, inner[1], root),
        node(spare, "multiply", ("c", "c")),  # nobody reads it
    )
    return Architecture("recurrent", nodes[::-1], (out, p))


def test_the_best_cell_scores_one_and_the_worst_zero():
    assert score(cell()) == 1.0
    assert score(cell(leaf=("multiply", "tanh"), inner=("add", "sigmoid"), inject="multiply")) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"leaf": ("multiply", "sigmoid")},
        {"leaf": ("add", "relu")},
        {"inner": ("add", "tanh")},
        {"inner": ("multiply", "relu")},
        {"inject": "maximum"},
    ],
)
def test_each_property_of_a_cell_moves_its_score_by_a_fifth(change):
    assert score(cell(**change)) == pytest.approx(0.8)


def test_the_names_of_a_cells_nodes_do_not_count():
    changed = {"leaf": ("add", "relu"), "inject": "multiply"}
    assert score(cell(**changed)) == score(cell(**changed, names="lkjigfedba"))


def test_the_score_of_the_published_cell_by_hand():
    """Spec §2.2: 7 of 8 leaves add, 4 have a sigmoid; 4 of 7 inner nodes multiply, 5 have a tanh; c is added."""
    expected = (7 / 8 + 4 / 8 + 4 / 7 + 5 / 7 + 1) / 5
    assert score(RecurrentSpace().decode(GOLDEN_CELL)) == pytest.approx(expected)


def test_an_identity_is_no_activation_and_a_cell_without_a_tree_scores_nothing():
    nodes = [n for n in cell().nodes if n.op != "tanh"]
    assert score(Architecture("recurrent", tuple(nodes), ("j",))) == pytest.approx(0.8)
    assert score(Architecture("recurrent", (node("a", "tanh", "x"),), ("a",))) == 0.0


def test_a_cell_is_trained_as_a_network_is():
    outcome = train(cell(), SyntheticTask(), Budget(epochs=2), seed=1)
    assert outcome.curve == (0.5, 0.75)


def test_a_child_takes_less_than_a_millisecond():
    network = architecture()
    fastest = min(train(network, SyntheticTask(), Budget(epochs=3), seed=i).seconds for i in range(20))
    assert fastest < 1e-3


def test_a_rehearsal_imports_no_torch():
    program = (
        "import sys\n"
        "from child_trainer.tasks.catalogue import check_task, load_task\n"
        "from child_trainer.training.train import train\n"
        "from child_trainer.architectures.drawing import draw\n"
        "from child_trainer.outcome import Budget\n"
        "from tests.golden import architecture\n"
        "check_task('synthetic')\n"
        "outcome = train(architecture(), load_task('synthetic'), Budget(epochs=1), seed=1)\n"
        "assert outcome.failure is None, outcome\n"
        "draw(architecture())\n"
        "print([m for m in ('torch', 'numpy', 'torchvision') if m in sys.modules])\n"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")
