"""A search, and a copy of it that was finished. Made once, as it takes seconds; no test changes them."""

import shutil
from pathlib import Path

import pytest

from cluster.runners import trainer
from cluster.storage.ledger.ledger import Ledger
from tests.cluster.finish.searches import SEARCH, Interrupted, count, finish, recorded_tests
from tests.command_line import nascluster


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `search`."""
    place = tmp_path_factory.mktemp("runs")
    assert nascluster(*SEARCH, "--storage-path", place) == 0
    return place


@pytest.fixture(scope="session")
def finished(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that folder, where the search is finished, after an interruption in each of its stages."""
    place = tmp_path_factory.mktemp("finished")
    shutil.copytree(searched, place, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        interrupted = Interrupted(trainer.train, at=(3, 8))
        patch.setattr(trainer, "train", interrupted)
        assert finish(place) == 130
        assert count(place, "search-grid") == [(2,)]
        assert finish(place) == 130
        assert (count(place, "search-grid"), count(place, "search-final")) == ([(4,)], [(2,)])
        record = Interrupted(Ledger.record_test, at=(2,))
        patch.setattr(Ledger, "record_test", lambda *words: record(*words))  # noqa: PLW0108  (a method)
        assert finish(place) == 130
        assert len(recorded_tests(place)) == 1
        assert finish(place) == 0
        assert interrupted.calls == 10  # eight trainings, of which two were interrupted
    return place
