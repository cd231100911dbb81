"""The command that measures children on a GPU: refused without one, and tried out on the CPU."""

import re

import pytest
import torch

from benchmarks.gpu_children import NEEDS_GPU, main


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"{NEEDS_GPU}\n")


def test_on_a_cpu_each_step_that_needs_no_gpu_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert main(["--device", "cpu", "--seeds", "1", "--processes", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    rows = [re.split(r" *\| *", line) for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [row[1] for row in rows] == [
        "plain loop",
        "+ data on the device",
        "+ channels-last",
        "+ bfloat16",
        "a child, float32",
        "a child, bfloat16",
        "1 such children at once, each in a process",
    ]
    assert all(float(row[2].replace(",", "")) > 0 and float(row[4]) > 0 for row in rows)
