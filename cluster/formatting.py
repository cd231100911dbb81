"""Words for people: the one line of a longer text that says what happened, and numbers with nouns. Standard library."""

from child_trainer.outcome import Measure


def duration(seconds: float | None) -> str:
    """Seconds for people: 42 s, 3 min 05 s, 2 h 07 min."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: float | None) -> str:
    """Four digits, or a dash where there is nothing yet."""
    return "-" if value is None else f"{value:.4f}"


def metric_name(measure: Measure) -> str:
    """What children are compared by, in words."""
    return str(measure) if measure is Measure.SCORE else f"validation {measure}"


PLURALS = {"child": "children", "push": "pushes"}
"""Of the nouns that do not take an s."""


def first_line(text: str) -> str:
    """Where an object store's or a system's error says what is wrong."""
    return text.strip().partition("\n")[0]


def opening(text: str) -> str:
    """The same of an error that goes on in the next line where the first ends with a colon."""
    first, rest = first_line(text), text.strip().partition("\n")[2]
    return f"{first} {first_line(rest)}" if first.endswith(":") and rest else first


def last_line(text: str) -> str:
    """Where Python's tracebacks, and what is made after them, say what is wrong."""
    return text.strip().rpartition("\n")[2]


def noun(number: float, what: str) -> str:
    """What so many of them are called: worker for 1, workers for 2 and for none."""
    return what if number == 1 else PLURALS.get(what, f"{what}s")


def counted(number: float, what: str) -> str:
    """So many of them: 1 worker, 2 workers, 0.5 GPUs."""
    amount = f"{int(number):,}" if number == int(number) else f"{number:g}"
    return f"{amount} {noun(number, what)}"
