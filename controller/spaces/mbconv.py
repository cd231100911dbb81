"""The space of mobile inverted bottlenecks of ProxylessNAS (Cai et al. 2019, arXiv 1812.00332; spec §14)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.mobile import Block, Bottleneck, Ends, blocks_of, motif, network
from child_trainer.field_types import check_types
from controller.decisions import Choice, InvalidTokens, Tokens, check_tokens
from controller.spaces.supernet import one_hot, strengths_of, strongest

SKIP = "skip"
"""The option of a block that keeps the shape to be left out (the code's `Zero` beside an identity)."""


@dataclass(frozen=True, kw_only=True)
class MbconvSpace:
    """The kernel and the expansion of each mobile inverted bottleneck; a block that keeps the shape may be skipped."""

    widths: tuple[int, ...] = (24, 40, 80, 96, 192, 320)
    """Filters of each stage's blocks."""
    blocks: tuple[int, ...] = (4, 4, 4, 4, 4, 1)
    """Blocks of each stage, skipped ones included."""
    strides: tuple[int, ...] = (2, 2, 2, 1, 2, 1)
    """Stride of each stage's first block."""
    kernels: tuple[int, ...] = (3, 5, 7)
    """Heights and widths that a depthwise convolution may have."""
    expansions: tuple[int, ...] = (3, 6)
    """Factors by which a bottleneck may expand the channels."""
    stem_filters: int = 32
    """Filters of the first 3x3 convolution."""
    stem_stride: int = 2
    """Stride of the first 3x3 convolution (images of 224x224: 2, smaller ones: 1)."""
    first_filters: int = 16
    """Filters of the first bottleneck, which is fixed: it has a 3x3 kernel and expands nothing."""
    last_filters: int = 1280
    """Filters of the 1x1 convolution behind the blocks."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("widths", "blocks", "strides", "kernels", "expansions"):
            numbers = getattr(self, name)
            if not numbers or min(numbers) < 1:
                raise ValueError(f"`{name}` must be one or more numbers, each at least 1, got {numbers}")
        for name in ("kernels", "expansions"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"`{name}` must be different numbers, got {getattr(self, name)}")
        for name in ("blocks", "strides"):
            if len(getattr(self, name)) != len(self.widths):
                raise ValueError(
                    f"`{name}` must have as many numbers as `widths`, {len(self.widths)}, got {getattr(self, name)}"
                )
        for name in ("stem_filters", "stem_stride", "first_filters", "last_filters"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    @property
    def place_name(self) -> str:
        """What the places of its choices are, for people."""
        return "block"

    def decisions(self, completed: int) -> tuple[Choice, ...]:
        """Return the choice of each block; they are the same throughout a search."""
        return _choices(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each block, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self)}

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions, which take a token for each block."""
        if num_tokens != len(_choices(self)):
            raise InvalidTokens(f"the blocks of this space take {len(_choices(self))} tokens, got {num_tokens}")
        return _choices(self)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the bottlenecks that the tokens encode."""
        return _network(self, self.gates(tokens))

    def tokens_of(self, genotype: str) -> Tokens:
        """Return the tokens of blocks such as `k5e3 k3e3 | k7e3 skip`, which `genotypes` writes.

        A stage's blocks are by kernel and expansion; those that are missing at its end are skipped.

        Raises:
            InvalidTokens: it has another number of stages, more blocks in a stage, or a block has no such option.
        """
        stages = [stage.split() for stage in genotype.split("|")]
        if len(stages) != len(self.blocks):
            raise InvalidTokens(f"a genotype of this space has {len(self.blocks)} stages, got {len(stages)}")
        words: list[str] = []
        for number, (stage, count) in enumerate(zip(stages, self.blocks, strict=True), start=1):
            if len(stage) > count:
                raise InvalidTokens(f"stage {number} has at most {count} blocks, got {len(stage)}: {' '.join(stage)}")
            words += [*stage, *[SKIP] * (count - len(stage))]
        for number, (word, choice) in enumerate(zip(words, _choices(self), strict=True), start=1):
            if word not in choice.options:
                raise InvalidTokens(f"block {number} must be one of {' '.join(map(str, choice.options))}, got {word!r}")
        return tuple(choice.options.index(word) for word, choice in zip(words, _choices(self), strict=True))

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the blocks in the notation that `tokens_of` reads."""
        rest = iter(self._options(tokens))
        stages = [" ".join(itertools.islice(rest, count)) for count in self.blocks]
        return {"ProxylessNAS": " | ".join(stages)}

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the blocks as a chain for people, without those that are skipped."""
        known = {b.text: b for b in _bottlenecks(self)}
        chosen = [known.get(option) for option in self._options(tokens)]
        return {"blocks": motif(list(zip(_blocks(self), chosen, strict=True)))}

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: a block has one option."""
        return True

    def supernet(self) -> Architecture:
        """Return the network in which each block has all options."""
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gate of each block."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        return {
            f"block{choice.place}": one_hot(token, len(choice.options))
            for token, choice in zip(tokens, _choices(self), strict=True)
        }

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the strongest option of each block."""
        return tuple(
            strongest(strengths_of(strengths, f"block{choice.place}", len(choice.options))) for choice in _choices(self)
        )

    def _options(self, tokens: Sequence[int]) -> list[str]:
        check_tokens(self.decisions_of(len(tokens)), tokens)
        return [str(choice.options[token]) for token, choice in zip(tokens, _choices(self), strict=True)]


DIGITS = MbconvSpace(
    widths=(8, 16, 24),
    blocks=(2, 2, 2),
    strides=(1, 2, 1),
    kernels=(3, 5),
    stem_filters=8,
    stem_stride=1,
    first_filters=8,
    last_filters=64,
)
"""Of a size for images of 8x8 pixels and a search on a processor."""


@lru_cache(maxsize=64)
def _blocks(space: MbconvSpace) -> tuple[Block, ...]:
    return tuple(blocks_of(space.first_filters, space.widths, space.blocks, space.strides))


@lru_cache(maxsize=64)
def _bottlenecks(space: MbconvSpace) -> tuple[Bottleneck, ...]:
    """Return the bottlenecks in the order of the published code."""
    return tuple(itertools.starmap(Bottleneck, itertools.product(space.kernels, space.expansions)))


@lru_cache(maxsize=64)
def _choices(space: MbconvSpace) -> tuple[Choice, ...]:
    bottlenecks = tuple(b.text for b in _bottlenecks(space))
    return tuple(
        Choice("block", (*bottlenecks, SKIP) if block.keeps_shape else bottlenecks, number)
        for number, block in enumerate(_blocks(space), start=1)
    )


@lru_cache(maxsize=16)
def _supernet(space: MbconvSpace) -> Architecture:
    return _network(space, None)


def _network(space: MbconvSpace, gates: Mapping[str, Sequence[float]] | None) -> Architecture:
    ends = Ends(space.stem_filters, space.stem_stride, space.first_filters, space.last_filters)
    return network(gates, blocks=_blocks(space), bottlenecks=_bottlenecks(space), ends=ends)
