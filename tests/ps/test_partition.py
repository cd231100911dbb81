import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ps.partition import Segment, join, partition, split
from ps.slices import Slices

SHAPES = st.lists(st.lists(st.integers(1, 5), max_size=3).map(tuple), min_size=1, max_size=8).map(
    lambda shapes: {f"t{i}": shape for i, shape in enumerate(shapes)}
)


@st.composite
def shapes_and_shards(draw: st.DrawFn) -> tuple[dict[str, tuple[int, ...]], int]:
    shapes = draw(SHAPES)
    return shapes, draw(st.integers(1, sum(math.prod(shape) for shape in shapes.values())))


def test_ranges_cross_tensors_in_the_declared_order():
    assert partition({"w": (2, 3), "b": (), "v": (4,)}, 3) == (
        (Segment("w", 0, 3),),
        (Segment("w", 3, 6), Segment("b", 0, 1)),
        (Segment("v", 0, 4),),
    )


@given(shapes_and_shards())
def test_every_element_lies_on_one_shard_and_shards_are_balanced(case: tuple[dict[str, tuple[int, ...]], int]):
    shapes, shards = case
    parts = partition(shapes, shards)
    placed = [(s.name, element) for segments in parts for s in segments for element in range(s.start, s.stop)]
    assert placed == [(name, element) for name, shape in shapes.items() for element in range(math.prod(shape))]
    sizes = [sum(s.size for s in segments) for segments in parts]
    assert len(sizes) == shards
    assert max(sizes) - min(sizes) <= 1
    for segments in parts:
        assert len({s.name for s in segments}) == len(segments)


@given(shapes_and_shards(), st.data())
def test_join_undoes_split(case: tuple[dict[str, tuple[int, ...]], int], data: st.DataObject):
    shapes, shards = case
    names = data.draw(st.sets(st.sampled_from(sorted(shapes))))
    tensors = {name: torch.randn(shape) for name, shape in shapes.items() if name in names}
    parts = partition(shapes, shards)
    joined = join({name: shapes[name] for name in tensors}, split(parts, Slices.of(tensors)))
    assert joined.keys() == tensors.keys()
    assert all(torch.equal(joined[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("shards", [0, -1, 12])
def test_no_shard_may_be_empty(shards: int):
    with pytest.raises(ValueError, match=rf"from 1 to the number of elements \(11\), got {shards}"):
        partition({"w": (2, 5), "b": ()}, shards)
