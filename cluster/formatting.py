"""Text for people: the decisive line of an error, durations, and numbers with nouns. Standard library only."""

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import mean, stdev

from child_trainer.outcome import Measure

DAY_S = 86_400

MONTH_S, YEAR_S = 30.44 * DAY_S, 365.25 * DAY_S


def duration(seconds: float | None) -> str:
    """Format a duration in seconds: 42 s, 3 min 05 s, 2 h 07 min, 3 days 4 h, 7 months, 3 years; a dash for `None`."""
    if seconds is None:
        return "-"
    if seconds >= 2 * MONTH_S:
        months, years = round(seconds / MONTH_S), round(seconds / YEAR_S)
        return f"{months} months" if months < 24 else f"{years:,} years"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 60:
        return f"{whole} s"
    if whole < 2 * DAY_S:
        return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{whole // DAY_S} days {whole % DAY_S // 3600} h"


def utc_time(time: float) -> str:
    """Format a Unix time in UTC, such as 2026-11-29T02:16:36Z."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_instant(time: float) -> str:
    """Format a Unix time in UTC to the millisecond, for data: 2026-11-29T02:16:36.250Z."""
    return f"{datetime.fromtimestamp(time, UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def file_size(number: float) -> str:
    """Format a number of bytes on disk: 512 bytes, 12.3 kB, 1.5 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return counted(number, "byte")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, with the columns below one another, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def number(value: float | None) -> str:
    """Format a value with four decimal places, or as a dash if there is none yet."""
    return "-" if value is None else f"{value:.4f}"


def mean_text(values: Sequence[float]) -> str:
    """Format the mean of at least one value, and the standard deviation of several: 0.9907 ± 0.0016."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def metric_name(measure: Measure) -> str:
    """Return the name of the metric by which children are compared."""
    return str(measure) if measure in (Measure.SCORE, Measure.FITNESS) else f"validation {measure}"


PLURALS = {"batch": "batches", "child": "children", "push": "pushes"}
"""Plurals of the nouns that do not take an s."""


def first_line(text: str) -> str:
    """Return a text's first line, in which errors of object stores and of the system name the cause."""
    return text.strip().partition("\n")[0]


def opening(text: str) -> str:
    """Return the first line of an error, joined with the next as long as it ends with a colon and announces more."""
    opened, *others = [line.strip() for line in text.strip().split("\n")]
    for line in others:
        if not opened.endswith(":"):
            break
        opened = f"{opened} {line}"
    return opened


def last_line(text: str) -> str:
    """Return a text's last line, in which Python's tracebacks (and texts modelled on them) name the cause."""
    return text.strip().rpartition("\n")[2]


def noun(number: float, singular: str) -> str:
    """Return the noun in the form that fits a number: worker for 1, workers for 2 and for 0."""
    return singular if number == 1 else PLURALS.get(singular, f"{singular}s")


def counted(number: float, singular: str) -> str:
    """Format a number with its noun: 1 worker, 2 workers, 0.5 GPUs."""
    amount = f"{int(number):,}" if number == int(number) else f"{number:g}"
    return f"{amount} {noun(number, singular)}"
