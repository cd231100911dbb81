"""Checks a space of the user's own, with its optional methods, before anything starts. Standard library only."""

import random
from collections.abc import Mapping

from child_trainer.architectures.architecture import Architecture
from child_trainer.field_types import shown
from child_trainer.own_calls import failures_of
from child_trainer.own_files import OwnFileError
from controller.decisions import Choice, Decisions, Tokens, uniform
from controller.space import DrawsFirst, HasGenotypes, HasMotifs, HasStates, Mutates, SearchSpace

SAMPLES = 8
"""Random samples that are decoded."""


def check_space(name: str, space: SearchSpace) -> None:
    """Make sure that a space of the user's own decodes samples of its decisions, and that its optional methods work.

    Raises:
        OwnFileError: it does not; the message says what it did.
    """
    with failures_of(name, "decisions", "decode"):
        decisions = space.decisions(0)
        samples = [uniform(decisions, random.Random(seed)) for seed in range(SAMPLES)]
        architectures: list[object] = [space.decode(tokens) for tokens in samples]
    for architecture in architectures:
        _check_architecture(name, space, architecture)
    _check_decisions(name, space, decisions, len(samples[0]))
    _check_samples(name, space, samples[0])
    _check_parts(name, space, samples[0])
    place: object = getattr(space, "place_name", "")
    if not isinstance(place, str):
        raise OwnFileError(f"{name}: `place_name` must be a text, got {shown(place)}")


def _check_architecture(name: str, space: SearchSpace, architecture: object) -> None:
    if not isinstance(architecture, Architecture):
        raise OwnFileError(f"{name}: `decode` must return an Architecture, got {type(architecture).__name__}")
    if architecture.kind != space.kind:
        raise OwnFileError(
            f"{name}: `kind` is {space.kind!r}, and `decode` returned a {architecture.kind} architecture"
        )


def _check_decisions(name: str, space: SearchSpace, decisions: Decisions, tokens: int) -> None:
    with failures_of(name, "decisions_of", "choice_sizes"):
        again, sizes = space.decisions_of(tokens), space.choice_sizes()
    if tuple(again) != tuple(decisions):
        raise OwnFileError(f"{name}: `decisions_of({tokens})` must return the decisions that take so many tokens")
    choices = {choice.name: len(choice.options) for choice in decisions if isinstance(choice, Choice)}
    if wrong := next((choice for choice, size in choices.items() if sizes.get(choice) != size), None):
        raise OwnFileError(f"{name}: `choice_sizes` must have {wrong!r} with {choices[wrong]} options")


def _check_samples(name: str, space: SearchSpace, tokens: Tokens) -> None:
    """Check the methods that return samples."""
    if isinstance(space, DrawsFirst):
        with failures_of(name, "first"):
            _check_sample(name, "first", space, space.first(0, random.Random(0)))
    if isinstance(space, Mutates):
        with failures_of(name, "mutate"):
            _check_sample(name, "mutate", space, space.mutate(tokens, random.Random(0)))


def _check_sample(name: str, method: str, space: SearchSpace, tokens: object) -> None:
    if not isinstance(tokens, tuple) or not all(type(token) is int for token in tokens):
        raise OwnFileError(f"{name}: `{method}` must return a tuple of int, got {shown(tokens)}")
    space.decode(tokens)


def _check_parts(name: str, space: SearchSpace, tokens: Tokens) -> None:
    """Check the methods that the displays and tabular searchers call."""
    if isinstance(space, HasMotifs):
        with failures_of(name, "motifs"):
            _check_named(name, "motifs", space.motifs(tokens), Architecture)
    if isinstance(space, HasGenotypes):
        with failures_of(name, "genotypes"):
            _check_named(name, "genotypes", space.genotypes(tokens), str)
    if isinstance(space, HasStates):
        with failures_of(name, "state"):
            hash(space.state(()))


def _check_named(name: str, method: str, values: object, of: type) -> None:
    if not isinstance(values, Mapping) or not all(
        isinstance(key, str) and isinstance(value, of) for key, value in values.items()
    ):
        what = "text" if of is str else of.__name__
        raise OwnFileError(f"{name}: `{method}` must return a mapping of name to {what}, got {shown(values)}")
