"""What an error comes to in a line, wherever its text has it; numbers with their nouns."""

import time

import pytest

from cluster.formatting import counted, first_line, last_line, noun, opening, utc_time


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("boom", "boom", "boom"),
        ("Traceback:\n  a line\nValueError: boom\n", "Traceback:", "ValueError: boom"),
        ("\n\n  no bucket \n\n", "no bucket", "no bucket"),
        (" \n", "", ""),
        ("", "", ""),
    ],
)
def test_a_text_comes_to_its_first_or_its_last_line(text: str, first: str, last: str) -> None:
    assert (first_line(text), last_line(text)) == (first, last)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Parameter validation failed:\nInvalid bucket name", "Parameter validation failed: Invalid bucket name"),
        ("no bucket\nat all", "no bucket"),
        (
            "download failed:\nTried https://a, got:\nno network\nTried b",
            "download failed: Tried https://a, got: no network",
        ),
        ("", ""),
        ("failed:\n", "failed:"),
    ],
)
def test_a_first_line_that_only_announces_brings_the_next(text: str, said: str) -> None:
    assert opening(text) == said


@pytest.mark.parametrize(
    ("number", "what", "said"),
    [
        (0, "worker", "0 workers"),
        (1, "worker", "1 worker"),
        (1, "child", "1 child"),
        (2000, "child", "2,000 children"),
        (2, "push", "2 pushes"),
        (4.0, "core", "4 cores"),
        (1.0, "GPU", "1 GPU"),
        (0.5, "GPU", "0.5 GPUs"),
        (0.1 + 0.2, "GPU", "0.3 GPUs"),
    ],
)
def test_a_noun_agrees_with_its_number(number: float, what: str, said: str) -> None:
    assert counted(number, what) == said
    assert said.endswith(f" {noun(number, what)}")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/St_Johns"])
def test_a_time_is_in_utc_wherever_it_is_read(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert utc_time(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()
