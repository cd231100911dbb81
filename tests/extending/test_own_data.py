"""What is wrong with a task of one's own is said before anything starts, and nothing is written."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from child_trainer.tasks.catalogue import check_task
from child_trainer.tasks.entry import TaskEntry
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.lookup_table import Answer, Table, read_rows
from child_trainer.training.image_classifier import Images
from child_trainer.training.task import TaskError
from tests.command_line import nascluster
from tests.extending.files import write_files

LOAD_TEST = """

def load_test(name, data, options, *, device):
    task = load(name, data, options, seed=0, device=device)
    return task.validation
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write_files(tmp_path)
    yield tmp_path


def launched(text: str, name: str = "task.py") -> int:
    """Launch a search on the task of this text, for the shortest time."""
    Path(name).write_text(text)
    words = ("--local", "--max-children", "2", "--epochs", "1", "--name", "n")
    return nascluster("launch", "digits", "--task", f"{name}:STRIPES", *words)


RETURN = "    return ImageTask(name=name, num_classes=2"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("labels[:400]", "labels[:300]", "there must be a label for each image, got 400 and 300"),
        (
            "labels[:400]",
            "labels[:400].float()",
            "`labels` of images must be a tensor [N] of int64, got [400] of float",
        ),
        ("[:, None]", "", "`pixels` of images must be a tensor [N, C, H, W] of uint8, got [400, 8, 8] of uint8"),
        ("[:, None]", "[:, None].numpy()", "`pixels` of images must be a tensor [N, C, H, W] of uint8, got ndarray"),
        ("pixels[400:], labels[400:]", "pixels[:0], labels[:0]", "must be Images, at least one"),
        (
            "randint(2,",
            "randint(5,",
            "`training` of the task 'task.py:STRIPES' must have labels from 0 to 1, of 2 classes, got 0 to 4",
        ),
        ("shape=(1, 8, 8)", "shape=(3, 8, 8)", "images of shape (3, 8, 8) and 2 classes, got (1, 8, 8) and 2"),
        ("classes=2)", "classes=5)", "images of shape (1, 8, 8) and 5 classes, got (1, 8, 8) and 2"),
        (
            RETURN,
            "    return None\n" + RETURN,
            "task.py:STRIPES: `load` must return a task, such as an ImageTask, got No",
        ),
        (RETURN, "    boom()\n" + RETURN, "`load` failed: NameError: name 'boom' is not defined"),
        (RETURN, "    raise SystemExit(4)\n" + RETURN, "task.py:STRIPES: `load` failed: SystemExit: 4"),
        ('"""Do nothing:', 'raise OSError("gone")\n    """', "task.py:STRIPES: `check` failed: OSError: gone"),
        ('family="images"', 'family="pictures"', "`family` of a task must be one of images, language, table, function"),
        ("Measure.ACCURACY", '"accuracy"', "`measure` of a task must be a Measure, such as Measure.ACCURACY, got 'acc"),
        (
            "module=__name__",
            'module="nowhere"',
            "the `module` of task.py:STRIPES, 'nowhere', cannot be imported: Modul",
        ),
    ],
)
def test_a_fault_of_the_data_is_named(
    folder: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "my_task.py").read_text()
    assert old in text
    assert launched(text.replace(old, new, 1)) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "nascluster_runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return task.validation", "return None", "`load_test` must return Images, at least one, got None"),
        ("return task.validation", "return Images(task.validation.pixels, task.validation.labels + 5)", "got 5 to 6"),
        (
            "return task.validation",
            "return Images(task.validation.pixels[:, :, :5], task.validation.labels)",
            "`load_test` must have images of shape (1, 8, 8), got (1, 5, 8)",
        ),
        ("*, device", "*, seed, device", "`load_test` failed: TypeError"),
    ],
)
def test_test_images_are_looked_at_before_the_search(
    folder: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "my_task.py").read_text()
    assert launched(text + LOAD_TEST.replace(old, new)) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "nascluster_runs").exists()


def test_what_own_code_prints_is_not_in_the_output_for_programs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "my_task.py").read_text().replace(RETURN, '    print("LOADING")\n' + RETURN)
    assert launched(text + '\nprint("IMPORTED")\n') == 0
    capsys.readouterr()
    for words in (("best", "n"), ("status", "n"), ("children", "n")):
        assert nascluster(*words, "--json") == 0
        json.loads(capsys.readouterr().out)
    assert "LOADING" not in capsys.readouterr().out


def test_a_table_has_answers() -> None:
    with pytest.raises(TaskError, match="table 'mine' must have an answer, got none"):
        Table(name="mine", answers={})
    with pytest.raises(TaskError, match=r"table 'mine', row 'a': it must be an Answer\(...\), got 0.5"):
        Table(name="mine", answers={"a": 0.5})  # pyright: ignore[reportArgumentType]
    Table(name="mine", answers={"a": Answer(0.5, 1.0)})


def test_a_row_that_is_longer_than_the_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("tokens,accuracy,seconds\n0,0,1,0.5,0\n")
    with pytest.raises(
        TaskError, match="row 1 has more cells than the file has columns: a cell with commas must be in"
    ):
        read_rows(tmp_path / "t.csv", ("tokens", "accuracy"))


def test_an_architecture_that_is_no_id(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("architecture,accuracy,seconds\nabc,0.5,1\n")
    with pytest.raises(TaskError, match="`architecture` must be a canonical id, 16 hexadecimal digits, or an archite"):
        check_task("table-file", tmp_path / "table.csv")


def test_images_of_another_size_than_those_to_train_on() -> None:
    one, other = (Images(torch.zeros(3, 1, s, s, dtype=torch.uint8), torch.tensor([0, 1, 1])) for s in (8, 6))
    with pytest.raises(
        TaskError, match=r"`validation` of the task 't' must have images of shape \(1, 8, 8\), got \(1, 6"
    ):
        ImageTask(name="t", num_classes=2, flip=False, training=one, validation=other)


def test_kinds_are_a_tuple() -> None:
    with pytest.raises(TaskError, match="`kinds` of a task must be a tuple of feedforward, recurrent, cell, got 'feed"):
        TaskEntry(summary="", family="images", kinds="feedforward", measure="", module="")  # pyright: ignore
