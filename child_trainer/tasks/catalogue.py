"""The task catalogue. Standard library only: a task's module is imported when the task is checked or loaded.

One more task is one module (`entry.TaskModule`) and one row of `TASKS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture, Kind
from child_trainer.architectures.nasbench201 import CELLS_PER_STAGE, STEM_CHANNELS
from child_trainer.close_names import suggestion
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget, Measure
from child_trainer.own_calls import failures_of
from child_trainer.seed_agem.options import SubnetworkOptions
from child_trainer.tasks.entry import TEXT_BUDGET, Family, TaskEntry, always, never
from child_trainer.tasks.image_entries import IMAGE_FOLDER, IMAGES
from child_trainer.tasks.lookup_table import Table
from child_trainer.tasks.nasbench201_options import NasBench201Options
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.tasks.table_file import SampleTable
from child_trainer.tasks.table_file_options import TableFileOptions
from child_trainer.tasks.table_file_options import described as table_described
from child_trainer.threads import computing_with
from child_trainer.training.task import Task, TaskError

if TYPE_CHECKING:
    from child_trainer.training.image_classifier import Images

T = TypeVar("T")

POLE = "child_trainer.tasks.pole"


def _subnetworks(images: str, entry: TaskEntry) -> TaskEntry:
    """Return the entry of the task that trains several sub-networks on the images of another one."""
    return replace(
        entry,
        summary=f"the images of {images}, which several sub-networks of a child learn together",
        spaces=("subnetworks",),
        options=SubnetworkOptions,
        usual_options=SubnetworkOptions(),
        # A training does not begin again, and further outputs are those of sub-networks.
        ignores=("auxiliary_weight", "restart_below", "restart_decay", "restarts", "precision"),
        costs=("parameters", "flops", "seconds"),
        module="child_trainer.tasks.subnetworks",
    )


def _language(
    summary: str, examples: int | None, licence: str, usual_options: LanguageOptions | None = None
) -> TaskEntry:
    """Return the entry of a language model's task with so many words of training text, if that is known."""
    return TaskEntry(
        summary=summary,
        family="language",
        kinds=("recurrent",),
        measure=Measure.PERPLEXITY,
        usual=TEXT_BUDGET,
        examples=examples,
        licence=licence,
        options=LanguageOptions,
        usual_options=usual_options,
        module="child_trainer.tasks.language",
    )


def _control(
    summary: str,
    inputs: int,
    module: str,
    *,
    kinds: tuple[Kind, ...] = ("feedforward", "recurrent"),
    instant: bool = False,
) -> TaskEntry:
    """Return the entry of a task that runs a small network whose weights are data, with one output."""
    return TaskEntry(
        summary=summary,
        family="function",
        kinds=kinds,
        measure=Measure.FITNESS,
        spaces=("genomes",),
        space_options=MappingProxyType({"inputs": inputs, "outputs": 1}),
        usual=Budget(epochs=1),
        trains=False,
        costs=("parameters", "seconds"),
        instant=always if instant else never,
        module=module,
    )


def _nasbench201(summary: str, epochs: int) -> TaskEntry:
    """Return the entry of the benchmark's table, whose metric is of a training of so many epochs."""
    return TaskEntry(
        summary=summary,
        family="table",
        kinds=("feedforward",),
        measure=Measure.ACCURACY,
        spaces=("nasbench201",),
        space_options=MappingProxyType({"cells_per_stage": CELLS_PER_STAGE, "stem_channels": STEM_CHANNELS}),
        usual=Budget(epochs=epochs),
        options=NasBench201Options,
        costs=("parameters", "seconds", "latency"),
        trains=False,
        instant=always,
        epochs=epochs,
        module="child_trainer.tasks.nasbench201_table",
    )


TASKS: Mapping[str, TaskEntry] = MappingProxyType(
    {
        **IMAGES,
        "image-folder": IMAGE_FOLDER,
        "ptb": _language(
            "Penn Treebank, from --data: the next word, word by word",
            929_589,
            "of Penn Treebank, the Linguistic Data Consortium's, LDC99T42; of other text in these files, its own",
        ),
        "wikitext2": _language(
            "WikiText-2, from --data: the next word, word by word",
            2_088_628,
            "of WikiText-2, CC BY-SA 3.0: Merity et al., arXiv 1609.07843; of other text in these files, its own",
        ),
        "text": _language(
            "the prose of Python's own manual: the next word; needs no download",
            49_000,
            "PSF License, version 2, copyright Python Software Foundation",
            LanguageOptions(hidden_size=64),
        ),
        "text-folder": _language(
            "texts of your own, from --data: the next word, word by word", None, "yours: the texts are your own"
        ),
        "synthetic": TaskEntry(
            summary="a known function of the architecture, at once; trains nothing",
            family="function",
            kinds=("feedforward", "recurrent"),
            measure=Measure.SCORE,
            options=SyntheticOptions,
            costs=("seconds",),
            trains=False,
            instant=lambda options: options.instant,
            module="child_trainer.tasks.synthetic",
        ),
        "nasbench201": _nasbench201("NAS-Bench-201's CIFAR-10, a table from --data; trains nothing", 12),
        "nasbench201-200": _nasbench201("the same table, of which the search sees the 200-epoch validation", 200),
        "table-file": TaskEntry(
            summary="a table of your own, a CSV or JSON file, from --data; trains nothing",
            family="table",
            kinds=("feedforward", "recurrent"),
            measure=Measure.ACCURACY,
            usual=Budget(epochs=1),
            options=TableFileOptions,
            costs=(),
            trains=False,
            instant=always,
            describes=table_described,
            module="child_trainer.tasks.table_file",
        ),
        # Its patterns have no order, so that there is nothing to remember.
        "xor": _control(
            "exclusive or; trains nothing", 2, "child_trainer.tasks.xor", kinds=("feedforward",), instant=True
        ),
        "double-pole": _control("two poles on a cart, to be balanced; trains nothing", 6, POLE),
        "double-pole-no-velocities": _control(
            "two poles on a cart without their velocities, for recurrent networks; trains nothing", 3, POLE
        ),
        **{f"{name}-subnetworks": _subnetworks(name, entry) for name, entry in IMAGES.items()},
    }
)
"""Every task of ours by its name."""


def find_task(name: str) -> TaskEntry:
    """Return the entry of a task; everything that looks a task up comes here.

    Args:
        name: a name in `TASKS`, or `FILE.py:NAME` of an entry in a file of the user's own.

    Raises:
        TaskError: the name is unknown; the message lists the tasks.
        OwnFileError: the file cannot be loaded, or what it has is no task.
    """
    if not isinstance(name, str):
        raise TaskError(f"a task's name must be a text, got {name!r}")
    if own_files.is_own(name):
        return _own_task(name)
    if name in TASKS:
        return TASKS[name]
    raise TaskError(f"there is no task {name!r}; the tasks are {', '.join(TASKS)}{suggestion(name, TASKS)}")


def _own_task(name: str) -> TaskEntry:
    entry = own_files.load(name)
    if not isinstance(entry, TaskEntry):
        raise own_files.OwnFileError(f"{name} must be a TaskEntry, got {type(entry).__name__}")
    try:
        module = entry.functions()
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
        raise own_files.OwnFileError(f"the `module` of {name}, {entry.module!r}, cannot be imported: {why}") from error
    if lacking := [function for function in ("check", "load") if not callable(getattr(module, function, None))]:
        functions = " and ".join(f"`{function}`" for function in lacking)
        raise own_files.OwnFileError(f"{name} is not a task: its module {entry.module} lacks the function {functions}")
    return entry


def names_of(family: Family) -> tuple[str, ...]:
    """Return the names of our tasks of one family."""
    return tuple(name for name, entry in TASKS.items() if entry.family == family)


def check_task(name: str, data: str | Path | None = None, *, options: Any = None, download: bool = False) -> None:
    """Make sure, before any work starts, that `load_task` would succeed; train nothing.

    With `download`, missing data is fetched now, so that no worker has to.

    Raises:
        TaskError: the name is unknown, its data is missing, is corrupt or cannot be downloaded, or the options are
            wrong or of another task.
    """
    entry, options = _with_options(name, options)
    folder = _folder(data)
    _call(name, "check", lambda: entry.functions().check(name, folder, options, download=download))
    if own_files.is_own(name):  # what is wrong with its data is seen when they are read
        _loaded(name, entry, folder, options, seed=0, device="cpu")
        if entry.load_test() is not None:
            _loaded_test(name, entry, folder, options, device="cpu")


def load_task(
    name: str,
    *,
    data: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    download: bool = False,
    options: Any = None,
    all_training: bool = False,
) -> Task:
    """Return the task, its data already on the device.

    Args:
        name: one of `TASKS`.
        data: the folder with the images, in torchvision's layout, with the texts, or with the table; `~` is the home
            folder; tasks that need none ignore it.
        seed: of the split into training and validation images; texts are split already.
        device: where the data stays, as PyTorch names it.
        download: fetch what is missing in `data`.
        options: the task's own, such as `LanguageOptions` or `SyntheticOptions`; `None`: their defaults.
        all_training: train on the validation data, too, as after a search.

    Raises:
        TaskError: as `check_task` does, or the task has no validation images.
    """
    entry, options = _with_options(name, options)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TaskError(f"`seed` must be a whole number, got {seed!r}")
    _check_device(device)
    folder = _folder(data)
    if download:
        _call(name, "check", lambda: entry.functions().check(name, folder, options, download=True))
    task = _loaded(name, entry, folder, options, seed=seed, device=device)
    if not all_training:
        return task
    if (on_all := getattr(task, "on_all_training", None)) is None:
        raise TaskError(f"the task {name!r} has no validation images to train on: use a task of images")
    return on_all()


def load_test(name: str, *, data: str | Path | None = None, device: str = "cpu", options: Any = None) -> Images:
    """Return the test images of a task, for after the search; nothing else ever uses them.

    The arguments are those of `load_task`.

    Raises:
        TaskError: the name is unknown, the options are of another task, the task has no test images, or its data is
            missing or corrupt.
    """
    entry, options = _with_options(name, options)
    if entry.load_test() is None:
        raise TaskError(f"the task {name!r} has no test images")
    _check_device(device)
    return _loaded_test(name, entry, _folder(data), options, device=device)


def _loaded(name: str, entry: TaskEntry, data: Path | None, options: Any, *, seed: int, device: str) -> Task:
    """Return the task; one of the user's own is checked against what its entry says of it."""
    with computing_with(1):  # the data's own means and deviations are sums, too
        task = _call(name, "load", lambda: entry.functions().load(name, data, options, seed=seed, device=device))
    if not own_files.is_own(name):
        return task
    if not all(hasattr(task, attribute) for attribute in ("fit", "measure")):
        raise TaskError(f"{name}: `load` must return a task, such as an ImageTask, got {type(task).__name__}")
    if entry.problem is not None and (shape := getattr(task, "input_shape", None)) is not None:
        found = (tuple(shape), getattr(task, "num_classes", None))
        if found != (right := (tuple(entry.problem.shape), entry.problem.classes)):
            raise TaskError(
                f"{name}: `load` must return what its `problem` says, images of shape {right[0]} and {right[1]}"
                f" classes, got {found[0]} and {found[1]}"
            )
    return task


def _loaded_test(name: str, entry: TaskEntry, data: Path | None, options: Any, *, device: str) -> Images:
    """Return the test images; those of a task of the user's own are checked as its other ones are."""
    load = entry.load_test()
    assert load is not None
    images = _call(name, "load_test", lambda: load(name, data, options, device=device))
    if own_files.is_own(name) and entry.family == "images":
        if not hasattr(images, "pixels") or not len(images):
            raise TaskError(f"{name}: `load_test` must return Images, at least one, got {images!r:.60}")
        if entry.problem is not None:
            images.check(f"{name}: `load_test`", entry.problem.shape, entry.problem.classes)
    return images


def _call(name: str, function: str, call: Callable[[], T]) -> T:
    """Return what a function of a task returns; an error of the user's own code names the task and the function."""
    if not own_files.is_own(name):
        return call()
    # A command's own output may be for programs.
    with failures_of(name, function, passing=(TaskError,)), redirect_stdout(sys.stderr):
        return call()


def load_table(
    name: str,
    *,
    data: str | Path | None = None,
    options: Any = None,
    decode: Callable[[Sequence[int]], Architecture] | None = None,
) -> Table:
    """Return the table that answers for a task, with what it keeps from the search (`Table.test_metric`).

    Args:
        name, data, options: as of `load_task`.
        decode: of the search space, for a table whose rows are named by its samples.

    Raises:
        TaskError: there is no table of this name, a file of it is missing or damaged, or its rows are no samples.
    """
    if find_task(name).family != "table":
        raise TaskError(f"the task {name!r} is no table; the tables are {', '.join(names_of('table'))}")
    table = load_task(name, data=data, options=options)
    if isinstance(table, SampleTable):
        if decode is None:
            raise TaskError(f"the rows of the table {name!r} are named by samples of a search space, and none is given")
        return table.of_space(decode)
    assert isinstance(table, Table)
    return table


def check_options(name: str, options: Any = None) -> None:
    """Check what `check_task` can check without data.

    Raises:
        TaskError: the name is unknown, or the options are of another task.
    """
    _with_options(name, options)


def _with_options(name: str, options: Any) -> tuple[TaskEntry, Any]:
    entry = find_task(name)
    options = entry.options() if options is None else options
    entry.check_options(name, options)
    return entry, options


def _check_device(device: object) -> None:
    """Raise `TaskError` unless PyTorch, which `cpu` does not need, can put data on the device."""
    if device != "cpu":
        import_module("child_trainer.training.processor").check_device(device)


def _folder(data: str | Path | None) -> Path | None:
    if data is None:
        return None
    if not isinstance(data, (str, Path)):
        raise TaskError(f"`data` must be the path of a folder, got {data!r}")
    try:
        return Path(data).expanduser()
    except RuntimeError as error:
        raise TaskError(f"`data` {data} cannot be found: {error}") from error
