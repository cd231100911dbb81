"""The lines of Python that load an exported file without nascluster, for its README."""

import json

from cluster.export.facts import ImageFacts, NetworkFacts


def torch_export_code(file: str, facts: NetworkFacts) -> str:
    """Return what loads a program of torch.export of this name, and computes logits."""
    if isinstance(facts.data, ImageFacts):
        return (
            "import torch\n\n"
            f"network = torch.export.load({file!r}).module()\n"
            f"pixels = torch.zeros((1, {_numbers(facts.data.shape)}))\n"
            "logits = network(pixels)"
        )
    return (
        "import json\n\nimport torch\n\n"
        'extra = {"nascluster.json": ""}\n'
        f"network = torch.export.load({file!r}, extra_files=extra).module()\n"
        'facts = json.loads(extra["nascluster.json"])\n'
        + _step_by_step(
            zeros=f"torch.zeros(({facts.data.layers}, 1, {facts.data.hidden_size}))",
            words='torch.tensor([number.get(word, number["<unk>"])])',
            call="network(words, h, c)",
        )
    )


def onnx_code(file: str, facts: NetworkFacts) -> str:
    """Return what loads an ONNX model of this name, and computes logits."""
    if isinstance(facts.data, ImageFacts):
        return (
            "import numpy\nimport onnxruntime\n\n"
            f"session = onnxruntime.InferenceSession({file!r})\n"
            f"pixels = numpy.zeros((1, {_numbers(facts.data.shape)}), numpy.float32)\n"
            '(logits,) = session.run(None, {"pixels": pixels})'
        )
    return (
        "import json\n\nimport numpy\nimport onnxruntime\n\n"
        f"session = onnxruntime.InferenceSession({file!r})\n"
        'facts = json.loads(session.get_modelmeta().custom_metadata_map["nascluster.json"])\n'
        + _step_by_step(
            zeros=f"numpy.zeros(({facts.data.layers}, 1, {facts.data.hidden_size}), numpy.float32)",
            words='numpy.array([number.get(word, number["<unk>"])])',
            call='session.run(None, {"words": words, "h": h, "c": c})',
        )
    )


def safetensors_code(file: str, facts: NetworkFacts) -> str:
    """Return what loads the weights in a file of this name, and what belongs to them."""
    code = (
        "import json\n\nfrom safetensors import safe_open\n\n"
        f'with safe_open({file!r}, framework="pt") as file:\n'
        "    weights = {name: file.get_tensor(name) for name in file.keys()}\n"
        '    architecture = json.loads(file.metadata()["architecture"])'
    )
    if isinstance(facts.data, ImageFacts):
        return code
    return f'{code}\n    vocabulary = json.loads(file.metadata()["nascluster.json"])["vocabulary"]'


def _step_by_step(*, zeros: str, words: str, call: str) -> str:
    """Return what reads a text word by word, and names the likeliest next one."""
    return (
        'vocabulary = facts["vocabulary"]\n'
        "number = {word: place for place, word in enumerate(vocabulary)}\n"
        f"h = c = {zeros}\n"
        f"for word in {json.dumps(['the', '<eos>'])}:\n"
        f"    words = {words}\n"
        f"    logits, h, c = {call}\n"
        "next_word = vocabulary[int(logits[0].argmax())]"
    )


def _numbers(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
