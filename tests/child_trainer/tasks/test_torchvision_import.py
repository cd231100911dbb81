import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from child_trainer.tasks import torchvision_import as vision


def test_data_sets_can_be_imported_whatever_torchvision_was_built_for():
    assert vision.datasets.CIFAR10.base_folder == "cifar-10-batches-py"
    assert vision.datasets.__name__ == "torchvision.datasets"


def test_another_error_of_the_import_passes(monkeypatch):
    def fail(name):
        raise RuntimeError("another thing is wrong")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="another thing is wrong"):
        vision._import_torchvision()


def test_nobody_else_imports_torchvision_and_digits_are_read_without_scikit_learn():
    program = (
        "import sys, child_trainer.__main__, child_trainer.networks.build\n"
        "from child_trainer.tasks import digits\n"
        "digits.load_test('digits', None, None, device='cpu')\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('torchvision', 'sklearn')])"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
    sources = {p.name for p in (root / "child_trainer").rglob("*.py") if "import torchvision\n" in p.read_text()}
    assert sources == set()
