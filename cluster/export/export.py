"""Exports a trained child of a run into a file that loads without nascluster, with a README beside it."""

from dataclasses import dataclass
from pathlib import Path

from child_trainer.architectures.architecture import InvalidArchitecture
from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.language_options import LanguageOptions
from child_trainer.networks.language_weights import words_of
from child_trainer.networks.weights import WrongWeights
from cluster.config.run_config import RunConfig
from cluster.export.children import check_task, child_to_export, weights_of
from cluster.export.classifier import exported_classifier
from cluster.export.facts import ImageFacts, TextFacts, facts_of
from cluster.export.files import check_target, is_special, readme_of, write_export
from cluster.export.formats import FORMATS, ExportError, Form, as_read, check_format, facts_in
from cluster.export.language import exported_language_model
from cluster.export.programs import Program
from cluster.export.readme import readme
from cluster.storage.ledger.queries.final_tests import FinalTest, final_tests
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

EXPORTS = "exports"
"""The folder within a run's that has its exports, unless others are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        child_id: of the exported child.
        file: the network.
        readme: the text beside it; `None` beside a FIFO or a device.
    """

    child_id: int
    file: Path
    readme: Path | None


def export_child(
    folder: RunFolder,
    child_id: int | None = None,
    *,
    form: Form = "torch-export",
    out: Path | None = None,
    weights: Path | None = None,
    replace: bool = False,
) -> Exported:
    """Export a child's network.

    Args:
        folder: the run's, with the weights that it has kept.
        child_id: of the child; `None`: the best one whose weights are there.
        form: the file's format.
        out: the file; `None`: one in the run's folder, or in the current one for a run in an object store.
        weights: a file of `python -m child_trainer --save-weights` to export in place of weights that the run has kept.
        replace: whether a file that no export has written may be replaced.

    Raises:
        ExportError: the child, its weights or the file cannot be had as requested; nothing was written.
        RunFolderError: the run is damaged.
    """
    check_format(form)
    config = folder.read_config()
    check_task(config)
    child = child_to_export(folder, config, child_id, weights)
    path = _target(folder, child.child_id, form, out)
    check_target(path, form, replace=replace)
    trained = weights_of(folder, child, weights)
    try:
        program = _program(config, trained)
        facts = facts_of(
            folder.name,
            config,
            child,
            _data_of(config, trained),
            weights=trained.checksum,
            weights_file=weights and weights.name,
            test=_test_of(folder, child.child_id),
        )
    except (InvalidArchitecture, WrongWeights) as error:
        raise ExportError(f"the weights of child {child.child_id} are not those of its network: {error}") from error
    data = FORMATS[form].write(program, trained, facts)
    try:
        write_export(path, data, readme(facts, FORMATS[form], path.name))
    except OSError as error:
        raise ExportError(f"the export {path} cannot be written: {error.strerror}") from error
    return Exported(child_id=child.child_id, file=path, readme=None if is_special(path) else readme_of(path))


def earlier_export(folder: RunFolder, child_id: int) -> Path | None:
    """Return the file of an earlier export of a child that has its present weights and test, with its README.

    Args:
        folder: the run's.
        child_id: of a child whose weights the run has kept.

    Returns:
        The file that `export_child` would write without options; `None` if there is none, or it is another's.

    Raises:
        ExportError: there is no such child, or its weights are damaged.
        RunFolderError: the run is damaged.
    """
    path, config = default_file(folder, child_id), folder.read_config()
    if not path.is_file():
        return None
    child = child_to_export(folder, config, child_id, None)
    weights = weights_of(folder, child, None)
    try:
        data = _data_of(config, weights)
    except WrongWeights:
        return None
    facts = facts_of(
        folder.name,
        config,
        child,
        data,
        weights=weights.checksum,
        weights_file=None,
        test=_test_of(folder, child_id),
    )
    try:
        said = readme_of(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    same = said == readme(facts, FORMATS["torch-export"], path.name) and facts_in(path) == as_read(facts)
    return path if same else None


def _program(config: RunConfig, weights: TrainedWeights) -> Program:
    """Return a run's network as a program; raises as `exported_classifier` and `exported_language_model` do."""
    if isinstance(config.task.options, LanguageOptions):
        return exported_language_model(weights, config.task.options)
    problem = config.task.entry.problem
    assert problem is not None  # `check_task` refuses others
    return exported_classifier(weights, problem, config.budget.regime)


def _data_of(config: RunConfig, weights: TrainedWeights) -> ImageFacts | TextFacts:
    """Return what a run's network is for; raises `WrongWeights` if weights of a language model have no words."""
    entry, options = config.task.entry, config.task.options
    if isinstance(options, LanguageOptions):
        return TextFacts(
            vocabulary=words_of(weights.tensors),
            layers=options.cell_layers,
            hidden_size=weights.tensors["embedding"].shape[1],
        )
    problem = entry.problem
    assert problem is not None
    classes = entry.class_names or tuple(map(str, range(problem.classes)))
    return ImageFacts(shape=problem.shape, classes=classes, preparation=entry.preparation)


def _test_of(folder: RunFolder, child_id: int) -> FinalTest | None:
    with reading(folder) as db:
        return final_tests(db).get(child_id)


def _target(folder: RunFolder, child_id: int, form: Form, out: Path | None) -> Path:
    """Return the file to write, whose folder exists if it is the run's own."""
    if out is not None:
        return out.expanduser().absolute()
    file = default_file(folder, child_id, form)
    try:
        file.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise ExportError(f"the folder {file.parent} cannot be made: {error.strerror}; give `--out`") from error
    return file


def default_file(folder: RunFolder, child_id: int, form: Form = "torch-export") -> Path:
    """Return the file of an export that names none."""
    suffix = FORMATS[form].suffix
    if folder.url is not None:  # its local folder is a copy, which the next command replaces
        return Path.cwd() / f"{folder.name}-child-{child_id}{suffix}"
    return folder.path / EXPORTS / f"child-{child_id}{suffix}"
