"""The parts that an architecture is made of, for people: its cells, their genotypes, and its rows of equal cells."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from textwrap import indent
from typing import TypeVar

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.drawing import draw
from child_trainer.architectures.folding import folded
from child_trainer.own_calls import failures_of
from cluster.config.run_config import RunConfig
from controller.decisions import InvalidTokens
from controller.space import genotypes_of, motifs_of

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The parts of one architecture; all are empty if its space has no parts.

    Attributes:
        motifs: each part as a graph to draw, by its name.
        genotypes: the parts as text that can be pasted, by the notation's name.
        rows: the network's rows of equal parts, from the image on, such as `3 x normal cell, 32 filters at 32x32`.
        missing: why a part is left out, a line for each method of a user's own space that failed.
    """

    motifs: Mapping[str, Architecture]
    genotypes: Mapping[str, str]
    rows: Sequence[str]
    missing: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        """Yield the parts as text for a terminal, in paragraphs with a heading each."""
        if self.rows:
            yield from ("network", *(f"  {row}" for row in self.rows), "")
        for name, motif in self.motifs.items():
            yield from (name, *indent(draw(motif), "  ").splitlines(), "")
        for notation, text in self.genotypes.items():
            yield from (f"in {notation}'s notation", *text.splitlines(), "")

    def notes(self) -> Iterator[str]:
        """Yield the lines on what is left out, as a paragraph; nothing if all is there."""
        if self.missing:
            yield from (*self.missing, "")


NO_PARTS = Parts(motifs={}, genotypes={}, rows=())


def parts_of(config: RunConfig, tokens: Sequence[int], architecture: Architecture) -> Parts:
    """Return the parts of an architecture that the run's space decoded from these tokens.

    Tokens of another space (from a ledger that was written by hand) have no parts.
    """
    missing: list[str] = []
    with own_files.using(config.files):
        motifs = _named(config, "motifs", lambda: motifs_of(config.search_space, tokens), missing)
        genotypes = _named(config, "genotypes", lambda: genotypes_of(config.search_space, tokens), missing)
    problem = config.task.entry.problem
    rows = folded(architecture, None if problem is None else problem.shape[1:]) if motifs else []
    return Parts(motifs=motifs, genotypes=genotypes, rows=[row.text() for row in rows], missing=missing)


def _named(config: RunConfig, method: str, read: Callable[[], Mapping[str, T]], missing: list[str]) -> Mapping[str, T]:
    """Return what a method of the space returns; nothing, and a line in `missing`, if a user's own one fails."""
    try:
        with failures_of(config.space, method) if own_files.is_own(config.space) else nullcontext():
            return dict(read())
    except InvalidTokens:
        return {}
    except own_files.OwnFileError as error:
        if not isinstance(error.__cause__, InvalidTokens):
            missing.append(f"Not shown: {error}")
        return {}
