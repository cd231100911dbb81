"""The parts that an architecture is made of, for people: its cells, their genotypes, and its rows of equal cells."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.drawing import draw
from child_trainer.architectures.folding import folded
from cluster.config.run_config import RunConfig
from controller.decisions import InvalidTokens
from controller.space import genotypes_of, motifs_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The parts of one architecture; all are empty if its space has no parts.

    Attributes:
        motifs: each part as a graph to draw, by its name.
        genotypes: the parts as text that can be pasted, by the notation's name.
        rows: the network's rows of equal parts, from the image on, such as `3 x normal cell, 32 filters at 32x32`.
    """

    motifs: Mapping[str, Architecture]
    genotypes: Mapping[str, str]
    rows: Sequence[str]

    def lines(self) -> Iterator[str]:
        """Yield the parts as text for a terminal, in paragraphs with a heading each."""
        if self.rows:
            yield from ("network", *(f"  {row}" for row in self.rows), "")
        for name, motif in self.motifs.items():
            yield from (name, *indent(draw(motif), "  ").splitlines(), "")
        for notation, text in self.genotypes.items():
            yield from (f"in {notation}'s notation", *text.splitlines(), "")


NO_PARTS = Parts(motifs={}, genotypes={}, rows=())


def parts_of(config: RunConfig, tokens: Sequence[int], architecture: Architecture) -> Parts:
    """Return the parts of an architecture that the run's space decoded from these tokens.

    Tokens of another space (from a ledger that was written by hand) have no parts.
    """
    try:
        with own_files.using(config.files):
            motifs = motifs_of(config.search_space, tokens)
            genotypes = genotypes_of(config.search_space, tokens)
    except InvalidTokens:
        motifs, genotypes = {}, {}
    problem = config.task.entry.problem
    rows = folded(architecture, None if problem is None else problem.shape[1:]) if motifs else []
    return Parts(motifs=motifs, genotypes=genotypes, rows=[row.text() for row in rows])
