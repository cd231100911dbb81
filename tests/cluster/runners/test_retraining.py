"""The best architectures of a run, trained from scratch as the children of another one."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import nascluster as api
from cluster.storage.ledger.queries.candidates import candidates
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from tests.command_line import nascluster
from tests.searcher_cases import FLAGS

CELLS = ("--space", "nasbench201", "--cells-per-stage", "1", "--stem-channels", "2")

LOOKED_UP = ("launch", "synthetic", "--local", *CELLS, "--replicas", "1")


def rows(place: Path, name: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / name / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `search`, of four children."""
    place = tmp_path_factory.mktemp("runs")
    words = ("--searcher", "given", "--samples", "0,1,2,3,4,0", "3,3,3,3,3,3", "1,1,1,1,1,1", "2,0,2,0,2,0")
    assert nascluster(*LOOKED_UP, *words, "--name", "search", "--storage-path", place, "--max-children", 9) == 0
    return place


@pytest.fixture
def place(searched: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    return tmp_path


def best(place: Path, name: str) -> list[tuple[Any, ...]]:
    return rows(place, name, "SELECT tokens, id, metric FROM children ORDER BY reward DESC, id")


def test_the_best_are_trained_in_their_order_and_the_run_ends(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--name", "final", "--storage-path", place, "--from-run", "search", "--top", 3)
    assert nascluster(*LOOKED_UP, *words) == 0
    assert "from child" in capfd.readouterr().out
    expected = best(place, "search")[:3]
    ended = rows(place, "final", "SELECT tokens, json_extract(notes, '$.source'), state FROM children ORDER BY id")
    assert ended == [
        (tokens, f"child {child} of the run search, trained to {metric:.4f}", "finished")
        for tokens, child, metric in expected
    ]
    assert RunFolder(place / "final").read_config().max_children == 3


def test_the_other_run_may_be_gone_when_the_new_one_resumes(place: Path) -> None:
    words = ("--name", "final", "--storage-path", place, "--from-run", "search", "--top", 3, "--children", 1)
    assert nascluster(*LOOKED_UP, *words, "--max-children", 5) == 0
    shutil.rmtree(place / "search")
    with closing(sqlite3.connect(place / "final" / "ledger.sqlite")) as db, db:  # as if it had been killed
        db.execute("DELETE FROM attempts WHERE child = 3")
        db.execute(
            "UPDATE children SET state = 'sampled', completion = NULL, outcome = NULL, reward = NULL, metric = NULL"
            " WHERE id = 3"
        )
        db.execute("UPDATE batches SET learned_at = NULL, pushed = NULL WHERE number = 3")
        db.execute("DELETE FROM run WHERE key = 'state'")
    assert nascluster("resume", "final", "--storage-path", place) == 0
    assert rows(place, "final", "SELECT count(*), sum(state = 'finished') FROM children") == [(3, 3)]


def test_scores_of_one_kind_are_compared_and_the_networks_trained_from_scratch(tmp_path: Path) -> None:
    """ENAS's last children are scored on all images, those that its policy learns from on a few."""
    flags = ("--searcher", "enas", *FLAGS["enas"].split(), "--max-children", "7", "--storage-path", str(tmp_path))
    assert nascluster("launch", "synthetic", "--local", "--name", "search", *flags, "--reward", "accuracy") == 0
    last = rows(
        tmp_path,
        "search",
        "SELECT tokens FROM children WHERE json_extract(notes, '$.phase') = 'last' ORDER BY reward DESC, id",
    )
    space = ("--space", "enas-macro", "--layers", "3", "--operations", "conv_3x3", "max_3x3", "--filters", "2")
    retrain = ("launch", "digits", "--local", *space, "--network", "final", "--epochs", "1", "--train-fraction", "0.1")
    words = ("--name", "final", "--storage-path", tmp_path, "--from-run", "search", "--top", "1")
    assert nascluster(*retrain, *words) == 0
    assert rows(tmp_path, "final", "SELECT tokens, job FROM children") == [(last[0][0], None)]


def test_it_is_an_option_of_the_python_interface_too(place: Path) -> None:
    run = api.launch(
        "synthetic",
        show=False,
        name="final",
        storage_path=str(place),
        local=True,
        space="nasbench201",
        cells_per_stage=1,
        stem_channels=2,
        from_run="search",
        top=2,
    )
    assert (run.status().state, run.status().finished) == ("finished", 2)
    assert run.best is not None
    assert (run.best.source or "").startswith("child ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--from-run", "nothing"), "nothing"),
        (("--top", "3"), "name the run whose architectures are to be trained, as in `--from-run NAME --top 5`"),
        (("--from-run", "search", "--top"), "`--top` must be a whole number of at least 1, got nothing"),
        (("--from-run", "search", "--top=0"), "`--top` must be a whole number of at least 1, got 0"),
        (
            ("--from-run", "search", "--top", "5"),
            "the run 'search' has 4 different architectures with a reward: `--top` must be at most 4, got 5",
        ),
        (
            ("--from-run", "search", "--searcher", "random"),
            "`--from-run` trains the architectures of a run, which no searcher chooses: leave out `--searcher random`",
        ),
        (
            ("--from-run", "search", "--space", "darts"),
            "the run 'search' has the space 'nasbench201', and the new run 'darts': give `--space nasbench201`",
        ),
        (
            ("--from-run", "search", "--top", "3", "--max-children", "2"),
            "`max_children` must be at least 3, one for each given architecture, got 2",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    place: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    words = ("launch", "synthetic", "--local", "--name", "final", "--storage-path", place)
    assert nascluster(*words, *(() if "--space" in flags else CELLS), *flags) == 2
    assert message in capfd.readouterr().err
    assert not (place / "final").exists()


def test_architectures_that_the_new_space_lacks_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    layers = ("--space", "enas-macro", "--filters", "2")
    words = ("launch", "synthetic", "--local", "--storage-path", tmp_path, *layers)
    search = ("--searcher", "random", "--max-children", "4", "--name", "search", "--layers", "3")
    assert nascluster(*words, *search) == 0
    assert nascluster(*words, "--name", "final", "--layers", "4", "--from-run", "search", "--top", "1") == 2
    assert "the new run's space must have the architectures of the run 'search'" in capfd.readouterr().err


def test_a_run_without_a_child_has_no_architecture_yet(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(place / "search" / "ledger.sqlite")) as db, db:
        db.execute("UPDATE children SET state = 'failed', metric = NULL")
    words = ("--name", "final", "--storage-path", place, "--from-run", "search", "--top", "1")
    assert nascluster(*LOOKED_UP, *words) == 2
    assert "the run 'search' has no architecture with a reward yet" in capfd.readouterr().err


def test_equal_architectures_count_once(place: Path) -> None:
    with closing(sqlite3.connect(place / "search" / "ledger.sqlite")) as db, db:
        best_id, digest = db.execute("SELECT architecture_id, graph FROM children ORDER BY reward DESC").fetchone()
        db.execute("UPDATE children SET architecture_id = ?, graph = ?", (best_id, digest))
    with reading(RunFolder(place / "search")) as db:
        assert [candidate.child_id for candidate in candidates(db)] == [best(place, "search")[0][1]]


def test_a_difference_between_the_spaces_is_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("launch", "synthetic", "--local", "--name", "final", "--storage-path", place, "--space", "nasbench201")
    assert nascluster(*words, "--stem-channels", "4", "--from-run", "search", "--top", "1") == 0
    told = "the networks are not those of the run 'search', but have --cells-per-stage 5 (was 1), --stem-channels 4"
    assert told in capfd.readouterr().err
