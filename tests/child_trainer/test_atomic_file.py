"""Replacing a file: readers see the old content or the new one, and failures leave nothing behind."""

import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from child_trainer.atomic_file import replace_file, replacing, write_output


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_created_and_replaced(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "file"
    for data in (b"one", b"two"):
        replace_file(file, data, durable=durable)
        assert file.read_bytes() == data
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_keeps_the_old_content_and_removes_the_draft(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as draft:
        draft.write_bytes(b"half")
        assert draft.name.startswith("file") and draft.suffix == ".tmp"
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_writers_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    file, contents = tmp_path / "file", [bytes([number]) * 10_000 for number in range(50)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda data: replace_file(file, data, durable=False), contents))
    assert file.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [file]


def test_output_follows_links_also_those_that_point_nowhere_yet(tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to("page")
    for data in (b"created", b"replaced"):
        write_output(tmp_path / "first", data)
        assert (tmp_path / "page").read_bytes() == data
    assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()


def test_output_into_a_fifo_reaches_its_reader_and_is_refused_without_one(tmp_path: Path) -> None:
    fifo, received = tmp_path / "fifo", []
    os.mkfifo(fifo)
    with pytest.raises(OSError):
        write_output(fifo, b"unheard")
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # a reader is there from now on
    os.set_blocking(descriptor, True)
    with open(descriptor, "rb") as file:
        writer = threading.Thread(target=write_output, args=(fifo, b"x" * 200_000))
        writer.start()
        # Before the writer has opened the FIFO, a read would return at once, as at the end of a file.
        assert select.select([file], [], [], 60)[0]
        received.append(file.read())
        writer.join(60)
    assert received == [b"x" * 200_000]
    assert fifo.is_fifo()


def test_output_into_a_device_or_a_folder_replaces_neither(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to(os.devnull)
    write_output(tmp_path / "null", b"gone")
    assert Path(os.devnull).is_char_device() and (tmp_path / "null").is_symlink()
    with pytest.raises(IsADirectoryError):
        write_output(tmp_path, b"data")
