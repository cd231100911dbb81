"""Each benchmark says with `--help` what it measures and takes, and measures nothing then."""

import runpy
from pathlib import Path

import pytest

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
