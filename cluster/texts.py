"""Words for people: the one line of a longer text that says what happened, and numbers with nouns. Standard library."""

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
