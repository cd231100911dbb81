"""Trains given architectures, in their order, and ends: the best of another run, or any list of samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from child_trainer.field_types import check_types
from controller.decisions import Tokens
from controller.searcher import SOURCE, ChildRecord, ParameterGroup, Proposal, Update, View
from controller.space import SearchSpace
from controller.spaces.checks import space_words


@dataclass(frozen=True, kw_only=True)
class GivenOptions:
    """Options of the training of given architectures."""

    samples: tuple[str, ...] = ()
    """The architectures: the decisions of each, as whole numbers with commas between them. `--from-run` takes the best
    ones of another run."""
    sources: tuple[str, ...] = ()
    """Where each is from, in a few words; unset: nothing is known."""

    def __post_init__(self) -> None:
        check_types(self)
        tokens = self.tokens
        for place, sample in enumerate(tokens):
            if sample in tokens[:place]:
                raise ValueError(f"`samples` must be different ones, got {self.samples[place]!r} twice")
        if self.sources and len(self.sources) != len(self.samples):
            raise ValueError(
                f"`sources` must be one for each of the {len(self.samples)} samples or none, got {len(self.sources)}"
            )

    @property
    def tokens(self) -> tuple[Tokens, ...]:
        """The decisions of each architecture.

        Raises:
            ValueError: a sample is no such text.
        """
        return tuple(map(_tokens, self.samples))

    def for_children(self, children: int) -> Self:
        """Return the options, which must not have more architectures than the search may have children.

        Raises:
            ValueError: they do.
        """
        if children < len(self.samples):
            raise ValueError(
                f"`max_children` must be at least {len(self.samples)}, one for each given architecture, got {children}"
            )
        return self


def sample_text(tokens: Iterable[int]) -> str:
    """Return the text of a sample that `samples` takes."""
    return ",".join(map(str, tokens))


def _tokens(sample: str) -> Tokens:
    try:
        return tuple(int(token) for token in sample.split(","))
    except ValueError:
        raise ValueError(f"`samples` must be whole numbers such as 0,3,1, got {sample!r}") from None


class Given:
    """Proposes each of the given architectures once, the first ones first.

    Args:
        space: whose samples they are.
        options: the samples.

    Raises:
        ValueError: there are none, or one is no sample of the space.
    """

    exclusive = True

    def __init__(self, space: SearchSpace, options: GivenOptions) -> None:
        self._space, self._samples, self._sources = space, options.tokens, options.sources
        if not self._samples:
            raise ValueError(
                "the searcher 'given' needs architectures: give `--from-run NAME --top 5` for the best ones of another"
                " run, or `--samples`"
            )
        for number, tokens in enumerate(self._samples, start=1):
            try:
                space.decode(tokens)
            except ValueError as error:
                raise ValueError(
                    f"`samples` must be samples of {space_words(space)}, and the {number}. is none: {error}"
                ) from error

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: nothing is learnt."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return the next architectures; none after the last, which ends the search."""
        # `view.completed` is of the step's beginning: a child may have ended since.
        begun = {tuple(child.tokens) for child in (*view.pending(), *view.history())}
        places = [place for place, tokens in enumerate(self._samples) if tokens not in begun][:n]
        return [
            Proposal(
                tokens=self._samples[place],
                architecture=self._space.decode(self._samples[place]),
                notes={SOURCE: self._sources[place]} if self._sources else {},
            )
            for place in places
        ]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients."""
        return Update()
