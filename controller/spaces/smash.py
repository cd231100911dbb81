"""SMASH's space of memory banks (Brock et al. 2018, arXiv 1708.05344, section 3.1; spec §10)."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.memory_banks import JOINS, STAGES, BankLayer, Convolution, motif, network
from child_trainer.field_types import check_types
from controller.decisions import Choice, InvalidTokens, Tokens, check_tokens
from controller.spaces.supernet import likely, one_hot, some_hot, strengths_of, strongest

MAX_BANKS = 6
"""Upper bound on the banks of a stage: a layer chooses among all their subsets but the empty one."""


@dataclass(frozen=True, kw_only=True)
class SmashSpace:
    """The banks that each layer reads and writes, and its convolutions; all networks can share weights."""

    layers_per_stage: int = 4
    """Layers in each of the three stages."""
    banks: int = 4
    """Memory banks of each stage."""
    bank_channels: int = 8
    """Channels of a bank in the first stage, doubled for each later one."""
    units: int = 32
    """Channels inside a layer, which each number of groups divides."""
    kernels: tuple[int, ...] = (3, 5, 7)
    """Heights and widths that a layer's convolutions may have."""
    dilations: tuple[int, ...] = (1, 2, 3)
    """Dilations that they may have."""
    groups: tuple[int, ...] = (1, 2, 4, 8)
    """Groups of channels that they may have."""
    joins: tuple[str, ...] = JOINS
    """What may join a layer's two convolutions: none has only one; add, or multiply, which gates one by the other."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("layers_per_stage", "banks", "bank_channels", "units"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if self.banks > MAX_BANKS:
            raise ValueError(f"`banks` must be at most {MAX_BANKS}, got {self.banks}")
        for name in ("kernels", "dilations", "groups"):
            numbers = getattr(self, name)
            if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
                raise ValueError(f"`{name}` must be one or more different numbers, each at least 1, got {numbers}")
        if min(self.kernels) < 2:
            raise ValueError(
                f"`kernels` must each be at least 2, as 1x1 convolutions read and write, got {self.kernels}"
            )
        if wrong := next((number for number in self.groups if self.units % number), None):
            raise ValueError(
                f"`units` must be a multiple of each of `groups`, got {self.units} units and {wrong} groups"
            )
        if not self.joins or not set(self.joins) <= set(JOINS) or len(set(self.joins)) < len(self.joins):
            raise ValueError(f"`joins` must be one or more different ones of {', '.join(JOINS)}, got {self.joins}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    def decisions(self, completed: int) -> tuple[Choice, ...]:
        """Return the choices of one layer after another: what it reads, convolves, joins and writes."""
        return _choices(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self)}

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions, which take four tokens for each layer."""
        expected = len(_choices(self))
        if num_tokens != expected:
            raise InvalidTokens(f"the layers of this space take {expected} tokens, got {num_tokens}")
        return _choices(self)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the layers that the tokens encode."""
        return _network(self, self.gates(tokens))

    def layers_of(self, tokens: Sequence[int]) -> list[BankLayer]:
        """Return the layers that the tokens encode.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        check_tokens(self.decisions_of(len(tokens)), tokens)
        subsets, convolutions = _subsets(self.banks), _convolutions(self)
        return [
            BankLayer(subsets[reads], convolutions[convolution], self.joins[join], subsets[writes])
            for reads, convolution, join, writes in zip(*(tokens[part::4] for part in range(4)), strict=True)
        ]

    def tokens_of(self, genotype: str) -> Tokens:
        """Return the tokens of layers as `genotypes` writes them: a line for each, such as `1+3 k5d2g4 multiply 2`.

        Raises:
            InvalidTokens: it has another number of layers, or a layer has other banks or convolutions.
        """
        words = re.split(r"\s+", genotype.strip())
        tokens: list[int] = []
        for word, choice in zip(words, self.decisions_of(len(words)), strict=True):
            if word not in choice.options:
                options = ", ".join(map(str, choice.options))
                raise InvalidTokens(f"the {choice.kind} of layer {choice.place} must be one of {options}, got {word!r}")
            tokens.append(choice.options.index(word))
        return tuple(tokens)

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the layers as text that `tokens_of` reads: banks read, convolution, join, banks written."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        words = [str(choice.options[token]) for choice, token in zip(_choices(self), tokens, strict=True)]
        return {"SMASH": "\n".join(" ".join(words[start : start + 4]) for start in range(0, len(words), 4))}

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the layers of each stage as a graph for people."""
        layers, count = self.layers_of(tokens), self.layers_per_stage
        return {
            f"stage {stage + 1}": motif(layers[stage * count : (stage + 1) * count], self.banks)
            for stage in range(STAGES)
        }

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: no, a layer may read several banks."""
        return False

    def supernet(self) -> Architecture:
        """Return the network in which each layer reads and writes all banks, by all convolutions."""
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gates of each layer; those of `write` have a single number for each bank."""
        gates: dict[str, tuple[float, ...]] = {}
        convolutions = _convolutions(self)
        for number, layer in enumerate(self.layers_of(tokens), start=1):
            name = f"layer{number}"
            gates[f"{name}.reads"] = some_hot(layer.reads, self.banks)
            gates[f"{name}.convolution"] = one_hot(convolutions.index(layer.convolution), len(convolutions))
            gates[f"{name}.join"] = one_hot(self.joins.index(layer.join), len(self.joins))
            gates |= {f"{name}.write{bank + 1}": (float(bank in layer.writes),) for bank in range(self.banks)}
        return gates

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the strongest convolutions and joins, and of the banks with positive strengths.

        Where none is positive, the strongest bank is read or written.
        """
        return tuple(
            itertools.chain.from_iterable(
                self._derived(strengths, f"layer{number}") for number in range(1, STAGES * self.layers_per_stage + 1)
            )
        )

    def _derived(self, strengths: Mapping[str, Sequence[float]], layer: str) -> Iterator[int]:
        subsets = _subsets(self.banks)
        yield subsets.index(likely(strengths_of(strengths, f"{layer}.reads", self.banks), least=1))
        yield strongest(strengths_of(strengths, f"{layer}.convolution", len(_convolutions(self))))
        yield strongest(strengths_of(strengths, f"{layer}.join", len(self.joins)))
        writes = [strengths_of(strengths, f"{layer}.write{bank + 1}", 1)[0] for bank in range(self.banks)]
        yield subsets.index(likely(writes, least=1))


DIGITS = SmashSpace(
    layers_per_stage=2, banks=3, bank_channels=4, units=8, kernels=(3,), dilations=(1, 2), groups=(1, 2)
)
"""Of a size for images of 8x8 pixels and a search on a processor."""


@lru_cache(maxsize=64)
def _subsets(banks: int) -> tuple[tuple[int, ...], ...]:
    """Return all sets of banks but the empty one, small ones first."""
    return tuple(subset for size in range(1, banks + 1) for subset in itertools.combinations(range(banks), size))


@lru_cache(maxsize=64)
def _convolutions(space: SmashSpace) -> tuple[Convolution, ...]:
    options = itertools.product(space.kernels, space.dilations, space.groups)
    return tuple(itertools.starmap(Convolution, options))


@lru_cache(maxsize=64)
def _choices(space: SmashSpace) -> tuple[Choice, ...]:
    banks = tuple("+".join(str(bank + 1) for bank in subset) for subset in _subsets(space.banks))
    convolutions = tuple(option.text for option in _convolutions(space))
    return tuple(
        choice
        for layer in range(1, STAGES * space.layers_per_stage + 1)
        for choice in (
            Choice("reads", banks, layer),
            Choice("convolution", convolutions, layer),
            Choice("join", space.joins, layer),
            Choice("writes", banks, layer),
        )
    )


@lru_cache(maxsize=16)
def _supernet(space: SmashSpace) -> Architecture:
    return _network(space, None)


def _network(space: SmashSpace, gates: Mapping[str, Sequence[float]] | None) -> Architecture:
    return network(
        gates,
        layers_per_stage=space.layers_per_stage,
        convolutions=_convolutions(space),
        joins=space.joins,
        banks=space.banks,
        bank_channels=space.bank_channels,
        units=space.units,
    )
