"""The formats of an exported network: each as bytes, with the lines that load it."""

import importlib.util
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch

from child_trainer.inheritance.trained_weights import FORMAT, TrainedWeights
from child_trainer.sealed_tensors import seal
from cluster.export.facts import NetworkFacts
from cluster.export.loading import onnx_code, safetensors_code, torch_export_code
from cluster.export.programs import Program
from cluster.formatting import first_line

Form = Literal["safetensors", "torch-export", "onnx"]
"""The name of a format, as `--format` takes it."""

FACTS = "nascluster.json"
"""The name under which a file has its facts, in JSON."""

TOLERANCE = 1e-6
"""How far a logit that is read back from a program of torch.export may be from the network's own, relative to the
largest."""

MAX_ONNX_BYTES = 2**31 - 1
"""Upper bound of protobuf for one message, which an ONNX file is."""


class ExportError(ValueError):
    """A network cannot be exported as requested; the message is one sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A format of files.

    Attributes:
        suffix: of its files.
        words: what it is, for a README.
        needs: the packages that load it.
        code: returns Python that loads a file of this name, and computes logits if it can.
        runs: whether the file has the network's code, and prepares images by itself.
        write: returns the file's bytes.
    """

    suffix: str
    words: str
    needs: str
    code: Callable[[str, NetworkFacts], str]
    runs: bool
    write: Callable[[Program, TrainedWeights, NetworkFacts], bytes]


def check_format(form: Form) -> None:
    """Raise `ExportError` if the packages that write this format are not installed, or there is no such format."""
    if form not in FORMATS:
        raise ExportError(f"`format` must be one of {', '.join(get_args(Form))}, got {form!r}")
    lacking = [name for name in ("onnx", "onnxscript") if form == "onnx" and importlib.util.find_spec(name) is None]
    if lacking:
        raise ExportError(
            f"`--format onnx` needs the package {lacking[0]}: in a checkout of nascluster, pip install '.[onnx]'"
        )


def _safetensors(program: Program, weights: TrainedWeights, facts: NetworkFacts) -> bytes:
    """Return all weights with the architecture, in the form that `python -m child_trainer --from` reads, too."""
    metadata = {"architecture": json.dumps(weights.architecture.to_json()), FACTS: json.dumps(facts.to_json())}
    return seal(weights.tensors, metadata, FORMAT)


def _torch_export(program: Program, weights: TrainedWeights, facts: NetworkFacts) -> bytes:
    """Return a program for any number of examples, after reading it back and comparing its outputs.

    Raises:
        ExportError: PyTorch cannot trace the network, or what is read back computes something else.
    """
    # Not `torch.export.export` on one example: 0 and 1 are sizes that a program may be specialised to.
    with _explained("as a program of torch.export"):
        exported = torch.export.export(program.network, program.example(2), dynamic_shapes=program.dynamic_shapes)
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has the folders of this machine
    file = io.BytesIO()
    torch.export.save(exported, file, extra_files={FACTS: json.dumps(facts.to_json())})
    again = torch.export.load(io.BytesIO(file.getvalue())).module()
    for number in (1, 3):
        if not (difference := program.difference(again, number)) <= TOLERANCE:
            raise ExportError(f"the exported program differs from the network by {difference:g} in a logit")
    return file.getvalue()


def facts_in(file: Path) -> Any:
    """Return the facts in a program of torch.export, as JSON; `None` if the file is damaged or has none."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{FACTS}")]
            if len(names) != 1 or archive.testzip() is not None:
                return None
            return json.loads(archive.read(names[0]))
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


def as_read(facts: NetworkFacts) -> Any:
    """Return what `facts_in` returns of a file with these facts."""
    return json.loads(json.dumps(facts.to_json()))


def _onnx(program: Program, weights: TrainedWeights, facts: NetworkFacts) -> bytes:
    """Return an ONNX model for any number of examples.

    Raises:
        ExportError: the network cannot be exported, or is too large for one file.
    """
    with _explained("as ONNX"):
        exported = torch.onnx.export(
            program.network,
            program.example(2),
            dynamo=True,
            dynamic_shapes=program.dynamic_shapes,
            input_names=list(program.batch),
            output_names=list(program.outputs),
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, which have the folders of this machine
    entry = model.metadata_props.add()
    entry.key, entry.value = FACTS, json.dumps(facts.to_json())
    if (size := model.ByteSize()) > MAX_ONNX_BYTES:
        raise ExportError(f"the network has {size:,} bytes as ONNX, and one file of it at most {MAX_ONNX_BYTES:,}")
    return model.SerializeToString()


@contextmanager
def _explained(how: str) -> Iterator[None]:
    """Turn any error into one sentence with its first cause, and let PyTorch not warn of what it does itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # an operation of the user's own may raise anything, and ONNX has not every operation
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = first_line(str(cause))
        raise ExportError(f"PyTorch cannot write the network {how}: {type(cause).__name__}: {reason}") from error


FORMATS: Mapping[Form, Format] = MappingProxyType(
    {
        "torch-export": Format(
            suffix=".pt2",
            words="a program of torch.export, which has the network and its weights",
            needs="PyTorch 2.11 or newer",
            code=torch_export_code,
            runs=True,
            write=_torch_export,
        ),
        "onnx": Format(
            suffix=".onnx",
            words="an ONNX model, which has the network and its weights",
            needs="onnxruntime and NumPy",
            code=onnx_code,
            runs=True,
            write=_onnx,
        ),
        "safetensors": Format(
            suffix=".safetensors",
            words="the weights by name, with the architecture as JSON; it has no code",
            needs="safetensors and PyTorch",
            code=safetensors_code,
            runs=False,
            write=_safetensors,
        ),
    }
)
"""The formats by name."""
