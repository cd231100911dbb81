"""Makes one sentence of a boxed error of tyro's. Standard library only."""

import re
from collections.abc import Mapping, Sequence

NUMBERS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "[INT": "whole numbers",
    "[FLOAT": "numbers",
    "FLOAT FLOAT": "two numbers",
}
"""What an option of numbers takes, by the beginning of tyro's name for it."""

PYTHON_SAYS: Mapping[str, str] = {"literal for int()": "INT", "to float": "FLOAT"}
"""tyro's name of a type, by the words in which Python refuses a text that is none."""

UNRECOGNIZED = "Unrecognized options: "
"""How tyro begins its list of words that no option takes."""

LONG_WORD = 10
"""Characters up to which no word is broken in an error of tyro's."""


def sentence_of(box: str) -> str:
    """Return the first paragraph of tyro's boxed error, with the first option that it suggests."""
    rows = [row.strip("│ ") for row in box.splitlines() if row.startswith("│")]
    if rows:
        paragraphs = " ".join(rows).split("─" * 10)
    else:  # where the output takes ASCII only: a title, and paragraphs between dashes
        rows = [row.strip() for row in box.splitlines()]
        paragraphs = re.split("-{10,}", " ".join(rows))[1:] or [" ".join(rows)]
    text = " ".join(rows)
    suggested = re.search(r"Perhaps you meant:\s+(--[\w-]+)", text)
    # If a check of ours rejects a value, tyro names the field's group, which is no option.
    sentence = re.sub("^Error parsing [\\w.][\\w.-]*: ", "", " ".join(paragraphs[0].split()).rstrip("."))
    sentence = _type_error(sentence, text) or _without_values(sentence)
    return sentence + (f"; did you mean {suggested[1]}?" if suggested else "")


def _without_values(sentence: str) -> str:
    """Return the sentence without the words that tyro lists after an unknown option, which are its values."""
    title, found, words = sentence.partition(UNRECOGNIZED)
    flags = [word for word in words.split(", ") if word.startswith("-")]
    return f"{title}{found}{', '.join(flags)}" if flags else sentence


def as_typed(sentence: str, arguments: Sequence[str]) -> str:
    """Return the sentence with the arguments in it as they were typed: tyro breaks its rows also within a word."""
    typed = {part for word in arguments for part in (word, word.partition("=")[2]) if len(part) > LONG_WORD}
    for part in sorted(typed, key=len):
        pattern = " ?".join(map(re.escape, "".join(part.split())))
        sentence = re.sub(pattern, lambda _, part=part: part, sentence)
    return sentence


def _type_error(sentence: str, box: str) -> str | None:
    """Return a sentence on a value of the wrong type in place of Python's; `None` if the error is another one.

    Args:
        sentence: tyro's, such as `Error parsing --seed: invalid literal for int() with base 10: 'x'`.
        box: the whole text, which says what the option takes.
    """
    error = re.match(r"Error parsing (--[\w-]+): (.*)", sentence)
    if error is None:
        return None
    flag, reason = error.groups()
    types = r"(?:\{None\}\|)?(\[?(INT|FLOAT)(?: \2\b)?)(?:\|\{(\w+)\})?"
    # An option with a name of its own for its value, such as N, has the type in the reason only.
    takes = re.search(rf"Argument helptext:.*?{flag}\s+{types}", box) or re.match(rf"no type matching {types}", reason)
    given = re.search(r"\['.*?'\]|'[^']*'$", reason)
    what = NUMBERS.get(takes[1] if takes else next((name for text, name in PYTHON_SAYS.items() if text in reason), ""))
    if what is None or given is None:
        return f"{flag}: {reason}"
    words, other = re.findall("'([^']*)'", given[0]), takes and takes[3]
    return f"{flag} must be {what}{f' or {other}' if other else ''}, got {' '.join(words)}"
