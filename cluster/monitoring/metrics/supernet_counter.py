"""Counts the jobs on weights that children share, as their outcomes tell."""

from collections import Counter, deque
from statistics import fmean

from cluster.monitoring.metrics.histogram import VERSIONS, Histogram
from cluster.monitoring.metrics.snapshot import WINDOW, SupernetCounts
from cluster.storage.ledger.queries.metrics import EndedChild

TRAFFIC = ("pulls", "pulled_bytes", "pushes", "pushed_bytes", "wait_seconds")
"""The measurements of a child that add up: what it exchanged with the shards of the weights."""


class SupernetCounter:
    """Counts of the jobs on shared weights. Not thread-safe."""

    def __init__(self) -> None:
        self._steps = 0
        self._traffic: Counter[str] = Counter()
        self._training: deque[tuple[float, float]] = deque(maxlen=WINDOW)  # loss and accuracy
        self._paths: deque[float] = deque(maxlen=WINDOW)
        self._staleness = Histogram(VERSIONS)

    def observe(self, child: EndedChild) -> None:
        """Count a child that has ended and has a job."""
        measured = child.measurements
        self._traffic.update({name: measured.get(name, 0) for name in TRAFFIC})
        if "staleness" in measured:
            self._staleness.observe(measured["staleness"])
        if child.steps and child.state == "finished":
            self._steps += child.steps
        if child.steps and {"loss", "accuracy"} <= measured.keys():
            self._training.append((measured["loss"], measured["accuracy"]))
        if child.metric is not None:
            self._paths.append(child.metric)

    def counts(self) -> SupernetCounts:
        """Return the counts so far."""
        losses, accuracies = zip(*self._training, strict=True) if self._training else ((), ())
        return SupernetCounts(
            steps=self._steps,
            loss=fmean(losses) if losses else None,
            accuracy=fmean(accuracies) if accuracies else None,
            path_metric=fmean(self._paths) if self._paths else None,
            traffic={name: self._traffic[name] for name in TRAFFIC},
            staleness=self._staleness.copy(),
        )
