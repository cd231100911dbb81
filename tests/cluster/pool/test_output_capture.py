"""A child's output, captured and kept: in this process by thread, in others by descriptor."""

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.pool.output_buffer import MAX_BUFFER_BYTES, CapturedOutput, OutputBuffer
from cluster.pool.output_capture import BufferedCapture, by_thread, split_by_thread
from cluster.pool.output_files import FRESH, KEPT_BYTES, OutputFolder

ROOT = Path(__file__).parents[3]

Kept = list[tuple[int, str, str]]

PROGRAM = """
import ctypes, os, sys
from pathlib import Path
from cluster.pool.output_capture import BufferedCapture, by_descriptor
from cluster.pool.output_buffer import OutputBuffer

capture = BufferedCapture(OutputBuffer(Path(sys.argv[1])), by_descriptor, lambda *kept: print("kept", *map(repr, kept)))
print("before")
with capture(1, "one"):
    print("by Python")
    ctypes.CDLL(None).puts(b"by C")
print("between")
with capture(2, "two"):
    pass
with capture(3, "three"):
    print("my last words", end="")
    if sys.argv[2:]:
        os.kill(os.getpid(), int(sys.argv[2]))
"""


def capture_into(scratch: OutputBuffer, kept: Kept) -> BufferedCapture:
    return BufferedCapture(scratch, by_thread, lambda *what: kept.append(what))


def program(path: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROGRAM, str(path), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_by_descriptor_all_output_of_an_attempt_is_captured_and_no_other(tmp_path: Path) -> None:
    done = program(tmp_path / "scratch")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "before",
        "kept 1 'one' 'by Python\\nby C\\n'",
        "between",
        "kept 3 'three' 'my last words'",
    ]
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSEGV])
def test_the_next_process_keeps_a_killed_processs_output_once(tmp_path: Path, death: signal.Signals) -> None:
    path = tmp_path / "scratch"
    assert program(path, int(death)).returncode == -death
    kept: Kept = []
    capture_into(OutputBuffer(path), kept)
    assert kept == [(3, "three", "my last words")]
    capture_into(OutputBuffer(path), kept)
    assert len(kept) == 1


def test_by_thread_each_child_has_what_its_own_thread_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: Kept = []
    meet = threading.Barrier(2)

    def child(number: int) -> None:
        with capture_into(OutputBuffer(tmp_path / str(number)), kept)(number, f"key-{number}"):
            meet.wait()
            print("I am", number)
            meet.wait()
            print("on stderr", number, file=sys.stderr)

    with split_by_thread():
        threads = [threading.Thread(target=child, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        print("not a child's")
        for thread in threads:
            thread.join()
    assert sorted(kept) == [(n, f"key-{n}", f"I am {n}\non stderr {n}\n") for n in (1, 2)]
    assert capsys.readouterr().out == "not a child's\n"


def test_what_is_logged_to_the_console_is_output(tmp_path: Path) -> None:
    kept: Kept = []
    with split_by_thread(), capture_into(OutputBuffer(tmp_path / "scratch"), kept)(1, "key"):
        logger = logging.Logger("a child's")
        logger.addHandler(logging.StreamHandler())
        logger.warning("mind the gap")
    assert kept == [(1, "key", "mind the gap\n")]


def test_a_child_that_prints_nothing_has_no_file(tmp_path: Path) -> None:
    kept: Kept = []
    with split_by_thread(), capture_into(OutputBuffer(tmp_path / "scratch"), kept)(1, "key"):
        assert not (tmp_path / "scratch").exists()
    assert kept == []


def test_an_error_in_the_training_keeps_the_output_and_is_raised(tmp_path: Path) -> None:
    kept: Kept = []
    with (
        pytest.raises(KeyboardInterrupt),
        split_by_thread(),
        capture_into(OutputBuffer(tmp_path / "scratch"), kept)(1, "key"),
    ):
        print("so far")
        raise KeyboardInterrupt
    assert kept == [(1, "key", "so far\n")]


def test_the_last_part_is_kept_after_a_line_on_what_is_missing(tmp_path: Path) -> None:
    scratch = OutputBuffer(tmp_path / "scratch")
    scratch.begin(1, "key")
    written = 0
    for number in range(5 * MAX_BUFFER_BYTES // 10_000):
        text = f"{number:09d}\n" * 1000
        scratch.write(text)
        written += len(text)
        assert (tmp_path / "scratch").stat().st_size <= MAX_BUFFER_BYTES + len(text)
    taken = scratch.end()
    assert isinstance(taken, CapturedOutput)
    head, _, rest = taken.text.partition("\n")
    assert head == f"[the first {written - KEPT_BYTES:,} bytes were not kept]"
    assert len(rest) == KEPT_BYTES
    assert rest.endswith(f"{number:09d}\n")


def test_where_the_file_cannot_be_written_only_output_is_lost(tmp_path: Path) -> None:
    kept: Kept = []
    with split_by_thread(), capture_into(OutputBuffer(tmp_path / "gone" / "scratch"), kept)(1, "key"):
        print("lost")
    assert kept == []


def test_a_damaged_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("no header\nwords")
    assert OutputBuffer(tmp_path / "scratch").recover() is None
    assert not (tmp_path / "scratch").exists()


def test_the_folder_of_outputs(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "outputs")
    assert folder.read(12_345, 2) is None
    folder.keep(12_345, 2, "words")
    folder.keep(12_345, 2, "other words")
    assert folder.read(12_345, 2) == "other words"
    files = [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()]
    assert files == ["outputs/00012/12345-2.log"]


def test_each_changed_output_is_linked_where_outputs_are_copied(tmp_path: Path) -> None:
    folder, fresh = OutputFolder(tmp_path), tmp_path / FRESH
    folder.keep(1, 1, "not copied yet")
    fresh.mkdir()
    for words in ("first", "second"):
        folder.keep(2, 1, words)
    assert [(link.name, link.read_text()) for link in fresh.iterdir()] == [("2-1.log", "second")]
