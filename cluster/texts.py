"""The one line of a longer text that says what happened. Standard library only."""


def first_line(text: str) -> str:
    """Where an object store's or a system's error says what is wrong."""
    return text.strip().partition("\n")[0]


def last_line(text: str) -> str:
    """Where Python's tracebacks, and what is made after them, say what is wrong."""
    return text.strip().rpartition("\n")[2]
