"""A searcher of the user's own with every answer checked, before a run and in it. Imports no torch."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.field_types import shown
from child_trainer.own_calls import failure_text, failures_of, is_finite_number, method_that_failed
from child_trainer.own_files import OwnFileError
from controller.catalogue import Figure
from controller.decisions import InvalidTokens
from controller.searcher import PREDICTED, ChildRecord, ParameterGroup, Proposal, Searcher, Update, View
from controller.space import SearchSpace

PARENTS = ("parent", "other_parent")
"""The keys of a child's notes that the displays take for ids of children."""

TEXTS = ("change", "source")
"""The keys of a child's notes that the displays take for texts."""


class OnOwnSpace:
    """A searcher on a space of the user's own: an error in the space names it and its method.

    All that is optional for searchers is the searcher's own.

    Args:
        searcher: of any kind.
        name: of the space, for messages.
        space: the user's own.
    """

    def __init__(self, searcher: Searcher, name: str, space: SearchSpace) -> None:
        self._searcher, self._name, self._space = searcher, name, space

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the searcher's parameters."""
        with self._named():
            return self._searcher.parameters(seed)

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return the searcher's proposals."""
        with self._named():
            return self._searcher.ask(n, view)

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the searcher's update."""
        with self._named():
            return self._searcher.learn(children, view)

    def __getattr__(self, name: str) -> Any:
        # Only for what is not found here: the optional attributes and methods of `controller.searcher`.
        if name.startswith("__") or "_searcher" not in vars(self):
            raise AttributeError(name)
        return getattr(self._searcher, name)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, InvalidTokens, InvalidArchitecture):
            raise  # Ctrl-C, or what a space says of tokens that are none of its samples
        except BaseException as error:
            cause = error.__cause__ if isinstance(error, OwnFileError) and error.__cause__ else error
            if isinstance(cause, InvalidTokens | InvalidArchitecture):
                raise
            if method := method_that_failed(self._space, cause):
                raise OwnFileError(failure_text(self._name, cause, method)) from cause
            raise


class CheckedSearcher:
    """A searcher whose errors name it and the method, and whose answers are as `controller.searcher` wants them.

    All that is optional for searchers is the searcher's own.

    Args:
        name: of the searcher, for messages.
        searcher: the user's own.
        space: of the searcher.
        figures: those that the searcher lists.
    """

    def __init__(self, name: str, searcher: Searcher, space: SearchSpace, figures: Sequence[Figure]) -> None:
        self._name, self._searcher, self._space = name, searcher, space
        self._figures = frozenset(figure.name for figure in figures)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the searcher's parameters."""
        with failures_of(self._name, "parameters"):
            groups: object = self._searcher.parameters(seed)
            if not isinstance(groups, tuple | list):
                raise self._wrong("`parameters` must return a tuple of ParameterGroup", groups)
        names: set[str] = set()
        for group in groups:
            if not isinstance(group, ParameterGroup):
                raise self._wrong("`parameters` must return a tuple of ParameterGroup; one of it is", group)
            self._check_group(group, names)
        return tuple(groups)

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return the searcher's proposals."""
        proposals: object = self._call("ask", view, lambda seen: self._searcher.ask(n, seen))
        if not isinstance(proposals, Sequence):
            raise self._error(f"`ask` must return a list of Proposal, got {type(proposals).__name__}")
        for item in proposals:
            if not isinstance(item, Proposal):
                raise self._error(f"`ask` must return a list of Proposal, got a list with a {type(item).__name__}")
        if len(proposals) > n:
            number = "1 proposal" if n == 1 else f"at most {n} proposals"
            raise self._error(f"`ask` must return {number}, got {len(proposals)}")
        for proposal in proposals:
            self._check_proposal(proposal, view)
        return list(proposals)

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the searcher's update."""
        update: object = self._call("learn", view, lambda seen: self._searcher.learn(children, seen))
        if not isinstance(update, Update):
            raise self._error(f"`learn` must return an Update, got {type(update).__name__}")
        for what, values in (("gradients", update.gradients), ("figures", update.figures)):
            if not isinstance(values, Mapping):
                raise self._wrong(f"the `{what}` of an Update must be a mapping by name", values)
        self._check_gradients(update.gradients, view.parameters)
        self._check_figures(update.figures)
        return update

    def __getattr__(self, name: str) -> Any:
        # Only for what is not found here: the optional attributes and methods of `controller.searcher`.
        if name.startswith("__") or "_searcher" not in vars(self):
            raise AttributeError(name)
        value = getattr(self._searcher, name)
        if not callable(value):
            return value

        def method(view: View) -> Any:
            found = self._call(name, view, value)
            if name == "stop_reason" and not isinstance(found, str):
                raise self._wrong("`stop_reason` must return a text, empty as long as the search goes on", found)
            if name == "keeps" and not (
                isinstance(found, frozenset | set) and all(type(child) is int for child in found)
            ):
                raise self._wrong("`keeps` must return a frozenset of ids of children", found)
            return found

        return method

    def _call(self, method: str, view: View, call: Callable[[View], Any]) -> Any:
        """Call a method; an error in reading the run is none of the searcher's, and is raised as it is."""
        outside: list[BaseException] = []

        def watched(read: Callable[[], Sequence[ChildRecord]]) -> Callable[[], Sequence[ChildRecord]]:
            def children() -> Sequence[ChildRecord]:
                try:
                    return read()
                except BaseException as error:
                    outside.append(error)
                    raise

            return children

        seen = replace(view, history=watched(view.history), pending=watched(view.pending))
        try:
            return call(seen)
        except (OwnFileError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if error in outside:
                raise
            raise OwnFileError(failure_text(self._name, error, method)) from error

    def _check_group(self, group: ParameterGroup, names: set[str]) -> None:
        if not isinstance(group.values, Mapping):
            raise self._wrong("the `values` of a ParameterGroup must be tensors by name", group.values)
        if not isinstance(group.options, Mapping):
            raise self._wrong("the `options` of a ParameterGroup must be settings by name", group.options)
        for name, value in group.values.items():
            if not isinstance(name, str) or name in names:
                raise self._wrong("the names of tensors must be texts, each once", name)
            names.add(name)
            if text := _not_a_tensor(value):
                raise self._error(f"the tensor {name!r} of `parameters` must be a float32 tensor, got {text}")
            if not bool(value.isfinite().all()):
                raise self._error(f"the tensor {name!r} of `parameters` must be finite, and has NaN or infinity")

    def _check_proposal(self, proposal: Proposal, view: View) -> None:
        tokens, architecture = proposal.tokens, proposal.architecture
        if not isinstance(tokens, tuple):
            raise self._wrong("the `tokens` of a Proposal must be a tuple of int", tokens)
        for token in tokens:
            if type(token) is not int:
                what = f"{shown(token)}, of type {type(token).__name__}"
                raise self._error(f"the `tokens` of a Proposal must be a tuple of int, got one with {what}")
        if architecture is not None and not isinstance(architecture, Architecture):
            raise self._wrong("the `architecture` of a Proposal must be an Architecture", architecture)
        if architecture is not None:
            self._check_decoded(tokens, architecture)
        if proposal.log_prob is not None and not is_finite_number(proposal.log_prob):
            raise self._wrong("the `log_prob` of a Proposal must be a finite number or None", proposal.log_prob)
        self._check_notes(proposal.notes, view)
        self._check_same_as(proposal, view)

    def _check_decoded(self, tokens: tuple[int, ...], architecture: Architecture) -> None:
        """Make sure that the tokens are those of the architecture: displays and a replay decode them again."""
        try:
            decoded = self._space.decode(tokens)
        except (InvalidTokens, InvalidArchitecture) as error:
            rule = "the space must decode the `tokens` of a Proposal"
            raise self._error(f"{rule}, got {shown(tokens)}: {error}") from error
        if decoded.id != architecture.id:
            raise self._error(
                f"the space must decode the `tokens` of a Proposal to its `architecture`, got {shown(tokens)}, which"
                f" it decodes to {decoded.id}, with {architecture.id}"
            )

    def _check_notes(self, notes: object, view: View) -> None:
        if not isinstance(notes, Mapping) or not _is_json(notes):
            raise self._wrong("the `notes` of a Proposal must be JSON and equal to what is read back", notes)
        for key in PARENTS:
            if (parent := notes.get(key)) is not None and not _is_child(parent, view):
                raise self._wrong(f"the note {key!r} of a Proposal must be the id of a child of the view", parent)
        if (predicted := notes.get(PREDICTED)) is not None and not is_finite_number(predicted):
            raise self._wrong(f"the note {PREDICTED!r} of a Proposal must be a finite number", predicted)
        for key in TEXTS:
            if (text := notes.get(key)) is not None and not isinstance(text, str):
                raise self._wrong(f"the note {key!r} of a Proposal must be a text", text)

    def _check_same_as(self, proposal: Proposal, view: View) -> None:
        if (same := proposal.same_as) is None:
            return
        ended = {child.id: child.architecture_id for child in view.history()} if type(same) is int else {}
        if same not in ended or ended[same] != proposal.architecture_id:
            raise self._wrong(
                "`same_as` of a Proposal must be the id of an ended child with the same architecture", same
            )

    def _check_gradients(self, gradients: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        for name, gradient in gradients.items():
            if name not in parameters:
                raise self._error(f"`learn` returned a gradient for {name!r}, which `parameters` does not have")
            where = f"the gradient for {name!r} that `learn` returns must be"
            if text := _not_a_tensor(gradient):
                raise self._error(f"{where} a float32 tensor, got {text}")
            if gradient.shape != parameters[name].shape:
                wanted, got = (tuple(value.shape) for value in (parameters[name], gradient))
                raise self._error(f"{where} of the shape {wanted}, got {got}")
            if not bool(gradient.isfinite().all()):
                raise self._error(f"{where} finite, and has NaN or infinity")

    def _check_figures(self, figures: Mapping[Any, object]) -> None:
        for name, value in figures.items():
            if name not in self._figures:
                raise self._error(f"`learn` returned the figure {name!r}, which `FIGURES` does not list")
            if not is_finite_number(value):
                raise self._error(
                    f"the figure {name!r} that `learn` returns must be a finite number, got {shown(value)}; where it"
                    " has no value, as the mean over no children, leave it out"
                )

    def _wrong(self, rule: str, value: object) -> OwnFileError:
        return self._error(f"{rule}, got {shown(value)}")

    def _error(self, text: str) -> OwnFileError:
        return OwnFileError(f"{self._name}: {text}")


def _is_child(value: object, view: View) -> bool:
    """Return whether a value is the id of a child; ids count up from 1, so that their number tells."""
    return type(value) is int and 1 <= value <= len(view.history()) + len(view.pending())


def _is_json(value: Mapping[Any, Any]) -> bool:
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False)) == value
    except (TypeError, ValueError, RecursionError):
        return False


def _not_a_tensor(value: Any) -> str:
    """Return what a value is if it is no float32 tensor of numbers; empty if it is one."""
    torch = sys.modules.get("torch")  # there is no tensor before it is imported, and a search may do without it
    if torch is None or not isinstance(value, torch.Tensor):
        return shown(value) if value is None else f"a {type(value).__name__}"
    if value.dtype is not torch.float32:
        return f"one of {str(value.dtype).removeprefix('torch.')}"
    return "a sparse one" if value.layout is not torch.strided else ""
