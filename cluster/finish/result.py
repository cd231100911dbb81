"""What finishing a search has given: networks, and what they reach on the test images. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from cluster.finish.plan import Network
from cluster.formatting import aligned, counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """One training of a network.

    Attributes:
        child_id: in the run of the final trainings.
        test: the accuracy on the test images; `None` if there is none.
        cause: why there is none: that of the failed training, or a fault of the test.
    """

    child_id: int
    test: float | None
    cause: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The finished networks of a search.

    Attributes:
        search, final: the names of the search and of the run of the final trainings.
        epochs: of these.
        images: how many test images there are; `None` if no network was tested.
        by_accuracy: whether the order is that of the validation accuracy; else it is that of the search's rewards.
        networks: in this order, each with its trainings.
        dropped: the networks that the grid search could not train at all.
        export: the command that exports a child, without its id.
        untested: a sentence on each network that was trained, and whose test accuracy cannot be had.
        file: the exported network of `best`; `None` if it was not exported.
    """

    search: str
    final: str
    epochs: int
    images: int | None
    by_accuracy: bool
    networks: Sequence[tuple[Network, Sequence[Trained]]]
    dropped: Sequence[Network]
    export: str
    untested: Sequence[str] = ()
    file: Path | None = None

    @property
    def best(self) -> Trained | None:
        """The first training of the first network that has one: test data has chosen nothing."""
        return next((one for _, trained in self.networks for one in trained if one.test is not None), None)

    @property
    def whole(self) -> bool:
        """Whether a network was tested, and no trained one has no test accuracy."""
        return self.best is not None and not self.untested

    @property
    def _words_of_best(self) -> str:
        first = self.networks[0][1][0] if self.networks else None
        return "The first" if self.best is first else f"Child {self.best and self.best.child_id}, the first tested one,"

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
        order = "the validation accuracy" if self.by_accuracy else "the rewards of the search"
        yield f"The order is that of {order}. test: mean and standard deviation over the trainings."
        if self.images is not None:
            yield f"Each training has looked at the {self.images:,} test images once; a second look is refused."
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
            "test_images": self.images,
            "order": "validation" if self.by_accuracy else "reward",
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
        _mean(reached),
        ", ".join(f"{one.child_id}: {one.cause if one.test is None else f'{one.test:.4f}'}" for one in trained),
    )


def _mean(reached: Sequence[float]) -> str:
    if not reached:
        return "-"
    return f"{mean(reached):.4f}" + (f" ± {stdev(reached):.4f}" if len(reached) > 1 else "")


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
        "trainings": [{"child": one.child_id, "test": one.test, "failure": one.cause} for one in trained],
    }
