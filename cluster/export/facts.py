"""What an exported file says of its network, for its README and as plain data within the file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from child_trainer import own_files
from child_trainer.tasks.entry import TaskEntry
from cluster.config.run_config import RunConfig
from cluster.storage.ledger.queries.final_tests import FinalTest
from cluster.storage.ledger.queries.status import Best


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """The images that a network is for.

    Attributes:
        shape: channels, height and width of an image.
        classes: what each logit stands for; numbers if the classes have no names.
        preparation: what makes an image of a file, if the task reads files of people; may be empty.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    preparation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFacts:
    """The text that a language model is for.

    Attributes:
        vocabulary: the words by their numbers, which are those of the logits, too.
        layers, hidden_size: of the state.
    """

    vocabulary: tuple[str, ...]
    layers: int
    hidden_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFacts:
    """A trained network, and where it is from.

    Attributes:
        run, child_id, architecture: the run, the child and its canonical id.
        task, summary: of the data, by name and in one line.
        data: what the network is for.
        validation: the metric of the child in the run; `None` if it has trained on the validation images, too.
        test: the metric on the test data; `None` if it was not looked at, or the look gave none.
        test_fault: why the look gave none, if it did not.
        parameters, flops: of the network; FLOPs of one image or one word.
        weights: the checksum of the weights.
        weights_file: the file whose weights these are, if they are not those that the run has kept.
        licence: of the data.
    """

    run: str
    child_id: int
    architecture: str
    task: str
    summary: str
    data: ImageFacts | TextFacts
    validation: float | None
    test: float | None
    test_fault: str | None
    parameters: int | None
    flops: int | None
    weights: str
    weights_file: str | None
    licence: str

    def to_json(self) -> Mapping[str, Any]:
        """Return plain data for `json.dumps`."""
        plain = asdict(self)
        return plain | plain.pop("data")


def facts_of(
    run: str,
    config: RunConfig,
    child: Best,
    data: ImageFacts | TextFacts,
    *,
    weights: str,
    weights_file: str | None,
    test: FinalTest | None,
) -> NetworkFacts:
    """Return what is known of a child of a run.

    Args:
        run: its name.
        config: its configuration.
        child: of the run.
        data: what its network is for.
        weights: the checksum of the weights that are exported.
        weights_file: the file that they are from, if the run has not kept them.
        test: the child's look at the test data, which says nothing of other weights than it was made with.
    """
    entry = config.task.entry
    if test is not None and test.weights != weights:
        test = None
    return NetworkFacts(
        run=run,
        child_id=child.child_id,
        architecture=child.architecture.id,
        task=config.task.task,
        summary=entry.summary,
        data=data,
        validation=None if config.task.all_training else child.metric,
        test=test and test.metric,
        test_fault=test and test.fault,
        parameters=child.parameters,
        flops=child.flops,
        weights=weights,
        weights_file=weights_file,
        licence=entry.licence or _unknown_licence(config, entry),
    )


def _unknown_licence(config: RunConfig, entry: TaskEntry) -> str:
    where = f"ask who wrote {own_files.file_of(config.task.task)}" if own_files.is_own(config.task.task) else "unknown"
    return f"not recorded: {where}"
