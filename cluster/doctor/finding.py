"""Findings of `nascluster doctor`, and how they are printed."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from child_trainer import portable_json
from cluster.formatting import counted

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        level: OK; WARN, a possible cause of trouble; FAIL, which keeps a search from running.
        what: the result, a clause.
        do: the remedy; empty if none is needed.
    """

    level: Level
    what: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.level:4}  {self.what}" + (f"  ->  {self.do}" if self.do else "")


Section = tuple[str, Sequence[Finding]]
"""A heading and the findings under it."""


def exit_status(sections: Iterable[Section]) -> int:
    """Return 1 if any finding is a FAIL, else 0."""
    return int(any(finding.level == "FAIL" for _, findings in sections for finding in findings))


def text(sections: Sequence[Section]) -> str:
    """Return the findings as text, one line each, and at the end the first remedy."""
    lines: list[str] = []
    for heading, findings in sections:
        lines += [heading, *(f"  {finding}" for finding in findings), ""]
    all_findings = [finding for _, findings in sections for finding in findings]
    bad = [finding for finding in all_findings if finding.level == "FAIL"]
    warned = sum(finding.level == "WARN" for finding in all_findings)
    if bad:
        problems = counted(len(bad), "problem") + (", the first" if len(bad) > 1 else "")
        lines.append(f"{problems}: {bad[0].what}" + (f"  ->  {bad[0].do}" if bad[0].do else ""))
    else:
        warnings = f"; {counted(warned, 'warning')}" if warned else ""
        lines.append(f"No problem found{warnings}.")
    return "\n".join(lines)


def as_json(sections: Sequence[Section]) -> str:
    """Return the findings as one JSON object."""
    entries = [{"section": heading, **asdict(finding)} for heading, findings in sections for finding in findings]
    return portable_json.dumps({"well": not exit_status(sections), "findings": entries}, indent=2)
