"""The space of One-Shot (Bender et al. 2018; spec §11): one cell of choice blocks, each with some of all options."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.cells.cell import INPUTS
from child_trainer.architectures.cells.one_shot import OPERATIONS, ChoiceBlock, motif, network
from child_trainer.field_types import check_types
from controller.decisions import Choice, InvalidTokens, Tokens, check_tokens
from controller.spaces.supernet import likely, some_hot, strengths_of

JOIN = " + "
"""What stands between the parts of an option."""


@dataclass(frozen=True, kw_only=True)
class OneShotSpace:
    """The inputs and the operations of each choice block of a cell; copies of the cell make the network."""

    operations: tuple[str, ...] = OPERATIONS
    """Operations that a block may have; a convolution is a pair of them."""
    blocks: int = 4
    """Choice blocks of a cell."""
    max_inputs: int = 2
    """Maximum number of earlier values that a block adds; at least one."""
    max_operations: int = 2
    """Maximum number of operations whose values a block adds; at least one."""
    cells_per_stage: int = 2
    """Cells in each of the three stages."""
    filters: int = 48
    """Filters of the first stage's blocks, doubled for each later one."""

    def __post_init__(self) -> None:
        check_types(self)
        names = self.operations
        if not names or not set(names) <= set(OPERATIONS) or len(set(names)) < len(names):
            raise ValueError(f"`operations` must be one or more different ones of {', '.join(OPERATIONS)}, got {names}")
        for name in ("blocks", "max_inputs", "max_operations", "cells_per_stage", "filters"):
            least = 2 if name == "filters" else 1
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    @property
    def place_name(self) -> str:
        """What the places of its choices are, for people."""
        return "block"

    def decisions(self, completed: int) -> tuple[Choice, ...]:
        """Return the choices of one block after another: its inputs, then its operations."""
        return _choices(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self)}

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions, which take two tokens for each block."""
        if num_tokens != len(_choices(self)):
            raise InvalidTokens(f"{self.blocks} blocks take {len(_choices(self))} tokens, got {num_tokens}")
        return _choices(self)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the cell that the tokens encode."""
        return _network(self, self.gates(tokens))

    def blocks_of(self, tokens: Sequence[int]) -> list[ChoiceBlock]:
        """Return the blocks that the tokens encode.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        check_tokens(self.decisions_of(len(tokens)), tokens)
        chosen = [_subsets(*size)[token] for size, token in zip(_sizes(self), tokens, strict=True)]
        return [
            ChoiceBlock(inputs, tuple(self.operations[place] for place in places))
            for inputs, places in zip(chosen[::2], chosen[1::2], strict=True)
        ]

    def tokens_of(self, genotype: str) -> Tokens:
        """Return the tokens of a cell as `genotypes` writes it: a line for each block, `newer + older: sep_3x3`.

        Raises:
            InvalidTokens: it has another number of blocks, or a block has other inputs or operations.
        """
        words = [word.strip() for line in genotype.strip().splitlines() for word in line.partition(":")[::2]]
        tokens: list[int] = []
        for word, choice in zip(words, self.decisions_of(len(words)), strict=True):
            if word not in choice.options:
                options = ", ".join(map(str, choice.options))
                raise InvalidTokens(f"the {choice.kind} of block {choice.place} must be one of {options}, got {word!r}")
            tokens.append(choice.options.index(word))
        return tuple(tokens)

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the cell as text that `tokens_of` reads."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        words = [str(choice.options[token]) for choice, token in zip(_choices(self), tokens, strict=True)]
        return {"One-Shot": "\n".join(map(": ".join, zip(words[::2], words[1::2], strict=True)))}

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the cell as a graph for people."""
        return {"cell": motif(self.blocks_of(tokens))}

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: only if a block has a single input and operation."""
        return self.max_inputs == self.max_operations == 1

    def supernet(self) -> Architecture:
        """Return the network in which each block has all inputs and operations."""
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gates of each block, with a 1 for each input and operation that it has."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        return {
            gate: some_hot(_subsets(size, most)[token], size)
            for gate, (size, most), token in zip(_gate_names(self), _sizes(self), tokens, strict=True)
        }

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the inputs and operations with positive strengths; of too many or none the strongest."""
        return tuple(
            _subsets(size, most).index(likely(strengths_of(strengths, gate, size), least=1, most=most))
            for gate, (size, most) in zip(_gate_names(self), _sizes(self), strict=True)
        )


DIGITS = OneShotSpace(operations=("identity", "sep_3x3", "max_3x3"), blocks=3, cells_per_stage=1, filters=8)
"""Of a size for images of 8x8 pixels and a search on a processor."""


def _gate_names(space: OneShotSpace) -> list[str]:
    return [f"block{block}.{part}" for block in range(1, space.blocks + 1) for part in ("inputs", "operations")]


def _sizes(space: OneShotSpace) -> list[tuple[int, int]]:
    """Return of each choice how many there are to choose from, and how many may be chosen."""
    count = len(space.operations)
    return [
        size
        for block in range(space.blocks)
        for size in ((INPUTS + block, space.max_inputs), (count, space.max_operations))
    ]


@lru_cache(maxsize=256)
def _subsets(count: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Return the subsets of `range(count)` with one to `most` elements, small ones first."""
    return tuple(
        subset for size in range(1, min(count, most) + 1) for subset in itertools.combinations(range(count), size)
    )


@lru_cache(maxsize=64)
def _choices(space: OneShotSpace) -> tuple[Choice, ...]:
    choices: list[Choice] = []
    for number, (count, most) in enumerate(_sizes(space)):
        block = number // 2 + 1
        kind = "operations" if number % 2 else "inputs"
        names = space.operations if number % 2 else ("newer", "older", *(f"block {k}" for k in range(1, block)))
        options = tuple(JOIN.join(names[place] for place in subset) for subset in _subsets(count, most))
        choices.append(Choice(kind, options, block))
    return tuple(choices)


@lru_cache(maxsize=16)
def _supernet(space: OneShotSpace) -> Architecture:
    return _network(space, None)


def _network(space: OneShotSpace, gates: Mapping[str, Sequence[float]] | None) -> Architecture:
    return network(
        gates,
        blocks=space.blocks,
        operations=space.operations,
        cells_per_stage=space.cells_per_stage,
        filters=space.filters,
    )
