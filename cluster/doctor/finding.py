"""What a doctor has found, and how it is told."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from cluster.formatting import counted

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: OK; WARN, which may explain what is seen; FAIL, which keeps a search from running.
        what: what was found, a clause.
        do: what to do about it; empty if nothing is to be done.
    """

    level: Level
    what: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.level:4}  {self.what}" + (f"  ->  {self.do}" if self.do else "")


Section = tuple[str, Sequence[Finding]]
"""A heading, and what was found below it."""


def exit_status(sections: Iterable[Section]) -> int:
    """0 if nothing keeps a search from running, else 1."""
    return int(any(finding.level == "FAIL" for _, findings in sections for finding in findings))


def text(sections: Sequence[Section]) -> str:
    """For people: every finding in one line, and at the end what to do first."""
    lines: list[str] = []
    for heading, findings in sections:
        lines += [heading, *(f"  {finding}" for finding in findings), ""]
    everything = [finding for _, findings in sections for finding in findings]
    bad = [finding for finding in everything if finding.level == "FAIL"]
    warned = sum(finding.level == "WARN" for finding in everything)
    if bad:
        problems = counted(len(bad), "problem") + (", the first" if len(bad) > 1 else "")
        lines.append(f"{problems}: {bad[0].what}" + (f"  ->  {bad[0].do}" if bad[0].do else ""))
    else:
        warnings = f"; {counted(warned, 'warning')}" if warned else ""
        lines.append(f"No problem found{warnings}.")
    return "\n".join(lines)


def as_json(sections: Sequence[Section]) -> str:
    """The same as one JSON object."""
    found = [{"section": heading, **asdict(finding)} for heading, findings in sections for finding in findings]
    return json.dumps({"well": not exit_status(sections), "findings": found}, indent=2)
