"""The README beside an exported file: how to load it, what it takes, its figures, and the licence of the data."""

import math
from collections.abc import Iterator

from child_trainer.networks.language_weights import VOCABULARY
from child_trainer.tasks.image import enlarged
from child_trainer.tasks.text import END, UNKNOWN
from cluster.export.facts import ImageFacts, NetworkFacts, TextFacts
from cluster.export.formats import Format


def mark(file: str) -> str:
    """Return the first line of the README of a file, by which an export knows its own."""
    return f"<!-- written by nascluster export with {file} -->"


def readme(facts: NetworkFacts, form: Format, file: str) -> str:
    """Return the text of the README beside a file of this name."""
    data = facts.data
    if isinstance(data, ImageFacts):
        body = [*_images_in(data, form), *_classes_out(data)]
    else:
        body = [*_words_in(data, form), *_words_out(data)]
    return "\n".join([mark(file), *_head(facts, form, file), *body, *_figures(facts)])


def _head(facts: NetworkFacts, form: Format, file: str) -> Iterator[str]:
    yield from (f"# {file}", "")
    yield f"Child {facts.child_id} of the run {facts.run}, trained on the task {facts.task} ({facts.summary})."
    yield from (f"The file is {form.words}. It loads without nascluster, with {form.needs}:", "")
    yield from ("```python", form.code(file, facts), "```", "")
    if not form.runs:
        yield "A file that also computes without nascluster has `nascluster export ... --format torch-export`, or onnx."
        yield "With nascluster, `python -m child_trainer ARCHITECTURE.json --from FILE` trains on from these weights."
        yield ""


def _images_in(images: ImageFacts, form: Format) -> Iterator[str]:
    channels, height, width = images.shape
    (tall, wide), size = enlarged((height, width)), math.prod(images.shape)
    yield from ("## Input", "")
    if images.preparation:
        yield from (images.preparation, "")
    yield f"Pixels as the data has them, float32, `[images, {channels}, {height}, {width}]`, any number of images."
    yield "The file does the rest:" if form.runs else "The network wants them prepared, which the file does not do:"
    yield f"- standardise each image by itself, over all of its values: `(x - mean) / max(std, 1 / sqrt({size}))`. So"
    yield "  the scale of the pixels matters only where an image is nearly of one colour;"
    yield f"- enlarge it to {tall} x {wide} (bilinear, corners not aligned), and take the {height} x {width} pixels at"
    yield "  its centre."
    yield ""


def _classes_out(images: ImageFacts) -> Iterator[str]:
    yield from ("## Output", "", f"Logits, float32, `[images, {len(images.classes)}]`, one for each class:", "")
    yield from (f"{number}. {name}" for number, name in enumerate(images.classes))
    yield ""


def _words_in(text: TextFacts, form: Format) -> Iterator[str]:
    state = f"`[{text.layers}, texts, {text.hidden_size}]`"
    yield from ("## Input", "")
    yield f"A word's number is its place in the vocabulary, {len(text.vocabulary):,} words, counted from 0. The"
    yield f"vocabulary is in the file, in `nascluster.json`; words that it lacks are `{UNKNOWN}`, and a line ends with"
    yield f"`{END}`. A model reads a text word by word, with a state h and c, float32, {state}, which is zeros"
    yield "before the first word."
    if form.runs:
        yield "The file takes `words`, the number of one word of each text, int64, `[texts]`, and h and c; any number"
        yield "of texts at once."
    else:
        yield "A weight is called by its layer, the node of the cell and its role, such as `1/x_i/weight`; beside them"
        yield "are the tables `embedding`, `prediction` (if that is another one) and `bias`, and the words as bytes,"
        yield f"`{VOCABULARY}`."
    yield ""


def _words_out(text: TextFacts) -> Iterator[str]:
    yield from ("## Output", "", f"Logits of each next word, float32, `[texts, {len(text.vocabulary)}]`, and h and c")
    yield from ("after the word, for the next step.", "")


def _figures(facts: NetworkFacts) -> Iterator[str]:
    image = isinstance(facts.data, ImageFacts)
    metric, one = ("accuracy", "image") if image else ("perplexity", "word")
    yield from ("## Figures", "", "| figure | value |", "|---|---|")
    seen = facts.validation is None
    yield f"| validation {metric} | {'none: these images were trained on' if seen else f'{facts.validation:.4f}'} |"
    yield f"| test {metric} | {_test(facts)} |"
    yield f"| parameters | {_counted(facts.parameters)} |"
    yield f"| FLOPs for one {one} | {_counted(facts.flops)} |"
    yield f"| architecture | {facts.architecture} |"
    yield from (f"| checksum of the weights | {facts.weights} |", "")
    if facts.weights_file is not None:
        yield f"The weights are those of {facts.weights_file}, of a training by hand; the figures are the run's own."
    if not seen:
        yield f"The validation {metric} is the best of the last five epochs; the weights are those after the last one."
    yield "A multiplication with an addition counts as two FLOPs."
    yield from ("", "## Licence of the data", "", f"{facts.task}: {facts.licence}.", "")


def _test(facts: NetworkFacts) -> str:
    if facts.test is not None:
        return f"{facts.test:.4f}"
    return "not looked at" if facts.test_fault is None else f"none: {facts.test_fault}"


def _counted(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
