"""What finishing a search has given: networks, and what they reach on the test data. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from child_trainer.outcome import Measure
from cluster.finish.plan import Network
from cluster.formatting import aligned, counted, mean_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """One training of a network.

    Attributes:
        child_id: in the run of the final trainings.
        test: the metric on the test data; `None` if there is none.
        cause: why there is none: that of the failed training, or a fault of the test.
        validation: the metric on the validation data; `None` if there is none, or it has trained on that data.
    """

    child_id: int
    test: float | None
    cause: str | None
    validation: float | None = None

    @property
    def text(self) -> str:
        """What it has reached."""
        if self.test is None:
            return f"{self.child_id}: {self.cause}"
        return f"{self.child_id}: {self.test:.4f}" + (f" ({self.validation:.4f})" if self.validation else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The finished networks of a search.

    Attributes:
        search, final: the names of the search and of the run of the final trainings.
        epochs: of these.
        measure: what the metric is.
        data: what the test data is called.
        examples: how many images or words it has; `None` if no network was tested.
        by_metric: whether the order is that of the validation metric; else it is that of the search's rewards.
        networks: in this order, each with its trainings.
        dropped: the networks that the grid search could not train at all.
        export: the command that exports a child, without its id.
        untested: a sentence on each network that was trained, and whose test metric cannot be had.
        file: the exported network of `best`; `None` if it was not exported.
    """

    search: str
    final: str
    epochs: int
    measure: Measure
    data: str
    examples: int | None
    by_metric: bool
    networks: Sequence[tuple[Network, Sequence[Trained]]]
    dropped: Sequence[Network]
    export: str
    untested: Sequence[str] = ()
    file: Path | None = None

    @property
    def best(self) -> Trained | None:
        """The tested training with the best validation metric; test data has chosen nothing.

        Where all have trained on the validation data, it is the first training of the first network that has one.
        """
        tested = [one for _, trained in self.networks for one in trained if one.test is not None]
        known = [one for one in tested if one.validation is not None]
        if not known:
            return tested[0] if tested else None
        choose = min if self.measure.lower_is_better else max
        return choose(known, key=lambda one: one.validation or 0.0)

    @property
    def whole(self) -> bool:
        """Whether a network was tested, and no trained one has no test metric."""
        return self.best is not None and not self.untested

    @property
    def _words_of_best(self) -> str:
        first, best = self.networks[0][1][0] if self.networks else None, self.best
        if best is not None and best.validation is not None:
            return f"Child {best.child_id}, the best by its validation {self.measure},"
        return "The first" if best is first else f"Child {best and best.child_id}, the first tested one,"

    @property
    def _words_of_data(self) -> str:
        return f"{self.examples:,} words of the {self.data}" if self._is_text else f"{self.examples:,} {self.data}"

    @property
    def _is_text(self) -> bool:
        return self.measure is Measure.PERPLEXITY

    def lines(self) -> Iterator[str]:
        """Yield lines with a table for people."""
        yield (
            f"Networks of the run {self.search}, trained on all training data for {counted(self.epochs, 'epoch')}"
            f" (run {self.final})"
        )
        yield ""
        rows: list[Sequence[str]] = [("", "network", "from", "validation", "settings", "test", "by training")]
        for place, (network, trained) in enumerate(self.networks, start=1):
            rows.append((str(place), *_row(self.search, network, trained)))
        yield from aligned(rows)
        for network in self.dropped:
            yield (
                f"Left out: child {network.child_id} of the run {self.search}, as every training of its grid search has"
                " failed"
            )
        yield from self.untested
        yield ""
        order = f"the validation {self.measure}" if self.by_metric else "the rewards of the search"
        seen = all(one.validation is None for _, trained in self.networks for one in trained)
        own = "" if seen else " In brackets is what each training reached on the validation data."
        yield f"The order is that of {order}. test: mean and standard deviation over the trainings.{own}"
        if self.examples is not None:
            yield f"Each training has looked at the {self._words_of_data} once; a second look is refused."
        if self.file is not None:
            what = self._words_of_best
            yield f"{what} is in {self.file}, which loads without nascluster; the README beside it says how."
        if self.best is not None:
            others = " in another format" if self.file is not None else ""
            yield f"To export it{others}: {self.export} {self.best.child_id}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return {
            "search": self.search,
            "final": self.final,
            "epochs": self.epochs,
            "measure": str(self.measure),
            "test_words" if self._is_text else "test_images": self.examples,
            "order": "validation" if self.by_metric else "reward",
            "networks": [_network_json(network, trained) for network, trained in self.networks],
            "untested": list(self.untested),
            "left_out": [network.child_id for network in self.dropped],
            "child": self.best and self.best.child_id,
            "file": self.file and str(self.file),
        }


def _row(search: str, network: Network, trained: Sequence[Trained]) -> tuple[str, ...]:
    reached = [one.test for one in trained if one.test is not None]
    searched = f"{network.searched:.4f}{' (a score)' if network.scored else ''}"
    return (
        network.architecture.id,
        f"child {network.child_id} of {search}",
        searched if network.validation is None else f"{network.validation:.4f}",
        ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in network.settings.items()) or "-",
        mean_text(reached) if reached else "-",
        ", ".join(one.text for one in trained),
    )


def _network_json(network: Network, trained: Sequence[Trained]) -> dict[str, Any]:
    reached = [one.test for one in trained if one.test is not None]
    return {
        "architecture_id": network.architecture.id,
        "searched_child": network.child_id,
        "searched": network.searched,
        "scored": network.scored,
        "validation": network.validation,
        "settings": dict(network.settings),
        "test": {"mean": mean(reached) if reached else None, "deviation": stdev(reached) if len(reached) > 1 else None},
        "trainings": [
            {"child": one.child_id, "validation": one.validation, "test": one.test, "failure": one.cause}
            for one in trained
        ],
    }
