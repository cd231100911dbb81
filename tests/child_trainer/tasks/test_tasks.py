from pathlib import Path
from typing import Any

import pytest
import torch

from child_trainer.tasks.catalogue import TASKS, check_options, check_task, find_task, load_task, load_test
from child_trainer.tasks.entry import ImageProblem
from child_trainer.tasks.image import ImageTask, carve
from child_trainer.tasks.synthetic import SyntheticTask
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.training.image_classifier import Images, standardise
from child_trainer.training.task import TaskError


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
        match="no task 'mnist'; the tasks are digits, fashion-mnist, cifar10, image-folder, ptb, wikitext2, text",
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
        raise RuntimeError("Error downloading a.gz:\nTried https://mirror/a.gz, got:\n<urlopen error no network>\n")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(TaskError, match=rf"could not be downloaded to {tmp_path}: .*got: <urlopen error no network>$"):
        check_task("cifar10", tmp_path, download=True)


def test_the_catalogue_describes_every_task():
    images, texts = ["digits", "fashion-mnist", "cifar10"], ["ptb", "wikitext2", "text", "text-folder"]
    control = ["xor", "double-pole", "double-pole-no-velocities"]
    together = [f"{name}-subnetworks" for name in images]
    assert list(TASKS) == [
        *images,
        "image-folder",
        *texts,
        "synthetic",
        "nasbench201",
        "nasbench201-200",
        "table-file",
        *control,
        *together,
    ]
    assert all(task.summary for task in TASKS.values())


@pytest.mark.parametrize("name", TASKS)
def test_each_row_of_the_catalogue_is_whole(name):
    entry = find_task(name)
    functions = entry.functions()
    assert callable(functions.check)
    assert callable(functions.load)
    told = entry.problem is not None or (entry.describes is not None and entry.family != "table")
    assert told == (entry.family == "images") == (entry.load_test() is not None)
    assert bool(entry.licence) == (entry.family in ("images", "language"))
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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fashion-mnist", {"data": "text"}, "text"),
        ("fashion-mnist", {"data": 3}, "`data` must be the path of a folder, got 3"),
        (3, {}, "a task's name must be a text, got 3"),
        ("digits", {"seed": "one"}, "`seed` must be a whole number, got 'one'"),
        ("digits", {"device": "gpu"}, "`device` must be one that PyTorch can use here, such as cpu, got 'gpu'"),
        ("digits", {"device": 3.5}, "`device` must be one that PyTorch can use here, such as cpu, got 3.5"),
        ("text", {"options": {"unroll": 3}}, "the options of the task 'text' must be LanguageOptions"),
    ],
)
def test_load_task_refuses_what_it_cannot_load(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(name, **options)


def test_a_training_on_all_training_data_has_the_validation_images_too():
    usual, everything = (load_task("digits", seed=3, all_training=all_training) for all_training in (False, True))
    assert rows(everything.training) == rows(usual.training) + rows(usual.validation)
    assert torch.equal(everything.training.labels[937:], usual.validation.labels)
    assert rows(everything.validation) == rows(usual.validation)
    assert not set(rows(everything.training)) & set(rows(load_test("digits")))
    with pytest.raises(TaskError, match="the task 'text' has no validation images to train on"):
        load_task("text", all_training=True)
