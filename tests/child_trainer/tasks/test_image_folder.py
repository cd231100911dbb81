"""One's own images, written by Pillow as people have them: what is read, how it is split, and what is refused."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from child_trainer.tasks.catalogue import check_task, load_task, load_test
from child_trainer.tasks.file_list import difference, packed, unpacked
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.image_files import split, training_files
from child_trainer.tasks.image_folder import _check_memory, describe
from child_trainer.tasks.image_folder_options import ImageFolderOptions
from child_trainer.training.task import TaskError

COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def photo(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 16), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of ten images of differing sizes and forms, and one of each to test on."""
    forms = [("a.png", "RGB"), ("b.jpg", "RGB"), ("c.png", "RGBA"), ("d.jpg", "CMYK"), ("e.gif", "RGB")]
    for name, colour in COLOURS.items():
        for number in range(10):
            file, mode = forms[number % len(forms)]
            photo(tmp_path / "pets" / "train" / name / f"{number}{file}", colour, (16 + number, 30 - number), mode)
        photo(tmp_path / "pets" / "test" / name / "deeper" / "x.png", colour, (64, 64))
    (tmp_path / "pets" / "train" / "cat" / ".DS_Store").write_text("hidden")
    (tmp_path / "pets" / "train" / "cat" / "Thumbs.db").write_text("of the system")
    (tmp_path / "pets" / "train" / ".cache").mkdir()
    return tmp_path / "pets"


def loaded(folder: Path, seed: int = 0, **options: object) -> ImageTask:
    task = load_task("image-folder", data=folder, seed=seed, options=ImageFolderOptions(resize_to=8, **options))  # pyright: ignore[reportArgumentType]
    assert isinstance(task, ImageTask)
    return task


def test_each_folder_is_a_class_and_each_class_is_split_alike(folder: Path) -> None:
    check_task("image-folder", folder)
    task = loaded(folder, validation_share=0.2)
    assert task.num_classes == 3
    assert task.input_shape == (3, 8, 8)
    assert task.training.labels.bincount().tolist() == [8, 8, 8]
    assert task.validation.labels.bincount().tolist() == [2, 2, 2]
    for part in (task.training, task.validation):
        assert part.pixels.dtype == torch.uint8
        for pixels, label in zip(part.pixels, part.labels, strict=True):
            expected = torch.tensor(list(COLOURS.values())[label])
            assert (pixels.float().mean((1, 2)) - expected).abs().max() < 6  # JPEG and CMYK are not exact
    assert len(set(task.training.labels[:8].tolist())) > 1, "the order is random"
    again, other = loaded(folder, validation_share=0.2), loaded(folder, seed=1, validation_share=0.2)
    assert torch.equal(task.training.labels, again.training.labels)
    assert not torch.equal(task.training.labels, other.training.labels)


def test_no_image_is_in_both_parts(tmp_path: Path) -> None:
    for name in ("x", "y"):
        for number in range(12):
            photo(tmp_path / "train" / name / f"{number}.png", (number * 20, 7 if name == "x" else 99, 0))
    task = loaded(tmp_path)
    parts = [{tuple(pixels[:, 0, 0].tolist()) for pixels in part.pixels} for part in (task.training, task.validation)]
    assert len(parts[0]) == 22
    assert len(parts[1]) == 2
    assert not parts[0] & parts[1]


def test_one_image_more_or_less_moves_one_other_at_most(tmp_path: Path) -> None:
    def parts() -> tuple[set[str], set[str]]:
        files = training_files(tmp_path, ImageFolderOptions(classes=("x", "y")))
        places = split(files, 0.1, 7)
        assert sorted(places.training + places.validation) == list(range(len(files.names)))
        validating = {files.names[place] for place in places.validation}
        assert [len([n for n in validating if n[0] == c]) for c in "xy"] == [
            round(files.labels.count(label) * 0.1) for label in (0, 1)
        ], "the share is exact in each class"
        return validating, {files.names[place] for place in places.training}

    for name in ("x", "y"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(100):
            (tmp_path / "train" / name / f"{number}.png").touch()
    before, trained = parts()
    for number in range(100, 110):
        (tmp_path / "train" / "x" / f"{number}.png").touch()
        after, trains = parts()
        moved = (before & trains) | (trained & after)
        assert len(moved) <= 1
        assert {name for name in before if name[0] == "y"} == {name for name in after if name[0] == "y"}
        before, trained = after, trains
    (tmp_path / "train" / "x" / "deeper").mkdir()
    (tmp_path / "train" / "x" / "0.png").rename(tmp_path / "train" / "x" / "deeper" / "0.png")
    assert len(before - parts()[0]) <= 1, "another name is one image less and one more"


def test_links_are_followed_and_never_round_in_circles(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "train" / "owl", tmp_path / "owls")
    (tmp_path / "owls" / "round").symlink_to(tmp_path / "owls")
    (tmp_path / "more").mkdir()
    photo(tmp_path / "more" / "x.png", COLOURS["cat"])
    (folder / "train" / "owl").symlink_to(tmp_path / "owls")
    for name in ("a", "b"):
        (folder / "train" / "cat" / name).symlink_to(tmp_path / "more")
    names = training_files(folder, ImageFolderOptions(classes=("cat", "dog", "owl"))).names
    assert [sum(name.startswith(kind) for name in names) for kind in COLOURS] == [11, 10, 10]
    assert "cat/a/x.png" in names


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads any folder")
def test_a_folder_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "train" / "cat" / "closed").mkdir(mode=0)
    with pytest.raises(TaskError, match="train/cat/closed cannot be read: Permission denied"):
        check_task("image-folder", folder)


def test_a_list_of_files_says_what_differs() -> None:
    files = {"train/a/1.png": 10, "train/a/é\udcff 2.png": 0, "train/b/3.png": 7}
    assert unpacked(packed(files)) == files
    assert difference(files, dict(reversed(files.items()))) == ""
    assert difference(files, {"train/a/1.png": 11, "new 1": 1, "new 2": 2}) == (
        "2 are missing, such as train/a/é\udcff 2.png, 2 are new, such as new 1, train/a/1.png is of another size"
    )
    with pytest.raises(TaskError, match="the list of the data's files in the run's configuration is damaged"):
        unpacked("x" + packed(files))


def test_the_test_images_are_those_of_test(folder: Path) -> None:
    images = load_test("image-folder", data=folder, options=ImageFolderOptions(resize_to=8))
    assert images.labels.tolist() == [0, 1, 2]
    assert images.pixels[1, :, 4, 4].tolist() == [30, 200, 30]
    for path in sorted((folder / "test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder / "test").rmdir()
    check_task("image-folder", folder)
    with pytest.raises(TaskError, match=r"pets has no folder test/; `--data` must be a folder train/ with"):
        load_test("image-folder", data=folder)


def test_the_square_at_the_centre_is_resized_after_the_image_is_turned(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255  # the square at the centre is white
    for name in ("x", "y"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(wide).save(tmp_path / "train" / name / f"{number}.png")
    task = loaded(tmp_path)
    assert task.training.pixels.min() > 240  # the border of the cut sees a little of what is beyond
    halves = np.zeros((16, 16, 3), np.uint8)
    halves[:8] = 255  # above, as the camera has it
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    for path in (tmp_path / "train").rglob("*.png"):
        Image.fromarray(halves).save(path, exif=exif)
    pixels = loaded(tmp_path, oriented=True).training.pixels[0, 0]
    assert pixels[:, :2].max() < 40
    assert pixels[:, -2:].min() > 215


def test_transparent_places_are_white_and_greys_have_one_channel(tmp_path: Path) -> None:
    for name in ("x", "y"):
        for number in range(2):
            path = tmp_path / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGBA", (9, 9), (0, 0, 0, 0 if name == "x" else 255)).save(path)
    task = loaded(tmp_path, greyscale=True)
    assert task.input_shape == (1, 8, 8)
    by_class = {label.item(): set(p.flatten().tolist()) for p, label in zip(*vars_of(task), strict=True)}
    assert by_class == {0: {255}, 1: {0}}


def vars_of(task: ImageTask) -> tuple[torch.Tensor, torch.Tensor]:
    return task.training.pixels, task.training.labels


def test_classes_may_be_chosen_and_ordered_and_mirroring_forbidden(folder: Path) -> None:
    task = loaded(folder, classes=("owl", "cat"), oriented=True)
    assert task.num_classes == 2
    assert not task.flip
    assert loaded(folder).flip
    first = task.training.pixels[task.training.labels == 0][0].float().mean((1, 2))
    assert first.argmax() == 2, "an owl is blue"


def test_what_the_images_take_is_told(folder: Path) -> None:
    told = describe(folder, ImageFolderOptions(resize_to=100))
    assert told == "30 images in 3 classes, read as 3 x 100 x 100: 0.9 MB in each process that trains"
    with pytest.raises(
        TaskError, match=r"1,000,000,000 images of 3 x 32 x 32 take 3,072.0 GB of memory in each process"
    ):
        _check_memory(1_000_000_000, ImageFolderOptions())


def deep(path: Path) -> None:
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(path)


def cut(path: Path) -> None:
    photo(path, (1, 2, 3), (200, 200))
    path.write_bytes(path.read_bytes()[:-400])


def deep_colours(path: Path) -> None:
    """Write a PNG of 16 bits in each of three channels, which Pillow cannot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, rows = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0), zlib.compress((b"\0" + b"\x12\x34" * 6) * 2)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda train: (train / "cat" / "notes.txt").write_text("x"), "train/cat/notes.txt is no image: remove or mend"),
    (lambda train: (train / "cat" / "9b.png").write_bytes(b""), "train/cat/9b.png is empty: remove or mend"),
    (lambda train: cut(train / "cat" / "z.jpg"), r"train/cat/z.jpg is damaged \(.*truncated"),
    (lambda train: cut(train.parent / "test" / "cat" / "z.jpg"), r"test/cat/z.jpg is damaged \(.*truncated"),
    (lambda train: deep(train / "dog" / "z.png"), "train/dog/z.png has more than 8 bits a channel"),
    (lambda train: deep_colours(train / "dog" / "z.png"), "train/dog/z.png has more than 8 bits a channel"),
    (
        lambda train: (train / "dog" / "z.ppm").write_bytes(b"P6 1 1 65535 " + b"\1" * 6),
        "train/dog/z.ppm has more than 8 bits a channel",
    ),
    (lambda train: os.mkfifo(train / "dog" / "z.png"), "train/dog/z.png is no regular file: remove"),
    (lambda train: (train / "dog" / "a").symlink_to("a"), "train/dog/a cannot be read: Too many levels of symbolic"),
    (lambda train: (train / "dog" / "gone.png").symlink_to("nowhere"), r"gone.png cannot be read \(No such file"),
    (lambda train: (train / "elk").mkdir(), "the class 'elk' in .*train has no image: at least 2 are needed, one to"),
    (lambda train: photo(train / "elk" / "1.png", (0, 0, 0)), "the class 'elk' in .*train has 1 image: at least 2 are"),
    (lambda train: photo(train.parent / "test" / "elk" / "1.png", (0, 0, 0)), "has the class 'elk', which .*train has"),
    (
        lambda train: [(train / "cat" / f"{n}.txt").write_text("x") for n in range(5)],
        "2.txt is no image, and 2 more: r",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_bad_files_are_named_before_anything_starts(
    spoil: Callable[[Path], object], message: str, folder: Path
) -> None:
    spoil(folder / "train")
    with pytest.raises(TaskError, match=message):
        check_task("image-folder", folder, options=ImageFolderOptions(resize_to=8))


def test_folders_without_classes_are_named(tmp_path: Path, folder: Path) -> None:
    for data, message in (
        (None, "the task 'image-folder' needs `--data DIR`, a folder train/ with a folder of images for each class"),
        (tmp_path / "none", "`--data` .*/none is not a folder; it must be a folder train/ with"),
        (tmp_path, "has no folder train/; `--data` must be"),
        (folder / "..", "has no folder train/"),
    ):
        with pytest.raises(TaskError, match=message):
            check_task("image-folder", data)
    (tmp_path / "train").mkdir()
    with pytest.raises(TaskError, match="train has no classes, but nothing; `--data` must be"):
        check_task("image-folder", tmp_path)
    photo(tmp_path / "train" / "x.png", (0, 0, 0))
    with pytest.raises(TaskError, match="train has no classes, but only files; `--data` must be"):
        check_task("image-folder", tmp_path)
    photo(tmp_path / "train" / "cat" / "x.png", (0, 0, 0))
    with pytest.raises(TaskError, match="train has one class only, 'cat': at least two are needed"):
        check_task("image-folder", tmp_path)
    with pytest.raises(TaskError, match="nothing can be downloaded for the task 'image-folder'"):
        check_task("image-folder", folder, download=True)
    with pytest.raises(TaskError, match=r"train has no folder for the class 'elk'; it has cat, dog, owl"):
        check_task("image-folder", folder, options=ImageFolderOptions(classes=("cat", "elk")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize_to": 0}, "`resize_to` must be 1 to 4096, got 0"),
        ({"validation_share": 1.0}, "`validation_share` must be above 0 and below 1, got 1.0"),
        ({"classes": ("cat",)}, "`classes` must be at least two different ones, got cat"),
        ({"classes": ("cat", "a/b")}, "`classes` must be names of folders in train/, got 'a/b'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolderOptions(**options)  # pyright: ignore[reportArgumentType]
