"""Networks that are given, and ways to train them: the space of what comes after a search. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from child_trainer.architectures.architecture import Architecture, Kind, node
from child_trainer.field_types import check_types
from child_trainer.hyperparameters import HYPERPARAMETERS, with_hyperparameters
from child_trainer.outcome import Budget
from controller.decisions import Choice, Decisions, InvalidTokens, check_tokens
from controller.spaces.listed import decoded

EXAMPLE = Architecture(
    "feedforward",
    (
        node("first", "conv", "image", filters=16, height=3, width=3),
        node("second", "conv", "first", filters=32, height=3, width=3),
    ),
    ("second",),
)
"""The network of a space that is given none."""

ANY = Budget(epochs=10**9)
"""A budget that no setting contradicts: the run's own is not known here."""


@dataclass(frozen=True, kw_only=True)
class SettingsSpace:
    """Given networks with each combination of the values of some training settings (Zoph & Le 2017, section 4.1).

    A sample is a network, a value of each setting, and the number of a seed. It decodes to
    the network with these values as its hyperparameters, which go before the budget and the regime.

    Raises:
        ValueError: a network or a setting cannot be used; the message says which and why.
    """

    architectures: tuple[str, ...] = ()
    """The networks, each as JSON text like the `architecture` of `best --json`; unset: two convolutions, an example.
    `nascluster finish` takes the best ones of a run."""
    settings: tuple[str, ...] = (
        "learning-rate=0.2,0.1,0.05",
        "weight-decay=5e-5,1e-4,2e-4",
        "norm-epsilon=1e-3,1e-5",
        "decay-at=0.5,0.75",
    )
    """What is tried of each setting, as NAME=VALUE,VALUE (Zoph & Le 2017 name these four, without values). The settings
    are learning-rate, weight-decay, momentum, decay, decay-at, decay-every, warmup-epochs, clip-norm, label-smoothing,
    cutout, path-keep, auxiliary-weight, norm-epsilon, norm-momentum, rmsprop-decay, optimizer-epsilon, and of language
    models embedding-dropout and variational-dropout."""
    seeds: int = 1
    """Trainings of each network with each combination of settings, with different seeds."""

    def __post_init__(self) -> None:
        check_types(self)
        networks = self.networks
        if others := sorted({network.kind for network in networks} - {networks[0].kind}):
            raise ValueError(f"`architectures` must be of one kind, got {networks[0].kind} and {others[0]}")
        names = [name for name, _ in self.grid]
        if repeated := next((name for place, name in enumerate(names) if name in names[:place]), None):
            raise ValueError(f"`settings` must be different ones, got {_words(repeated)} twice")
        if self.seeds < 1:
            raise ValueError(f"`seeds` must be at least 1, got {self.seeds}")

    @property
    def networks(self) -> tuple[Architecture, ...]:
        """The networks."""
        return tuple(map(_network, self.architectures)) or (EXAMPLE,)

    @property
    def grid(self) -> tuple[tuple[str, tuple[float, ...]], ...]:
        """Each setting's name, with underscores, and its values."""
        return tuple(map(setting_of, self.settings))

    @property
    def kind(self) -> Kind:
        """The networks' kind."""
        return self.networks[0].kind

    def decisions(self, completed: int) -> Decisions:
        """Return the choices of the network, of each setting's value, and of the seed."""
        return (
            Choice("network", tuple(range(1, len(self.networks) + 1))),
            *(Choice(name, values) for name, values in self.grid),
            Choice("seed", tuple(range(1, self.seeds + 1))),
        )

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice."""
        return {choice.name: len(choice.options) for choice in self.decisions(0) if isinstance(choice, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the choices, which take a token each.

        Raises:
            InvalidTokens: there are not so many.
        """
        decisions = self.decisions(0)
        if num_tokens != len(decisions):
            raise InvalidTokens(f"expected {len(decisions)} tokens, got {num_tokens}")
        return decisions

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network with the settings' values as its hyperparameters.

        Raises:
            InvalidTokens: the tokens are no sample.
        """
        check_tokens(self.decisions(0), tokens)
        network = self.networks[tokens[0]]
        own = dict(network.hyperparameters) | self.settings_of(tokens)
        return replace(network, hyperparameters=tuple(sorted(own.items())))

    def settings_of(self, tokens: Sequence[int]) -> dict[str, float]:
        """Return the value of each setting in a sample, by the setting's name."""
        return {name: values[token] for (name, values), token in zip(self.grid, tokens[1:-1], strict=True)}


@lru_cache(maxsize=1024)
def setting_of(text: str) -> tuple[str, tuple[float, ...]]:
    """Return the name, with underscores, and the values of a setting written as `learning-rate=0.2,0.1`.

    Raises:
        ValueError: it is no such text, there is no such setting, or a value is impossible or given twice.
    """
    word, equals, rest = text.partition("=")
    name = word.strip().replace("-", "_")
    if not equals or not rest.strip():
        raise ValueError(f"a setting must be written as NAME=VALUE,VALUE, such as learning-rate=0.2,0.1, got {text!r}")
    if name not in HYPERPARAMETERS:
        raise ValueError(f"there is no setting {word!r}; the settings are {', '.join(map(_words, HYPERPARAMETERS))}")
    values: list[float] = []
    for part in rest.split(","):
        try:
            value = float(part)
        except ValueError:
            raise ValueError(f"the values of the setting {_words(name)} must be numbers, got {part!r}") from None
        try:
            with_hyperparameters(ANY, {name: value})
        except (ValueError, OverflowError) as error:
            raise ValueError(f"the setting {_words(name)} cannot be {part.strip()}: {error}") from error
        if value in values:
            raise ValueError(f"the values of the setting {_words(name)} must be different ones, got {part} twice")
        values.append(value)
    return name, tuple(values)


def _network(text: str) -> Architecture:
    try:
        return decoded(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`architectures` must be networks as JSON text: {error}") from error


def _words(name: str) -> str:
    """Return a setting's name as it is typed."""
    return name.replace("_", "-")
