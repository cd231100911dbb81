"""What the spaces of recurrent cells of highway layers have in common: ENAS's and DARTS's (spec §6.3, §12.4)."""

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.highway_cells import ACTIVATIONS, Layer, motif
from child_trainer.field_types import check_types
from controller.decisions import Choice, InvalidTokens, Tokens, check_tokens
from controller.limits import check_number
from controller.spaces.genotypes import InvalidGenotype

MAX_LAYERS = 50
"""Upper bound for `layers`; a supernet of more takes minutes to build."""


@dataclass(frozen=True, kw_only=True)
class HighwaySpace(ABC):
    """Cells of highway layers, each with an earlier layer that it carries on and an activation."""

    layers: int
    """Layers that are searched, behind the first one, which reads the input and the last state."""
    activations: tuple[str, ...] = ACTIVATIONS
    """Activations that a layer may have: tanh, relu, sigmoid, identity."""

    def __post_init__(self) -> None:
        check_types(self)
        check_number(self, "layers", 1, MAX_LAYERS)
        names = self.activations
        if not names or not set(names) <= set(ACTIVATIONS) or len(set(names)) < len(names):
            raise ValueError(
                f"`activations` must be one or more different ones of {', '.join(ACTIVATIONS)}, got {names}"
            )

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, one step of a recurrent cell."""
        return "recurrent"

    @property
    def place_name(self) -> str:
        """What the places of its choices are, for people."""
        return "layer"

    def decisions(self, completed: int) -> tuple[Choice, ...]:
        """Return the choices of one layer after another: the layer that it carries on, then its activation.

        Layer 1 has layer 0 to carry on and nothing else.
        """
        return _choices(self.layers, self.activations)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in self.decisions(0)}

    def decisions_of(self, num_tokens: int) -> tuple[Choice, ...]:
        """Return the decisions, of which there is a single sequence."""
        choices = self.decisions(0)
        if num_tokens != len(choices):
            raise InvalidTokens(f"a cell of {self.layers} layers takes {len(choices)} tokens, got {num_tokens}")
        return choices

    def layers_of(self, tokens: Sequence[int]) -> list[Layer]:
        """Return the layers that the tokens encode.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        check_tokens(self.decisions_of(len(tokens)), tokens)
        rest = iter(tokens)
        return [
            Layer(next(rest) if number > 1 else 0, self.activations[next(rest)]) for number in range(1, self.layers + 1)
        ]

    def tokens_of(self, layers: Sequence[Layer]) -> Tokens:
        """Return the tokens that encode these layers.

        Raises:
            InvalidTokens: this space does not have them; the message says why.
        """
        if len(layers) != self.layers:
            raise InvalidTokens(f"the cells of this space have {self.layers} layers, got {len(layers)}")
        tokens: list[int] = []
        for number, layer in enumerate(layers, start=1):
            if not 0 <= layer.source < number or layer.activation not in self.activations:
                raise InvalidTokens(
                    f"layer {number} must carry on one of the layers 0 to {number - 1} with"
                    f" {' or '.join(self.activations)}, got {layer.activation} of layer {layer.source}"
                )
            tokens += [layer.source] * (number > 1) + [self.activations.index(layer.activation)]
        return tuple(tokens)

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the cell as a graph for people."""
        return {"cell": motif(self.layers_of(tokens))}

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the cell as text in the notations of DARTS's and of ENAS's code."""
        layers = self.layers_of(tokens)
        return {"DARTS": to_darts(layers), "ENAS": to_enas(layers)}

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate: yes."""
        return True

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the cell that the tokens encode; its output is the next h."""

    @abstractmethod
    def supernet(self) -> Architecture:
        """Return the cell with all options, mixed by gates."""

    @abstractmethod
    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gate vectors of a sample by name."""

    @abstractmethod
    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample that the strengths of the gates' inputs favour."""


@lru_cache(maxsize=64)
def _choices(layers: int, activations: tuple[str, ...]) -> tuple[Choice, ...]:
    choices: list[Choice] = []
    for number in range(1, layers + 1):
        choices += [Choice("source", tuple(range(number)), number)] * (number > 1)
        choices.append(Choice("activation", activations, number))
    return tuple(choices)


# --- Notations -----------------------------------------------------------------------------------------------------


def to_darts(layers: Sequence[Layer], output: Sequence[int] | None = None) -> str:
    """Return the layers as a `Genotype(...)` of DARTS's code for recurrent cells.

    Args:
        layers: from number 1.
        output: the numbers of the layers whose mean is the next state; default: all.
    """
    edges = ", ".join(f"('{layer.activation}', {layer.source})" for layer in layers)
    concat = f"range(1, {len(layers) + 1})" if output is None else list(output)
    return f"Genotype(recurrent=[{edges}], concat={concat})"


def from_darts(text: str) -> list[Layer]:
    """Return the layers of a `Genotype(...)` of DARTS's code for recurrent cells, whatever it concatenates.

    Raises:
        InvalidGenotype: it has no list of pairs of an activation and a number.
    """
    found = re.search(r"recurrent\s*=\s*(\[[^\]]*\])", text)
    try:
        edges = [(activation, source) for activation, source in ast.literal_eval(found[1] if found else "")]
    except (SyntaxError, TypeError, ValueError) as error:
        raise InvalidGenotype(
            f"a genotype of a recurrent cell has `recurrent`, a list of ('activation', layer), got {text!r}"
        ) from error
    return [_layer(number, source, activation) for number, (activation, source) in enumerate(edges, 1)]


def to_enas(layers: Sequence[Layer]) -> str:
    """Return the layers as an arc of ENAS's code: of each the layer that it carries on, and its activation's number."""
    return " ".join(f"{layer.source} {ACTIVATIONS.index(layer.activation)}" for layer in layers)


def from_enas(arc: str) -> list[Layer]:
    """Return the layers of an arc of ENAS's code.

    Raises:
        InvalidGenotype: it has not two numbers for each layer, or one that is out of range.
    """
    words = arc.split()
    if len(words) % 2 or not all(word.isdecimal() for word in words):
        raise InvalidGenotype(f"an arc has two numbers for each layer, got {arc!r}")
    numbers = [int(word) for word in words]
    if wrong := [number for number in numbers[1::2] if number >= len(ACTIVATIONS)]:
        raise InvalidGenotype(f"an activation of an arc is at most {len(ACTIVATIONS) - 1}, got {wrong[0]}")
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return [_layer(place, source, ACTIVATIONS[number]) for place, (source, number) in enumerate(pairs, 1)]


def _layer(number: int, source: object, activation: object) -> Layer:
    if not isinstance(source, int) or not 0 <= source < number or activation not in ACTIVATIONS:
        raise InvalidGenotype(
            f"layer {number} must carry on one of the layers 0 to {number - 1} with {' or '.join(ACTIVATIONS)}, got"
            f" {activation} of layer {source}"
        )
    return Layer(source, str(activation))
