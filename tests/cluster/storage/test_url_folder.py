"""The names of folders that stand for URLs, by which users' caches and working copies are found."""

from pathlib import Path

import pytest

from cluster.storage.dataset_cache import copy_of
from cluster.storage.object_store.working_copy import working_copy

URL = "s3://bucket/my runs/data/"


@pytest.mark.parametrize("url", [URL, "file:///" + "long/" * 30])
def test_names_do_not_depend_on_a_slash_at_the_end(url: str, tmp_path: Path) -> None:
    assert copy_of(url, tmp_path) == copy_of(url.rstrip("/"), tmp_path)


def test_names_never_change(tmp_path: Path) -> None:
    assert copy_of(URL, tmp_path).folder == tmp_path / "s3-bucket-my-runs-data-700da2936d293b96"
    assert working_copy(URL, "demo").path.parts[-2:] == ("s3-bucket-my-runs-data-700da293", "demo")
