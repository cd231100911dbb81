"""ENAS's macro space (Pham et al. 2018, arXiv 1802.03268, section 2.3; spec §6.1): an operation and skips per layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.enas_macro import OPERATIONS, Layer, final_network, motif, search_network
from child_trainer.field_types import check_types
from controller.decisions import Choice, Decision, Decisions, InvalidTokens, Subset, Tokens, check_tokens, offsets
from controller.spaces.supernet import Network, check_searches, one_hot, some_hot, strengths_of, strongest

LEAST_LAYERS = 3
"""A network is halved behind a third and behind two thirds of its layers."""


@dataclass(frozen=True, kw_only=True)
class EnasMacroSpace:
    """The operation of each layer, and the earlier layers that are added to it."""

    layers: int = 12
    """Layers; the image is halved behind a third and behind two thirds of them."""
    operations: tuple[str, ...] = OPERATIONS
    """Operations that a layer may have."""
    filters: int = 36
    """Filters of each layer; in final networks of the first ones, and twice as many behind each halving."""
    network: Network = "search"
    """search: layers are added to each other, so that networks can share weights; final: they are concatenated."""

    def __post_init__(self) -> None:
        check_types(self)
        names = self.operations
        if not names or not set(names) <= set(OPERATIONS) or len(set(names)) < len(names):
            raise ValueError(f"`operations` must be one or more different ones of {', '.join(OPERATIONS)}, got {names}")
        for name, least in (("layers", LEAST_LAYERS), ("filters", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    def decisions(self, completed: int) -> Decisions:
        """Return the choices of one layer after another; they are the same throughout a search.

        The skips of a layer are a bit for the stem and for each layer but the one before, which the operation reads.
        """
        return _decisions(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each layer's operation, by the choice's name."""
        return {d.name: len(d.options) for d in _decisions(self) if isinstance(d, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decisions, of which there is a single sequence."""
        expected = offsets(_decisions(self))[-1]
        if num_tokens != expected:
            raise InvalidTokens(f"{self.layers} layers take {expected} tokens, got {num_tokens}")
        return _decisions(self)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the layers that the tokens encode."""
        if self.network == "final":
            return final_network(self.layers_of(tokens), filters=self.filters)
        return _searched(self, self.gates(tokens))

    def layers_of(self, tokens: Sequence[int]) -> list[Layer]:
        """Return the layers that the tokens encode.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        check_tokens(self.decisions_of(len(tokens)), tokens)
        layers: list[Layer] = []
        rest = iter(tokens)
        for number in range(self.layers):
            operation = self.operations[next(rest)]
            layers.append(Layer(operation, tuple(skip for skip in range(number) if next(rest))))
        return layers

    def tokens_of(self, arc: str) -> Tokens:
        """Return the tokens of an arc of ENAS's code, which `genotypes` writes.

        It has a line for each layer: the operation's number and a bit for each skip.

        Raises:
            InvalidTokens: it has other numbers, or more or fewer layers.
        """
        words = arc.split()
        if wrong := next((word for word in words if not word.isdecimal()), None):
            raise InvalidTokens(f"an arc is whole numbers, got {wrong!r}")
        tokens: list[int] = []
        decisions = self.decisions_of(len(words))
        for decision, start in zip(decisions, offsets(decisions), strict=False):
            numbers = [int(word) for word in words[start : start + decision.width]]
            tokens += [self._place(number) for number in numbers] if isinstance(decision, Choice) else numbers
        check_tokens(decisions, tokens)
        return tuple(tokens)

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the arc in the notation of ENAS's code, which `tokens_of` reads."""
        lines = [
            " ".join(map(str, [OPERATIONS.index(layer.operation), *(int(k in layer.skips) for k in range(number))]))
            for number, layer in enumerate(self.layers_of(tokens))
        ]
        return {"ENAS": "\n".join(lines)}

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the layers and their connections as a graph for people."""
        return {"layers": motif(self.layers_of(tokens))}

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: no, it may have any skips."""
        return False

    def supernet(self) -> Architecture:
        """Return the network in which each layer has all operations and skips.

        Raises:
            ValueError: the space has final networks, which share no weights.
        """
        check_searches(self.network)
        return _supernet(self)

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return each layer's gates: its operation, and a number for each skip."""
        gates: dict[str, tuple[float, ...]] = {}
        for number, layer in enumerate(self.layers_of(tokens), start=1):
            gates[f"layer{number}.operation"] = one_hot(self.operations.index(layer.operation), len(self.operations))
            if number > 1:
                gates[f"layer{number}.skips"] = some_hot(layer.skips, number - 1)
        return gates

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample of the strongest operations and of the skips with a positive strength."""
        tokens: list[int] = []
        for number in range(1, self.layers + 1):
            tokens.append(strongest(strengths_of(strengths, f"layer{number}.operation", len(self.operations))))
            if number > 1:
                skips = strengths_of(strengths, f"layer{number}.skips", number - 1)
                tokens += [int(strength > 0) for strength in skips]
        return tuple(tokens)

    def _place(self, number: int) -> int:
        """Return the token of the operation with this number in ENAS's code."""
        if number >= len(OPERATIONS) or OPERATIONS[number] not in self.operations:
            known = ", ".join(f"{OPERATIONS.index(operation)} ({operation})" for operation in self.operations)
            raise InvalidTokens(f"the operations of this space are {known}, got {number}")
        return self.operations.index(OPERATIONS[number])


DIGITS = EnasMacroSpace(layers=4, operations=("conv_3x3", "sep_3x3", "max_3x3"), filters=8)
"""Of a size for images of 8x8 pixels and a search on a processor."""


@lru_cache(maxsize=64)
def _decisions(space: EnasMacroSpace) -> Decisions:
    decisions: list[Decision] = []
    for number in range(1, space.layers + 1):
        decisions.append(Choice("operation", space.operations, number))
        decisions.append(Subset("skip", number - 1))
    return tuple(decisions)


@lru_cache(maxsize=16)
def _supernet(space: EnasMacroSpace) -> Architecture:
    return _searched(space, None)


def _searched(space: EnasMacroSpace, gates: Mapping[str, Sequence[float]] | None) -> Architecture:
    return search_network(gates, layers=space.layers, operations=space.operations, filters=space.filters)
