import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from child_trainer.outcome import Budget
from child_trainer.tasks.catalogue import check_task, load_task, load_test
from child_trainer.training.task import TaskError
from child_trainer.training.train import train
from tests.golden import architecture
from tests.real_data import real

RAW = Path("FashionMNIST") / "raw"
BATCHES = Path("cifar-10-batches-py")
SMALL = architecture(((3, 3, 24, ()), (3, 3, 24, (1,))), strides=(2, 2))


@pytest.fixture(scope="module")
def fashion():
    return real("fashion-mnist")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    packed = real("cifar10-compact")
    out = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, str(packed / "unpack.py"), str(out)], check=True, capture_output=True)
    return out


def check_split(task, test, sizes, shape):
    assert (len(task.training), len(task.validation), len(test)) == sizes
    assert (task.input_shape, task.num_classes, task.flip) == (shape, 10, True)
    assert task.training.pixels.dtype == torch.uint8
    for part, smallest in ((task.training, 4000), (task.validation, 400), (test, 1000)):
        counts = part.labels.bincount()
        assert len(counts) == 10
        assert counts.min() >= smallest
    assert task.training.labels[:100].tolist() != sorted(task.training.labels[:100].tolist())


def test_fashion_mnist_is_read_split_and_learnt_from_a_read_only_folder(fashion):
    check_task("fashion-mnist", fashion)
    task = load_task("fashion-mnist", data=fashion, seed=1)
    test = load_test("fashion-mnist", data=fashion)
    check_split(task, test, (55_000, 5_000, 10_000), (1, 28, 28))
    # The published mean of the training images, 0.2860, of which the validation images are a fair sample.
    assert task.training.pixels.float().mean().item() / 255 == pytest.approx(0.2860, abs=0.001)
    outcome = train(SMALL, task, Budget(epochs=2, batch_size=64, train_fraction=0.04), seed=1)
    assert outcome.metric > 0.4  # Chance is 0.1.


def test_fashion_mnist_unpacked_is_the_same_as_packed(fashion, tmp_path):
    import gzip

    raw = tmp_path / RAW
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (raw / name).write_bytes(gzip.decompress((fashion / RAW / f"{name}.gz").read_bytes()))
    unpacked, packed = (load_task("fashion-mnist", data=path, seed=1) for path in (tmp_path, fashion))
    assert torch.equal(unpacked.training.pixels, packed.training.pixels)
    assert torch.equal(unpacked.validation.labels, packed.validation.labels)
    with pytest.raises(TaskError, match=r"t10k-images-idx3-ubyte\.gz is missing"):
        load_test("fashion-mnist", data=tmp_path)
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(TaskError, match=r"is corrupt \(it has 47,040,015 bytes instead of 47,040,016\)"):
        check_task("fashion-mnist", tmp_path)


def test_a_corrupt_fashion_mnist_is_refused(fashion, tmp_path):
    raw = tmp_path / RAW
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        shutil.copyfile(fashion / RAW / name, raw / name)
    check_task("fashion-mnist", tmp_path)
    labels = raw / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-5] + b"wrong")
    with pytest.raises(TaskError, match=r"train-labels-idx1-ubyte\.gz is corrupt .its md5.*`--download`"):
        check_task("fashion-mnist", tmp_path)


def test_cifar10_is_read_and_split(cifar):
    check_task("cifar10", cifar)
    task = load_task("cifar10", data=cifar, seed=1)
    check_split(task, load_test("cifar10", data=cifar), (45_000, 5_000, 10_000), (3, 32, 32))
    # The published means of the channels: 0.4914, 0.4822, 0.4465. In this order, so red is red.
    means = task.training.pixels.float().mean((0, 2, 3)) / 255
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), rtol=0, atol=0.002)


def test_a_corrupt_or_incomplete_cifar10_is_refused(cifar, tmp_path):
    shutil.copytree(cifar, tmp_path, dirs_exist_ok=True)
    batch = tmp_path / BATCHES / "data_batch_3"
    content = batch.read_bytes()
    batch.write_bytes(content[:-1] + b"!")
    with pytest.raises(TaskError, match=r"data_batch_3 is corrupt .its md5.*cifar-10-batches-py.*`--download`"):
        check_task("cifar10", tmp_path)
    batch.unlink()
    with pytest.raises(TaskError, match="data_batch_3 is missing"):
        load_task("cifar10", data=tmp_path, seed=1)
    with pytest.raises(TaskError, match="data_batch_1 is missing; `--data` must be a folder that holds cifar-10-batch"):
        check_task("cifar10", tmp_path / BATCHES)
