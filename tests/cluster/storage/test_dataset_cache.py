"""The data on a node: a folder, or a copy of one in an object store, made once and never read torn."""

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from child_trainer.training.task import TaskError
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.placement.node_check import check_data
from cluster.storage.dataset_cache import check_stored, copy_of, data_folder, local_data, located
from cluster.storage.object_store.store import FsspecStorage, StorageError, open_storage
from tests.cluster.conftest import ObjectService

CONTENTS = {"FashionMNIST/raw/images.gz": b"i" * 100_000, "FashionMNIST/raw/labels.gz": b"l" * 10}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASCLUSTER_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(tmp_path: Path) -> str:
    store = tmp_path / "store"
    for name, content in CONTENTS.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(content)
    return f"file://{store}"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all objects that are fetched."""
    names: list[str] = []
    fetch = FsspecStorage.fetch

    def noted(self: FsspecStorage, name: str, path: Path) -> None:
        names.append(name)
        fetch(self, name, path)

    monkeypatch.setattr(FsspecStorage, "fetch", noted)
    return names


def test_a_folder_is_used_where_it_is_and_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("data") == tmp_path / "data"
    assert located(None) is None
    assert local_data(tmp_path) == data_folder(tmp_path) == tmp_path
    assert local_data(None) is None


def test_a_url_survives_the_configuration_and_its_file() -> None:
    url = "s3://bucket/cifar10"
    assert located(url) == url
    config = RunConfig(task=TaskOptions(data=located(url)))
    assert RunConfig.from_json(config.to_json()).task.data == url


def test_a_copy_is_fetched_once_and_has_the_stores_files(cache: Path, url: str, fetched: list[str]) -> None:
    folder = local_data(url)
    assert folder == copy_of(url).folder == data_folder(url)
    assert folder.parent == cache
    assert files(folder) == CONTENTS
    assert local_data(url) == local_data(url + "/") == folder
    assert sorted(fetched) == sorted(CONTENTS)


def test_workers_of_one_node_fetch_once(cache: Path, url: str, fetched: list[str]) -> None:
    with ThreadPoolExecutor(8) as threads:
        folders = set(threads.map(lambda _: local_data(url), range(8)))
    assert len(folders) == 1
    assert sorted(fetched) == sorted(CONTENTS)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"torn"), lambda path: path.unlink()])
def test_only_the_damaged_files_of_a_copy_are_fetched_again(
    cache: Path, url: str, fetched: list[str], damage: Any
) -> None:
    folder = local_data(url)
    assert folder is not None
    fetched.clear()
    damage(folder / "FashionMNIST/raw/images.gz")
    assert files(local_data(url) or folder) == CONTENTS
    assert fetched == ["FashionMNIST/raw/images.gz"]


def test_files_that_changed_in_the_store_are_fetched_again(cache: Path, url: str, tmp_path: Path) -> None:
    local_data(url)
    changed = tmp_path / "store/FashionMNIST/raw/labels.gz"
    changed.write_bytes(b"L" * 10)  # as long as before
    os.utime(changed, (time.time() + 5, time.time() + 5))
    folder = local_data(url)
    assert folder is not None
    assert (folder / "FashionMNIST/raw/labels.gz").read_bytes() == b"L" * 10


def test_a_copy_whose_fetching_process_died_is_not_used(cache: Path, url: str) -> None:
    script = (
        "import os, sys\n"
        "from cluster.storage.dataset_cache import local_data\n"
        "from cluster.storage.object_store.store import FsspecStorage\n"
        "def dies(self, name, path):\n"
        "    path.write_bytes(b'half'); os._exit(9)\n"
        "FsspecStorage.fetch = dies\n"
        "local_data(sys.argv[1])\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script, url], cwd=root, check=False)
    assert done.returncode == 9
    assert not copy_of(url).record.exists()
    folder = local_data(url)
    assert folder is not None
    assert {name: content for name, content in files(folder).items() if name in CONTENTS} == CONTENTS


def test_a_complete_copy_is_used_while_the_store_is_unavailable(
    cache: Path, object_service: ObjectService, s3_url: str
) -> None:
    store = open_storage(s3_url)
    store.write_all(CONTENTS)
    folder = local_data(s3_url)
    assert folder is not None
    assert files(folder) == CONTENTS
    object_service.stop()
    try:
        assert local_data(s3_url) == folder
        (folder / "FashionMNIST/raw/labels.gz").unlink()
        with pytest.raises(StorageError, match=r"`--data` s3://.* cannot be used"):
            local_data(s3_url)
    finally:
        object_service.start()
    assert files(local_data(s3_url) or folder) == CONTENTS


def test_data_that_cannot_be_fetched_is_reported(cache: Path, tmp_path: Path, url: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match=r"`--data` file://.*/empty has no files: it must be a folder"):
        local_data(f"file://{tmp_path}/empty")
    with pytest.raises(StorageError, match=r"`--data` nope://x cannot be used: .*nope"):
        local_data("nope://x")
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"cannot be copied to .*NASCLUSTER_DATA_CACHE names another folder"):
        local_data(url, cache=tmp_path / "file")


def test_the_store_is_checked_without_fetching_anything(cache: Path, tmp_path: Path, url: str) -> None:
    check_stored(url)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match=r"empty has no files"):
        check_stored(f"file://{tmp_path}/empty")
    assert not cache.exists()


def test_a_store_that_was_emptied_is_reported_despite_a_copy(cache: Path, tmp_path: Path, url: str) -> None:
    assert local_data(url)
    shutil.rmtree(url.removeprefix("file://"))
    Path(url.removeprefix("file://")).mkdir()
    with pytest.raises(StorageError, match="has no files"):
        local_data(url)


def test_a_task_is_checked_on_the_copy(cache: Path, url: str) -> None:
    with pytest.raises(TaskError, match=rf"{cache}.* is missing"):
        check_data(TaskOptions(task="fashion-mnist", data=url))
    with pytest.raises(TaskError, match="leave out `--download`"):
        check_data(TaskOptions(task="fashion-mnist", data=url, download=True))


def test_other_processes_wait_for_the_one_that_fetches(cache: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()
    fetch = FsspecStorage.fetch

    def slowly(self: FsspecStorage, name: str, path: Path) -> None:
        entered.set()
        assert go_on.wait(20)
        fetch(self, name, path)

    monkeypatch.setattr(FsspecStorage, "fetch", slowly)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(local_data, url)
        assert entered.wait(20)
        second = threads.submit(local_data, url)
        time.sleep(0.2)
        assert not second.done()
        go_on.set()
        assert first.result() == second.result()
