import errno
import json
import os
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.training.checkpoint import Checkpoint, CheckpointError, identity
from child_trainer.training.checkpoint_file import CheckpointFile
from tests.golden import architecture

IDENTITY = identity(architecture(), "digits", Budget(), seed=3, device="cpu")


def checkpoint(**changes):
    tensors = {
        "weight": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(7),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4),
        "nan": torch.tensor([float("nan"), float("inf")]),
    }
    given = {"identity": IDENTITY, "tensors": tensors, "curve": (0.1, 1 / 3), "step": 5, "seconds": 1.25, "flops": 10}
    return Checkpoint(**given | changes)


def test_everything_is_restored_to_the_bit():
    saved = checkpoint()
    read = Checkpoint.from_bytes(saved.to_bytes(), IDENTITY)
    assert (read.identity, read.curve, read.step, read.seconds) == (IDENTITY, saved.curve, 5, 1.25)
    assert (read.parameters, read.flops) == (None, 10)
    assert read.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        found = read.tensors[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert found.contiguous().flatten().view(torch.uint8).equal(tensor.contiguous().flatten().view(torch.uint8))


def test_any_reader_of_safetensors_can_open_it(tmp_path):
    from safetensors import safe_open

    (tmp_path / "c").write_bytes(checkpoint().to_bytes())
    with safe_open(tmp_path / "c", framework="pt") as file:
        assert file.metadata()["format"] == "nascluster-child-1"
        assert file.get_tensor("scalar") == 7


def test_a_checkpoint_may_have_no_tensors():
    read = Checkpoint.from_bytes(checkpoint(tensors={}).to_bytes())
    assert (dict(read.tensors), read.curve) == ({}, (0.1, 1 / 3))


WHOLE = checkpoint().to_bytes()


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_detected(place, difference):
    data = bytearray(WHOLE)
    data[place] ^= difference
    with pytest.raises(CheckpointError, match=r"damaged|must have the format"):
        Checkpoint.from_bytes(bytes(data))


@given(st.integers(0, len(WHOLE) - 1))
def test_any_truncation_is_detected(length):
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.from_bytes(WHOLE[:length])


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"\xff" * 100, WHOLE + b"x", (10**5).to_bytes(8, "little") + b"[" * 10**5, b"\x02" + bytes(7) + b"[]"],
    ids=["nothing", "braces", "ones", "one byte more", "brackets", "a list"],
)
def test_bytes_that_are_not_a_checkpoint_are_rejected(data):
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.from_bytes(data)


def test_another_format_is_refused():
    data = WHOLE.replace(b"nascluster-child-1", b"nascluster-child-2")
    with pytest.raises(CheckpointError, match="must have the format 'nascluster-child-1', got 'nascluster-child-2'"):
        Checkpoint.from_bytes(data)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"architecture": architecture(((3, 3, 24, ()),))}, "architecture"),
        ({"task": "cifar10"}, "task"),
        ({"seed": 4}, "seed"),
        ({"device": "cuda:1"}, "device"),
        *(({"budget": Budget(**{name: value})}, name) for name, value in {
            "epochs": 3, "batch_size": 64, "train_fraction": 0.5, "learning_rate": 0.2, "weight_decay": 0.0,
            "momentum": 0.5,
        }.items()),
        *(({"budget": Budget(regime=Regime(**{name: value}))}, name) for name, value in {
            "optimizer": "adam", "adam_betas": (0.5, 0.9), "rmsprop_decay": 0.5, "optimizer_epsilon": 0.1,
            "schedule": "cosine", "decay_at": (0.5,), "decay_every": 2.0, "decay": 0.5, "warmup_epochs": 1.0,
            "clip_norm": 5.0, "label_smoothing": 0.1, "cutout": 4, "path_keep": 0.6, "auxiliary_weight": 0.4,
            "norm_epsilon": 1e-3, "norm_momentum": 0.01, "initial": "xavier", "restart_below": 0.15,
            "restart_decay": 0.5, "restarts": 1, "precision": "bfloat16",
        }.items()),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_training_is_rejected_with_the_difference(changes, name):
    usual = {"architecture": architecture(), "task": "digits", "budget": Budget(), "seed": 3, "device": "cpu"} | changes
    other = identity(usual.pop("architecture"), usual.pop("task"), usual.pop("budget"), **usual)
    with pytest.raises(CheckpointError, match=f"of another training: its {name} is "):
        Checkpoint.from_bytes(WHOLE, other)


def test_every_field_of_a_regime_is_part_of_the_identity():
    assert {f.name for f in fields(Regime)} <= IDENTITY.keys()


def test_a_checkpoint_from_before_the_regimes_is_of_the_default_one():
    before = {name: value for name, value in IDENTITY.items() if name not in Regime().plain()}
    old = checkpoint(identity=before).to_bytes()
    assert Checkpoint.from_bytes(old, IDENTITY).curve == (0.1, 1 / 3)
    other = identity(architecture(), "digits", Budget(regime=Regime(cutout=4)), seed=3, device="cpu")
    with pytest.raises(CheckpointError, match="of another training: its cutout is 0, not 4"):
        Checkpoint.from_bytes(old, other)


def test_isomorphic_networks_with_another_order_of_weights_differ():
    ops = [node(name, "conv", "image", filters=8, height=size, width=size) for name, size in (("a", 1), ("b", 3))]
    end = node("end", "add", ["a", "b"])
    one, other = (Architecture("feedforward", (*nodes, end), ("end",)) for nodes in (ops, ops[::-1]))
    assert one.id == other.id
    identities = [identity(graph, "digits", Budget(), seed=1, device="cpu") for graph in (one, other)]
    assert identities[0] != identities[1]
    sent = Architecture.from_json(json.loads(json.dumps(one.to_json())))
    assert identity(sent, "digits", Budget(), seed=1, device="cpu") == identities[0]


def test_the_time_limit_and_the_gpus_number_may_change():
    longer = identity(architecture(), "digits", replace(Budget(), max_seconds=9.0), seed=3, device="cpu:0")
    assert longer == IDENTITY


def test_a_file_is_replaced_atomically(tmp_path):
    slot = CheckpointFile(tmp_path / "c.safetensors")
    assert slot.load() is None
    for data in (b"one", b"two"):
        slot.save(data)
        assert slot.load() == data
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_file_that_cannot_be_written_keeps_what_it_held(tmp_path, monkeypatch):
    slot = CheckpointFile(tmp_path / "c")
    slot.save(b"old")

    def disk_is_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(OSError, match="no space left"):
        slot.save(b"new")
    assert slot.load() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
