"""Innovation numbers: the historical markings of links (Stanley & Miikkulainen 2002, section 3.2).

Standard library only. The numbers are given while a whole generation is made at once, so that they are a function of
the generation before.
"""

from dataclasses import dataclass

from controller.genomes.genome import Genome


@dataclass(frozen=True, slots=True)
class Split:
    """The numbers that a split link brings: its new node, the link into that and the link out of it."""

    node: int
    into: int
    out_of: int


class Innovations:
    """The structural mutations of one generation; a mutation that occurs again gets the numbers that it has.

    Args:
        next_link: the first innovation number that no genome has had yet.
        next_node: the first node number that no genome has had yet.
    """

    def __init__(self, next_link: int, next_node: int) -> None:
        self.next_link, self.next_node = next_link, next_node
        self._links: dict[tuple[int, int, bool], int] = {}
        self._splits: dict[int, Split] = {}

    @classmethod
    def of(cls, genome: Genome) -> "Innovations":
        """Return the innovations after this genome alone."""
        next_link = max((link.innovation for link in genome.links), default=0) + 1
        return cls(next_link, max(genome.hidden, default=genome.inputs + genome.outputs - 1) + 1)

    def link(self, place: tuple[int, int, bool]) -> int:
        """Return the number of a new link at this place."""
        if place not in self._links:
            self._links[place] = self._next()
        return self._links[place]

    def split(self, innovation: int) -> Split:
        """Return the numbers for splitting the link with this number."""
        if innovation not in self._splits:
            self._splits[innovation] = Split(self.next_node, self._next(), self._next())
            self.next_node += 1
        return self._splits[innovation]

    def _next(self) -> int:
        self.next_link += 1
        return self.next_link - 1
