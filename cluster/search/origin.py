"""What a replica's step was computed from, as the ledger and the shards' logs have it, so that it can be repeated.

Knows neither Ray nor the clock, and imports no torch.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a searcher saw when it was asked for children or learnt from a batch.

    Attributes:
        versions, incarnations: the shards' at the pull of the parameters; empty without parameters.
        completed: how many children had ended.
        known: the last child that it knew of; 0 if it looked at none of the children.
        unknown: children up to that one which it did not know of; they were sampled while it looked.
        step: of a request for children: the batch's number and the place in it, which give the seed.
        asked: of a request for children: how many were asked for.
        checksum: of a push: of its gradients.
    """

    versions: tuple[int, ...]
    incarnations: tuple[int, ...]
    completed: int = 0
    known: int = 0
    unknown: tuple[int, ...] = ()
    step: tuple[int, ...] = ()
    asked: int = 0
    checksum: int = 0

    def to_text(self) -> str:
        """Return one short line, from which `from_text` makes an equal object."""
        numbers = {
            "versions": self.versions,
            "incarnations": self.incarnations,
            "completed": (self.completed,) if self.completed else (),
            "known": (self.known,) if self.known else (),
            "unknown": self.unknown,
            "step": self.step,
            "asked": (self.asked,) if self.asked else (),
        }
        words = [f"{name}={_packed(values)}" for name, values in numbers.items() if values]
        return " ".join([*words, *([f"checksum={self.checksum:08x}"] if self.checksum else [])])

    @classmethod
    def from_text(cls, text: str) -> "Origin":
        """Return the object of a text.

        Raises:
            ValueError: `to_text` did not write this.
        """
        words: dict[str, str] = {}
        for word in text.split():
            name, _, value = word.partition("=")
            words[name] = value
        checksum = int(words.pop("checksum", "0"), 16)
        numbers = {name: _unpacked(value) for name, value in words.items()}
        if unknown := sorted(set(numbers) - {field.name for field in fields(cls)}):
            raise ValueError(f"the origin of a step has no {unknown[0]!r}: {text!r}")

        def single(name: str) -> int:
            return next(iter(numbers.get(name, ())), 0)

        return cls(
            versions=numbers.get("versions", ()),
            incarnations=numbers.get("incarnations", ()),
            completed=single("completed"),
            known=single("known"),
            unknown=numbers.get("unknown", ()),
            step=numbers.get("step", ()),
            asked=single("asked"),
            checksum=checksum,
        )


def _packed(numbers: Sequence[int]) -> str:
    """Return numbers with commas, several equal ones in a row as `12x20`."""
    runs = [(number, len(list(group))) for number, group in groupby(numbers)]
    return ",".join(f"{number}x{times}" if times > 1 else f"{number}" for number, times in runs)


def _unpacked(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for run in text.split(","):
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", run)
        if match is None:
            raise ValueError(f"the numbers of a step's origin are as in 3,5x20, got {text!r}")
        numbers += [int(match[1])] * int(match[2] or 1)
    return tuple(numbers)
