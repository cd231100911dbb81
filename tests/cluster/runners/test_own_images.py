"""A search on one's own images, from the command line to a file that one can use."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from child_trainer.__main__ import main as train_by_hand
from child_trainer.tasks.entry import ImageProblem
from child_trainer.tasks.file_list import unpacked
from child_trainer.tasks.image_folder_options import ImageFolderOptions
from child_trainer.training.task import TaskError
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.finish.judges import load_test_images
from cluster.placement.node_check import check_data, check_node
from cluster.runners.trainer import loaded_task
from cluster.storage.dataset_cache import CACHE_VARIABLE, with_file_list
from cluster.storage.find_run import run_folder
from tests.command_line import nascluster

SMALL = (
    *("--local", "--searcher", "random", "--replicas", "1", "--children", "2", "--max-children", "2", "--epochs", "2"),
    *("--batch-size", "8", "--resize-to", "8", "--validation-share", "0.25"),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Bright and dark spots, as PNG and as JPEG."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 4)):
        for name in ("a dark one", "bright"):
            folder = tmp_path / "spots" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = draw.integers(90, 160, (12, 12 + number % 4, 3), np.uint8)
                image[4:8, 4:8] = 255 if name == "bright" else 0
                Image.fromarray(image).save(folder / f"{number}.{'png' if number % 2 else 'jpg'}", quality=95)
    return tmp_path / "spots"


def test_a_search_on_own_images_gives_a_network_for_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--storage-path", tmp_path / "runs")
    launch = ("launch", "digits", "--task", "image-folder", "--data", data, *SMALL, *place)
    assert nascluster(*launch, "--name", "spots") == 0
    said = capsys.readouterr().out
    assert "48 images in 2 classes, read as 3 x 8 x 8: 0.0 MB in each process that trains" in said
    config = run_folder(tmp_path / "runs", "spots").read_config()
    assert config.task.options.classes == ("a dark one", "bright")
    assert config.task.entry.problem == ImageProblem(shape=(3, 8, 8), classes=2)
    assert len(unpacked(config.task.file_list)) == 48 + 8
    data.rename(tmp_path / "moved")  # who reads the run needs no images
    assert nascluster("best", "spots", "--json", *place) == 0
    (tmp_path / "best.json").write_text(capsys.readouterr().out)
    assert nascluster("best", "spots", *place) == 0
    (tmp_path / "moved").rename(data)
    command = next(line for line in capsys.readouterr().out.splitlines() if "python -m child_trainer" in line)
    words = shlex.split(command.partition("python -m child_trainer best.json ")[2])
    assert words[words.index("--classes") + 1 :][:2] == ["a dark one", "bright"]
    weights = str(tmp_path / "w.safetensors")
    assert train_by_hand([str(tmp_path / "best.json"), *words, "--save-weights", weights, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert max(again["curve"]) == pytest.approx(json.loads((tmp_path / "best.json").read_text())["metric"])
    (data / "train" / "bright" / "1.png").rename(tmp_path / "1.png")
    assert nascluster("resume", "spots", "--max-children", "3", *place) == 2
    assert "would validate: train/bright/1.png is missing; restore" in re.sub(r"\s+", " ", capsys.readouterr().err)
    (tmp_path / "1.png").rename(data / "train" / "bright" / "1.png")
    out = tmp_path / "spots.safetensors"
    flags = ("--format", "safetensors", "--weights", weights, "--out", out)
    assert nascluster("export", "spots", *flags, *place) == 0
    text = Path(f"{out}.README.md").read_text()
    assert "0. a dark one\n1. bright\n" in text
    assert "white, it gets three channels, red, green and blue in this order (Pillow's `convert('RGB')`), and" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "the task 'image-folder' needs `--data DIR`, a folder train/"),
        (("--data", "nowhere"), "nowhere is not a folder; it must be a folder train/"),
        (
            ("--data", "s3://bucket/spots"),
            "must be given, such as `--classes cat dog`, with `--data` s3://bucket/spots",
        ),
        (("--data", "{data}", "--cutout", "8"), "`cutout` must be below 8, the side of the task's images, got 8"),
        (
            ("--data", "{data}", "--space", "chain"),
            "`image_size` of the space 'chain' must be 8, the side of the images",
        ),
        (
            ("--data", "{data}", "--classes", "bright", "dim"),
            "has no folder for the class 'dim'; it has a dark one, br",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    flags: tuple[str, ...], message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [flag.format(data=data) for flag in flags]
    words = ("launch", "digits", "--task", "image-folder", *SMALL, *given, "--storage-path", tmp_path / "runs")
    assert nascluster(*words) == 2
    assert message in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert not list((tmp_path / "runs").glob("*"))


def test_options_and_classes_come_back_from_a_runs_configuration(data: Path) -> None:
    options = ImageFolderOptions(resize_to=16, greyscale=True)
    config = RunConfig(task=TaskOptions(task="image-folder", data=data, options=options))
    assert config.task.options == replace(options, classes=("a dark one", "bright"))
    assert config.task.entry.problem == ImageProblem(shape=(1, 16, 16), classes=2)
    again = RunConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again.task.options == config.task.options
    assert "one channel of grey, 0.299 red + 0.587 green + 0.114 blue" in again.task.entry.preparation


def test_a_run_knows_its_images_again_on_any_node(data: Path) -> None:
    made = TaskOptions(task="image-folder", data=data, options=ImageFolderOptions(resize_to=8))
    config = RunConfig(task=with_file_list(made))
    assert "file_list" not in RunConfig(task=made).to_json()["task"], "as earlier versions wrote it"
    task = RunConfig.from_json(json.loads(json.dumps(config.to_json()))).task
    assert task.file_list == config.task.file_list
    assert with_file_list(task) is task
    assert check_node(task).problem == ""
    (data / "train" / "other").mkdir()
    (data / "train" / "other" / "x.png").touch()
    check_data(task)
    shutil.copytree(data / "train" / "bright", data / "train" / "bright" / "more")
    (data / "train" / "bright" / "3.png").unlink()
    said = check_node(task).problem
    assert said.startswith(f"{data} has not the files that the run was made with, so that other images would validate:")
    assert "train/bright/3.png is missing, 24 are new, such as train/bright/more/0.jpg; restore them" in said
    for refused in (check_data, loaded_task, load_test_images):
        with pytest.raises(TaskError, match=re.escape(said)):
            refused(task)
    check_data(made)


def test_test_images_may_be_added_and_not_changed(data: Path) -> None:
    (data / "test").rename(data / "later")
    task, parts = TaskOptions(task="image-folder", data=data, options=ImageFolderOptions(resize_to=8)), []
    parts.append(with_file_list(task))
    (data / "later").rename(data / "test")
    parts.append(with_file_list(task))
    assert [len(load_test_images(each)) for each in parts] == [8, 8]
    (data / "test" / "bright" / "0.jpg").unlink()
    assert len(load_test_images(parts[0])) == 7
    with pytest.raises(TaskError, match=r"validate: test/bright/0.jpg is missing; restore"):
        load_test_images(parts[1])


def test_images_at_a_url_are_known_again_and_go_when_the_store_has_lost_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    (data / "train" / "bright" / ".hidden").touch()
    options = ImageFolderOptions(resize_to=8, classes=("bright", "a dark one"))
    made = TaskOptions(task="image-folder", data=f"file://{data}", options=options)
    task = with_file_list(made)
    assert task.file_list == with_file_list(replace(made, data=data)).file_list
    check_data(task)
    (data / "train" / "bright" / "3.png").unlink()
    with pytest.raises(TaskError, match=r"validate: train/bright/3.png is missing; restore"):
        check_data(task)
    check_data(with_file_list(made))
