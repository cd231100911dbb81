"""Each benchmark says with `--help` what it measures and takes, and measures nothing then."""

import runpy
from pathlib import Path

import pytest

from benchmarks.command_words import first_number

FOLDER = Path(__file__).parents[2] / "benchmarks"

BENCHMARKS = [file for file in sorted(FOLDER.glob("*.py")) if 'if __name__ == "__main__":' in file.read_text()]


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_help_is_there(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", [str(file), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    output = capsys.readouterr()
    assert (ended.value.code, output.err) == (0, "")
    assert f"python -m benchmarks.{file.stem}" in output.out


def test_a_word_that_is_no_number_is_refused() -> None:
    assert first_number([], 3) == 3
    assert first_number(["5", "x"], 3) == 5
    with pytest.raises(SystemExit, match="must be a whole number, got x"):
        first_number(["x"], 3)
