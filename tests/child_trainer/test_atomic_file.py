"""Replacing a file: readers see the old content or the new one, and failures leave nothing behind."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from child_trainer.atomic_file import replace_file, replacing


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
