import torch

from ps.slices import Slices, as_slices


def test_slices_are_views_of_one_buffer():
    slices = Slices({"a": 2, "b": 0, "c": 3}, torch.arange(5.0))
    assert {name: slice.tolist() for name, slice in slices.items()} == {"a": [0, 1], "b": [], "c": [2, 3, 4]}
    assert slices.offsets == {"a": 0, "b": 2, "c": 2}
    slices["c"].fill_(7)
    assert slices.flat.tolist() == [0, 1, 7, 7, 7]


def test_slices_of_tensors_are_copies():
    tensors = {"w": torch.ones(2, 2).T, "s": torch.tensor(3.0)}
    slices = as_slices(tensors)
    assert slices.sizes == {"w": 4, "s": 1}
    slices.flat.zero_()
    assert tensors["s"] == 3
    assert as_slices(slices) is slices


def test_no_tensors_are_no_slices():
    assert dict(Slices.of({})) == dict(Slices({}, torch.empty(0))) == {}
