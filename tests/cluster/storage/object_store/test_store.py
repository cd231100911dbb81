"""Objects on S3, on a file system and in memory: one contract."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from cluster.config.locations import is_url
from cluster.storage.find_run import run_folder
from cluster.storage.object_store.store import PART_BYTES, FsspecStorage, StorageError, open_storage


@pytest.fixture(params=["s3", "file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> FsspecStorage:
    if request.param == "s3":
        return open_storage(request.getfixturevalue("s3_url"))
    return open_storage(f"{request.param}://{tmp_path}/store")


def test_objects_are_read_as_they_were_written(storage: FsspecStorage) -> None:
    assert storage.read("a/b") is None
    storage.write("a/b", b"one")
    storage.write("a/b", b"two")
    storage.write_all({"a/c": b"", "d": b"three"})
    assert storage.read("a/b") == b"two"
    assert storage.read_all(["a/b", "a/c", "missing"]) == {"a/b": b"two", "a/c": b""}
    assert storage.names() == ["a/b", "a/c", "d"]
    assert storage.names("a") == ["a/b", "a/c"]
    assert storage.names("nothing") == []
    assert storage.folders() == ["a"]
    assert storage.below("a").read("b") == b"two"
    assert storage.below("a").names() == ["b", "c"]


class Reads(BytesIO):
    """A file that tells how much was read of it at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.most = max(self.most, len(part))
        return part


def test_a_file_is_written_part_by_part(storage: FsspecStorage) -> None:
    content = random.Random(0).randbytes(3 * PART_BYTES + 5)
    file = Reads(content)
    storage.write_file("a/large", file)
    assert storage.read("a/large") == content
    assert file.most == PART_BYTES
    storage.write_file("a/empty", BytesIO())
    assert storage.read("a/empty") == b""
    assert storage.names() == ["a/empty", "a/large"]


def test_objects_are_removed_and_may_be_removed_again(storage: FsspecStorage) -> None:
    storage.write("a/b", b"one")
    for _ in range(2):
        storage.remove(["a/b", "never"])
    assert storage.names() == []
    assert storage.read("a/b") is None


def test_an_object_is_created_once(storage: FsspecStorage) -> None:
    assert storage.create("starts/1", b"mine")
    assert not storage.create("starts/1", b"theirs")
    assert storage.read("starts/1") == b"mine"
    assert storage.names() == ["starts/1"]


def test_one_of_many_callers_creates_an_object(storage: FsspecStorage) -> None:
    with ThreadPoolExecutor(8) as threads:
        for name in ("one", "two", "three"):
            contents = [f"{name} {i}".encode() for i in range(8)]
            won = list(threads.map(lambda content, name=name: storage.create(name, content), contents))
            assert won.count(True) == 1
            assert storage.read(name) == contents[won.index(True)]


def test_these_stores_are_known_to_create_atomically(storage: FsspecStorage) -> None:
    storage.create("config.json", b"as it is")
    assert storage.is_exclusive("config.json")
    assert storage.read("config.json") == b"as it is"
    assert storage.names() == ["config.json"]


class LooksFirst(MemoryFileSystem):
    """As fsspec's own way is: nothing is between the look and the write but time."""

    protocol = "looks-first"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        AbstractFileSystem.pipe_file(self, path, value, mode=mode, **options)


class Careless(MemoryFileSystem):
    """Does not know of exclusive writing."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, value, **options)


class AlmostS3(Careless):
    """A service that has S3's protocol and lets the condition pass unread."""

    protocol = ("s3", "s3a")


@pytest.mark.parametrize("backend", [LooksFirst, Careless, AlmostS3])
def test_other_stores_are_not_assumed_to_create_atomically(backend: type[MemoryFileSystem], tmp_path: Path) -> None:
    storage = FsspecStorage(backend(), f"{tmp_path}/store")
    assert storage.create("config.json", b"as it is")
    assert not storage.create("config.json", b"another")
    assert not storage.is_exclusive("config.json")
    assert storage.read("config.json") == b"as it is"


def test_a_protocol_with_file_in_its_name_is_no_file_system(tmp_path: Path) -> None:
    class Files(MemoryFileSystem):
        protocol = "filestore"

    FsspecStorage(Files(), f"{tmp_path}/store").write("x", b"there")
    assert Files().cat_file(f"{tmp_path}/store/x") == b"there"
    assert not (tmp_path / "store").exists()


def test_another_machines_objects_are_seen(s3_url: str) -> None:
    """No listing is remembered."""
    here, there = open_storage(s3_url), open_storage(f"{s3_url}/")
    assert here.names() == []
    there.write("x", b"")
    assert here.names() == ["x"]


def test_a_plain_path_is_no_url(tmp_path: Path) -> None:
    assert not is_url("~/runs")
    assert is_url("s3://bucket/runs")
    folder = run_folder(str(tmp_path), "demo")
    assert (folder.path, folder.url, folder.place) == (tmp_path / "demo", None, str(tmp_path / "demo"))


def test_a_missing_bucket_is_reported_with_the_services_reason(s3_url: str) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/runs cannot be used: .*bucket does not exist"):
        open_storage("s3://no-such-bucket/runs")


def test_missing_credentials_are_reported(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match="cannot be used: Unable to locate credentials"):
        open_storage(s3_url)
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as Python marks what cannot be imported
    with pytest.raises(StorageError, match=r"needs the package s3fs \(`pip install s3fs`\)"):
        open_storage("s3://bucket/runs")


def test_an_unknown_protocol_is_rejected() -> None:
    with pytest.raises(StorageError, match=r"x3://bucket/runs cannot be used: .*x3"):
        open_storage("x3://bucket/runs")
