"""`nascluster zoo`: published networks and cells, their sizes, pictures and architectures."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import tyro

from child_trainer import portable_json
from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.drawing import draw
from child_trainer.architectures.folding import folded
from child_trainer.tasks.catalogue import find_task
from cluster.cli.command import parse_command
from cluster.config.flags import Json, UsageError
from cluster.formatting import counted
from controller.catalogue import find_entry
from controller.zoo.catalogue import ZOO
from controller.zoo.entry import Images, Size, Words, ZooEntry

Name = Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help="A network of the zoo.")]
Cells = Annotated[int | None, tyro.conf.arg(metavar="N", help="Number of cells; unset: as published.")]
Filters = Annotated[int | None, tyro.conf.arg(metavar="N", help="Filters of the first cells; unset: as published.")]
Task = Annotated[
    str | None, tyro.conf.arg(metavar="NAME", help="The image task for which to count parameters; unset: as published.")
]
DropPath = Annotated[bool, tyro.conf.arg(help="With --json: mark the paths that a training may drop.")]
Auxiliary = Annotated[bool, tyro.conf.arg(help="With --json: add an auxiliary head, which a training may use.")]
Draw = Annotated[bool, tyro.conf.arg(help="Print an SVG file with the cells, or with the network if it has none.")]


@dataclass(frozen=True, kw_only=True)
class ZooFlags:
    """List published networks; with a name, show one: parameters, FLOPs, cells, and how to train it by hand."""

    name: Name = None
    cells: Cells = None
    filters: Filters = None
    task: Task = None
    drop_path: DropPath = False
    auxiliary: Auxiliary = False
    as_json: Json = False
    draw: Draw = False

    def check(self) -> None:
        """Raise `UsageError` if the flags do not go together."""
        if self.name is None and self != ZooFlags():
            raise UsageError("name a network of the zoo, such as `nascluster zoo nasnet-a`")
        if self.as_json and self.draw:
            raise UsageError("`--json` prints the architecture and `--draw` a picture: give one of them")
        if (self.drop_path or self.auxiliary) and not self.as_json:
            raise UsageError("`--drop-path` and `--auxiliary` are for training: give them with `--json`")


def zoo(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    flags = parse_command("zoo", ZooFlags, arguments)
    flags.check()
    if flags.name is None:
        print("\n".join(_table()))
        return 0
    entry = find_entry(ZOO, flags.name, "network of the zoo")
    size = entry.sized(
        cells=flags.cells,
        filters=flags.filters,
        drop_path=flags.drop_path or None,
        auxiliary=flags.auxiliary or None,
    )
    architecture = entry.architecture(size)
    if flags.as_json:
        print(portable_json.dumps(architecture.to_json(), indent=1))
    elif flags.draw:
        from cluster.report.drawing import svg_file

        print(svg_file(entry.motifs() or {flags.name: architecture}))
    else:
        print("\n".join(_lines(flags.name, entry, size, architecture, _counted_for(entry, flags.task))))
    return 0


def _table() -> Iterator[str]:
    width = max(map(len, ZOO)) + 2
    yield f"{'name':{width}}{'published':>9}  {'counted':>11}  what (paper)"
    for name, entry in ZOO.items():
        yield (f"{name:{width}}{entry.published or '-':>9}  {entry.parameters:>11,}  {entry.summary} ({entry.paper})")
    yield "\n`nascluster zoo NAME` shows one; published and counted are parameters"


def _counted_for(entry: ZooEntry, task: str | None) -> Images | Words:
    """Return the images of the task, or what the published parameters are counted for."""
    if task is None:
        return entry.counted_for
    problem = find_task(task).problem
    if problem is None or isinstance(entry.counted_for, Words):
        raise ValueError(f"`task` must be an image task, and the network one for images, got {task!r}")
    return Images(input_shape=problem.shape, num_classes=problem.classes)


def _lines(
    name: str, entry: ZooEntry, size: Size | None, architecture: Architecture, counted_for: Images | Words
) -> Iterator[str]:
    yield f"{name}: {entry.summary}"
    yield entry.paper
    yield ""
    if size is not None:
        cells = entry.cells_are if size.cells > 1 else entry.cells_are.replace("cells", "cell", 1)
        yield f"{size.cells} {cells}, {counted(size.filters, 'filter')}"
    parameters, flops = _cost(architecture, counted_for)
    published = f"; the paper prints {entry.published}" if entry.published and size == entry.size else ""
    yield f"{parameters:,} parameters and {flops:,} FLOPs for {_words(counted_for)}{published}"
    if entry.note:
        yield from textwrap.wrap(entry.note, 100)
    image = counted_for.input_shape[1:] if isinstance(counted_for, Images) else None
    rows = [row.text() for row in folded(architecture, image)]
    drawings = {"network": "\n".join(rows) or draw(architecture)}
    for title, drawing in (drawings | {part: draw(graph) for part, graph in entry.motifs().items()}).items():
        yield from ("", title, textwrap.indent(drawing, "  "))
    for notation, text in entry.genotypes().items():
        yield from ("", f"in {notation}'s notation", text)
    yield from ("", "To train it by hand:", *(f"  {line}" for line in _commands(name, entry, size)))


def _commands(name: str, entry: ZooEntry, size: Size | None) -> Iterator[str]:
    chosen = f" --cells {size.cells} --filters {size.filters}" if size is not None and size != entry.size else ""
    words = entry.counted_for if isinstance(entry.counted_for, Words) else None
    task = "cifar10 --data DIR" if words is None else "ptb --data DIR"
    if words is not None and words.tied:
        task += f" --cell-layers {words.layers} --hidden-size {words.hidden_size} --tied-embeddings"
    yield f"nascluster zoo {name}{chosen} --json > {name}.json"
    yield f"python -m child_trainer {name}.json --task {task}"


def _words(counted_for: Images | Words) -> str:
    if isinstance(counted_for, Words):
        return (
            f"a language model of {counted(counted_for.layers, 'layer')} of {counted_for.hidden_size} units and"
            f" {counted_for.vocabulary:,} words{', tied' if counted_for.tied else ''}"
        )
    shape = "x".join(map(str, counted_for.input_shape))
    return f"images of {shape} in {counted_for.num_classes:,} classes"


def _cost(architecture: Architecture, counted_for: Images | Words) -> tuple[int, int]:
    """Return the parameters, and the FLOPs of one image or of one word; nothing is allocated."""
    import torch

    from child_trainer.language_options import LanguageOptions
    from child_trainer.networks import cost
    from child_trainer.networks.build import cell_on_meta, classifier_on_meta
    from child_trainer.networks.language_model import count_parameters

    if isinstance(counted_for, Images):
        network = classifier_on_meta(architecture, counted_for)
        image = torch.empty((1, *counted_for.input_shape), device="meta")
        return cost.parameters(network), cost.flops(network, image)
    units, words, layers = counted_for.hidden_size, counted_for.vocabulary, counted_for.layers
    state = torch.empty((1, units), device="meta")
    flops = layers * cost.flops(cell_on_meta(architecture, units, units), state, state, state)
    options = LanguageOptions(cell_layers=layers, tied_embeddings=counted_for.tied)
    parameters = count_parameters(architecture, words, units, options)
    return parameters, flops + 2 * units * words
