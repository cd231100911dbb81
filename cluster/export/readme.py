"""The README beside an exported file: how to load it, what it takes, its figures, and the licence of the data."""

import math
from collections.abc import Iterator

from child_trainer.tasks.image import enlarged
from cluster.export.facts import NetworkFacts
from cluster.export.formats import Format


def mark(file: str) -> str:
    """Return the first line of the README of a file, by which an export knows its own."""
    return f"<!-- written by nascluster export with {file} -->"


def readme(facts: NetworkFacts, form: Format, file: str) -> str:
    """Return the text of the README beside a file of this name."""
    return "\n".join([mark(file), *_head(facts, form, file), *_input(facts, form), *_output(facts), *_figures(facts)])


def _head(facts: NetworkFacts, form: Format, file: str) -> Iterator[str]:
    shape = f"(1, {', '.join(map(str, facts.shape))})"
    yield from (f"# {file}", "")
    yield f"Child {facts.child_id} of the run {facts.run}, trained on the task {facts.task} ({facts.summary})."
    yield from (f"The file is {form.words}. It loads without nascluster, with {form.needs}:", "")
    yield from ("```python", form.code.format(file=file, shape=shape), "```", "")
    if not form.runs:
        yield "A file that also computes without nascluster has `nascluster export ... --format torch-export`, or onnx."
        yield "With nascluster, `python -m child_trainer ARCHITECTURE.json --from FILE` trains on from these weights."
        yield ""


def _input(facts: NetworkFacts, form: Format) -> Iterator[str]:
    channels, height, width = facts.shape
    (tall, wide), size = enlarged((height, width)), math.prod(facts.shape)
    yield from ("## Input", "")
    if facts.preparation:
        yield from (facts.preparation, "")
    yield f"Pixels as the data has them, float32, `[images, {channels}, {height}, {width}]`, any number of images."
    yield "The file does the rest:" if form.runs else "The network wants them prepared, which the file does not do:"
    yield f"- standardise each image by itself, over all of its values: `(x - mean) / max(std, 1 / sqrt({size}))`. So"
    yield "  the scale of the pixels matters only where an image is nearly of one colour;"
    yield f"- enlarge it to {tall} x {wide} (bilinear, corners not aligned), and take the {height} x {width} pixels at"
    yield "  its centre."
    yield ""


def _output(facts: NetworkFacts) -> Iterator[str]:
    yield from ("## Output", "", f"Logits, float32, `[images, {len(facts.classes)}]`, one for each class:", "")
    yield from (f"{number}. {name}" for number, name in enumerate(facts.classes))
    yield ""


def _figures(facts: NetworkFacts) -> Iterator[str]:
    yield from ("## Figures", "", "| figure | value |", "|---|---|")
    seen = facts.validation is None
    yield f"| validation accuracy | {'none: these images were trained on' if seen else f'{facts.validation:.4f}'} |"
    yield f"| test accuracy | {_test(facts)} |"
    yield f"| parameters | {_counted(facts.parameters)} |"
    yield f"| FLOPs for one image | {_counted(facts.flops)} |"
    yield f"| architecture | {facts.architecture} |"
    yield from (f"| checksum of the weights | {facts.weights} |", "")
    if facts.weights_file is not None:
        yield f"The weights are those of {facts.weights_file}, of a training by hand; the figures are the run's own."
    if not seen:
        yield "The validation accuracy is the best of the last five epochs; the weights are those after the last one."
    yield "A multiplication with an addition counts as two FLOPs."
    yield from ("", "## Licence of the data", "", f"{facts.task}: {facts.licence}.", "")


def _test(facts: NetworkFacts) -> str:
    if facts.test is not None:
        return f"{facts.test:.4f}"
    return "not looked at" if facts.test_fault is None else f"none: {facts.test_fault}"


def _counted(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
