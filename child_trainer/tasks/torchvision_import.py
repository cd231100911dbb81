"""torchvision, imported in this one place, also where its compiled operators do not match PyTorch's build.

A torchvision wheel built for CUDA beside a CPU build of PyTorch fails at import, because it registers Python
code for its own operators before it loads them. Data sets need none of these operators, so on that very error
their names are declared by hand and the import is tried again.
"""

import importlib
import sys
from types import ModuleType

import torch

# The schemas of torchvision's own C++ registrations; without a kernel, calling one is an error, as it should be.
_missing_operators = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _import_torchvision() -> ModuleType:
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name, schema in _missing_operators.items():
        torch.library.define(name, schema)
    return importlib.import_module("torchvision.datasets")


datasets = _import_torchvision()
"""`torchvision.datasets`."""
