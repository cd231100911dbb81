"""Locks on files: who waits for whom, and for how long."""

import time
from pathlib import Path

import pytest

from cluster.storage.locks import exclusive, exclusive_within, is_locked, shared


def test_an_exclusive_lock_keeps_others_out_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path):
        assert is_locked(path)
        began = time.monotonic()
        assert exclusive_within(path, 0.2) is None
        assert time.monotonic() - began >= 0.2
    assert not is_locked(path)
    second = exclusive_within(path, 0.0)
    assert second is not None
    second.close()


def test_shared_locks_exclude_exclusive_ones_only(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with shared(path), shared(path):
        assert not is_locked(path)
        assert exclusive_within(path, 0.0) is None


def test_a_file_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        is_locked(tmp_path / "lock")
