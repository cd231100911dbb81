"""What cannot be finished is said in one sentence, before anything starts."""

import shutil
from pathlib import Path

import pytest

from cluster.finish import finish as finishing
from tests.cluster.finish.searches import SEARCH, WORDS, finish
from tests.command_line import nascluster
from tests.extending.files import FILES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", "0"), "`--top` must be at least 1, got 0"),
        (("--top", "4"), "the run 'search' has 3 different architectures with a reward: `--top` must be at most 3"),
        (("--seeds", "0"), "`--seeds` must be at least 1, got 0"),
        (("--grid",), "`--grid` needs settings to try, such as learning-rate=.2,.1,.05"),
        (("--grid=",), "`--grid` needs settings to try, such as learning-rate=.2,.1,.05"),
        (("--grid", "warmth=1"), "`--grid`: there is no setting 'warmth'"),
        (("--grid", "learning-rate=.1", "learning-rate=.2"), "`--grid`: `settings` must be different ones"),
        (("--grid", "cutout=2,8"), "`--grid`: cutout cannot be 8: `cutout` must be below 8, the side of the task's"),
        (
            ("--grid", "warmup-epochs=6"),
            "`--grid`: warmup-epochs cannot be 6: `warmup_epochs` must be at most `epochs`",
        ),
        (
            ("--grid", "decay=.1,.2"),
            "`--grid`: decay changes no training here: the schedule cosine has no such setting",
        ),
        (("--grid", "decay-every=1,2", "decay-at=.5"), "decay-every changes no training here: the schedule steps has"),
        (("--grid", "rmsprop-decay=.8,.9"), "the optimizer sgd has no such setting, only rmsprop"),
        (("--grid", "path-keep=.8,.9"), "it concerns networks with the operation drop_path"),
        (("--grid", "auxiliary-weight=.2,.4"), "it concerns networks with an auxiliary head"),
        (("--grid", "momentum=.9,.8", "--optimizer", "adam"), "only sgd and rmsprop"),
        (
            ("--grid", "momentum=.9", "--top", "1", "--grid", "momentum=.8"),
            "must be different ones, got momentum twice",
        ),
        (("--epochs", "0"), "`epochs` must be at least 1, got 0"),
        (("--task", "cifar10"), "`task` of the final trainings follows from the run 'search': leave it out"),
        (("--searcher", "random"), "`searcher` of the final trainings follows from the run 'search': leave it out"),
        (("--early-stop", "median"), "`finish` trains each network to its last epoch: leave it out"),
        (("--nonsense", "3"), "Unrecognized options: --nonsense"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    searched: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    capfd.readouterr()
    assert finish(searched, *words) == 2
    said = capfd.readouterr()
    assert message in said.err
    assert not said.out
    assert [path.name for path in searched.iterdir()] == ["search"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", "1", *WORDS[2:]), "the run 'search-grid' has begun with other networks or settings"),
        (
            ("--top", "2", "--seeds", "3", *WORDS[4:]),
            "the run 'search-final' has begun with other networks or settings",
        ),
        ((*WORDS, "--epochs", "3"), "the run 'search-grid' has begun with another budget: give the same flags"),
        ((*WORDS[:8], "--grid", "momentum=.9,.8"), "the run 'search-grid' has begun with other networks or settings"),
        (WORDS[:8], "the run 'search-final' has begun with other networks or settings"),
    ],
)
def test_what_has_begun_is_not_changed(
    finished: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    capfd.readouterr()
    assert finish(finished, *words) == 2
    assert message in capfd.readouterr().err


def test_runs_that_cannot_be_finished(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert finish(tmp_path) == 2
    assert "no run named 'search'" in capfd.readouterr().err
    words = ("launch", "synthetic", "--local", "--searcher", "random", "--max-children", "2", "--name", "search")
    assert nascluster(*words, "--storage-path", tmp_path) == 0
    assert finish(tmp_path) == 2
    assert "the task 'synthetic' of the run 'search' is none that has them" in capfd.readouterr().err


def test_a_grid_of_failures_chooses_nothing(searched: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    words = ("--top", 1, "--epochs", 1, "--grid", "learning-rate=1e30", "--on-failure", "diverged=drop")
    assert finish(tmp_path, *words) == 2
    assert "every training of the run 'search-grid' has failed" in capfd.readouterr().err
    assert finishing.FINAL == "-final"
    assert not (tmp_path / "search-final").exists()


LOAD_TEST = """def load_test(name, data, options, *, device):
    return load(name, data, options, seed=0, device=device).validation
"""

LACKING = [
    (("", ""), "is none that has them"),
    (("    inherits = False\n", LOAD_TEST), "its trainings keep no weights, as its attribute `inherits`"),
    (("    on_all_training = None\n", LOAD_TEST), "it has no function `on_all_training`"),
]


@pytest.mark.parametrize(("parts", "message"), LACKING)
def test_what_a_task_of_ones_own_lacks_is_said_before_anything_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    parts: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    members, function = parts
    text = FILES["my_task.py"].replace("return ImageTask(", "return Other(")
    text = text.replace(
        "\n\ndef frugal", f"\n\nclass Other(ImageTask):\n    pass\n{members}\n\n{function}\n\ndef frugal"
    )
    Path("other.py").write_text(text)
    words = (*SEARCH[3:9], *SEARCH[11:13], "--max-children", "1", "--name", "search", "--space", "convolutional")
    runs = tmp_path / "runs"
    assert nascluster("launch", "digits", "--task", "other.py:STRIPES", "--local", *words, "--storage-path", runs) == 0
    capfd.readouterr()
    assert finish(runs, "--epochs", 1) == 2
    assert message in capfd.readouterr().err
    assert [path.name for path in runs.iterdir()] == ["search"]


def test_a_search_that_was_removed_is_named_with_what_is_left(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "search-final", tmp_path / "search-final")
    capfd.readouterr()
    assert finish(tmp_path) == 2
    said = capfd.readouterr().err
    assert "the run 'search' is gone, without which no more of its networks can be trained or tested; those of" in said
    assert f"`nascluster export search-final --storage-path {tmp_path}` writes one as a file" in said
