"""Validation of layouts, values and pushes. Local store, client and shard share it, so they refuse the same things."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ps.errors import NonFinite, ShapeMismatch, TooLarge, UnknownParameter
from ps.optimizer_options import has_rate
from ps.slices import Slices, as_slices
from ps.store import Layout, Push

MAX_MAGNITUDE = 1e18
"""The largest absolute value that is accepted. Adam stores squares, and float32 ends at 3.4e38: a square that
overflowed would stay infinite and silently freeze its parameter."""


def check_layout(layout: Layout, max_bytes: int) -> None:
    """Raise `TooLarge` unless what each shard holds of the layout is within `max_bytes`."""
    size = 4 * math.ceil(layout.elements / layout.shards)
    if size > max_bytes:
        raise TooLarge(
            f"the layout holds {size} bytes of tensors on a shard, above the limit of {max_bytes}: more shards, of"
            f" which it has {layout.shards}, hold less each"
        )


def check_values(layout: Layout, values: Mapping[str, Tensor], max_bytes: int) -> Slices:
    """Return copies of the values in the layout's order, if they can initialise.

    Raises:
        UnknownParameter, ShapeMismatch, NonFinite, TooLarge: they cannot.
    """
    if missing := [name for name in layout.shapes if name not in values]:
        raise UnknownParameter(f"initial values must cover the layout, missing: {', '.join(missing)}")
    _check_size(layout, values, max_bytes)
    return _flattened(layout, values)


def check_push(layout: Layout, push: Push, max_bytes: int) -> Slices:
    """Return copies of a push's gradients in the layout's order; raise its first error, see `ParameterStore.push`."""
    if len(push.versions) != layout.shards or not all(type(v) is int and v >= 0 for v in push.versions):
        raise ValueError(f"`versions` must be {layout.shards} integers of at least 0, got {push.versions}")
    if push.applied and (
        len(push.applied) != layout.shards or not all(type(n) is int and n >= 0 for n in push.applied)
    ):
        raise ValueError(f"`applied` must be empty or {layout.shards} integers of at least 0, got {push.applied}")
    check_rated(layout, push.rates)
    _check_size(layout, push.gradients, max_bytes)
    return _flattened(layout, push.gradients)


def check_rated(layout: Layout, rates: Mapping[str, float]) -> None:
    """Raise `UnknownParameter` unless each group with a rate is in the layout and has a learning rate."""
    rated = [group.name for group in layout.groups if has_rate(group.optimizer)]
    if unknown := sorted(set(rates) - set(rated)):
        raise UnknownParameter(
            f"`rates` may name the groups with a learning rate ({', '.join(rated)}), got {', '.join(unknown)}"
        )


def check_names(known: Mapping[str, object], names: Sequence[str]) -> None:
    """Raise `UnknownParameter` with the `names` that are not `known`, if there are any."""
    if not known.keys() >= set(names):
        unknown = sorted(set(names) - known.keys())
        raise UnknownParameter(f"the layout has no tensor named {', '.join(map(repr, unknown))}")


def check_tensors(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> None:
    """Raise the error of the first tensor that does not fit `shapes`; the cheap checks come first."""
    check_names(shapes, list(tensors))
    if not isinstance(tensors, Slices) or any(shapes[name] != (size,) for name, size in tensors.sizes.items()):
        for name, tensor in tensors.items():
            _check_form(name, tensor, shapes[name])
    slices = as_slices(tensors)
    if not slices.is_finite:
        _check_finite(slices)


def check_token(token: str) -> None:
    """Raise `ValueError` unless the token can travel in a header; the message does not repeat it."""
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError(f"`token` must be printable ASCII and not empty, got {len(token)} characters that are not")


def _check_size(layout: Layout, tensors: Mapping[str, Tensor], max_bytes: int) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values() if isinstance(tensor, Tensor))
    if size > (limit := max_bytes * layout.shards):
        raise TooLarge(f"the tensors take {size} bytes, above the limit of {limit}")


def _check_form(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(tensor, Tensor):
        raise ShapeMismatch(f"{name!r} must be a tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided:
        raise ShapeMismatch(f"{name!r} must be dense, got {tensor.layout}")
    if tensor.dtype != torch.float32:
        raise ShapeMismatch(f"{name!r} must be torch.float32, got {tensor.dtype}")
    if tensor.shape != shape:
        raise ShapeMismatch(f"{name!r} must have the shape {shape}, got {tuple(tensor.shape)}")


def _flattened(layout: Layout, tensors: Mapping[str, Tensor]) -> Slices:
    """Return copies of valid tensors, from any device, in the layout's order."""
    check_names(layout.shapes, list(tensors))
    for name, tensor in tensors.items():
        _check_form(name, tensor, layout.shapes[name])
    slices = Slices.of({name: tensors[name] for name in layout.shapes if name in tensors})
    _check_finite(slices)
    slices.is_finite = True
    return slices


def are_finite(elements: Tensor) -> bool:
    """Return whether all elements are finite and within the limit."""
    if not elements.numel():
        return True
    lowest, highest = torch.aminmax(elements)  # each is a NaN if any element is
    return lowest.item() >= -MAX_MAGNITUDE and highest.item() <= MAX_MAGNITUDE


def _check_finite(slices: Slices) -> None:
    # All at once, as a policy has many small tensors and nearly every push is good.
    if are_finite(slices.flat):
        return
    for name, elements in slices.items():
        allowed = elements.abs() <= MAX_MAGNITUDE  # false for NaN, too
        if not bool(allowed.all()):
            index = int((~allowed).nonzero()[0])
            value, limit = elements[index].item(), f"{MAX_MAGNITUDE:g}"
            raise NonFinite(
                f"{name!r} must be finite and within {limit}, got {value} at element {index} of {len(elements)}"
            )
