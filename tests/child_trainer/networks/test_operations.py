import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from child_trainer.architectures.architecture import node
from child_trainer.architectures.operation_types import CONVOLUTION_ORDERS, OPERATIONS
from child_trainer.networks.operations import MODULES, LastReLU, Site, same_padding

MAP = (4, 7, 6)
WINDOW = {"height": 3, "width": 2, "stride_height": 2, "stride_width": 3}


def make(op, shapes, hidden_size=None, **attributes):
    names = [f"i{k}" for k in range(len(shapes))]
    return MODULES[op](Site(node("n", op, names, **attributes), tuple(shapes), hidden_size))


def test_exactly_the_known_operations_have_modules():
    assert MODULES.keys() == OPERATIONS.keys()


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "result"),
    [
        ("conv", [MAP], WINDOW | {"filters": 8}, (8, 4, 2)),
        ("conv", [MAP], {"height": 3, "width": 3, "filters": 8, "groups": 2, "dilation": 2}, (8, 7, 6)),
        ("depthwise_conv", [MAP], WINDOW | {"multiplier": 3}, (12, 4, 2)),
        ("max_pool", [MAP], WINDOW, (4, 4, 2)),
        ("avg_pool", [MAP], WINDOW, (4, 4, 2)),
        ("max_pool", [(4, 9, 8)], {"height": 5, "width": 5, "stride_height": 3, "padding": "valid"}, (4, 2, 4)),
        ("avg_pool", [MAP], {"height": 2, "width": 2, "stride_width": 2, "padding": "valid"}, (4, 6, 3)),
        ("global_avg_pool", [MAP], {}, (4,)),
        ("flatten", [MAP], {}, (168,)),
        ("linear", [(5,)], {"units": 9}, (9,)),
        ("concat", [MAP, (3, 7, 6)], {}, (7, 7, 6)),
        ("concat", [(2,), (3,)], {}, (5,)),
        ("concat", [MAP, (3, 9, 2)], {"pad": True}, (7, 9, 6)),
        ("add", [MAP, MAP, MAP], {}, MAP),
        ("multiply", [MAP, MAP], {}, MAP),
        ("mean", [MAP, MAP], {}, MAP),
        ("maximum", [MAP, MAP], {}, MAP),
        ("subtract", [MAP, MAP], {}, MAP),
        ("interpolate", [MAP, MAP, MAP], {}, MAP),
        *((op, [MAP], {}, MAP) for op in ("identity", "zero", "relu", "relu6", "leaky_relu", "tanh", "sigmoid", "sin")),
        ("batch_norm", [MAP], {}, MAP),
        ("batch_norm", [(5,)], {}, (5,)),
        ("local_contrast_norm", [MAP], {"size": 3}, MAP),
        ("dropout", [MAP], {"rate": 0.5}, MAP),
        ("drop_path", [MAP], {"depth": 0.5}, MAP),
        ("shift", [MAP], {"height": 2, "width": -1}, MAP),
        ("split", [MAP], {"parts": 2, "index": 1}, (2, 7, 6)),
        ("scale", [MAP], {"by": -1.5}, MAP),
        ("logistic", [MAP], {"slope": 4.9}, MAP),
        ("constant", [(2,)], {"value": 1.0}, (2,)),
    ],
)
def test_the_shape_that_an_operation_gives(op, shapes, attributes, result):
    inputs = [torch.randn(3, *shape, requires_grad=True) for shape in shapes]
    output = make(op, shapes, **attributes)(*inputs)
    assert output.shape == (3, *result)
    assert output.isfinite().all()
    if op not in ("zero", "constant"):  # Nothing of its input is left in it.
        output.sum().backward()
        assert all(x.grad is not None for x in inputs)


def test_the_table_above_covers_every_operation():
    mark = next(m for m in test_the_shape_that_an_operation_gives.pytestmark if m.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == OPERATIONS.keys() - {"part", "mix"}


def test_a_part_of_a_drawing_cannot_be_built():
    with pytest.raises(ValueError, match="a part is a box of a drawing, which cannot be built"):
        make("part", [MAP], label="sep 3x3")


def test_an_open_choice_cannot_be_built():
    with pytest.raises(ValueError, match="restrict the supernet first"):
        make("mix", [MAP, MAP], gate="edge")


A, B, C = torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0, 3.0]]), torch.tensor([[-7.0, 5.0]])


def test_what_operations_with_a_number_compute():
    torch.testing.assert_close(make("scale", [(2,)], by=-1.5)(A), torch.tensor([[-1.5, 3.0]]))
    expected = torch.tensor([[1 / (1 + math.exp(-4.9)), 1 / (1 + math.exp(9.8))]])
    torch.testing.assert_close(make("logistic", [(2,)], slope=4.9)(A), expected)
    torch.testing.assert_close(make("constant", [(2,)], value=0.25)(A), torch.tensor([[0.25, 0.25]]))


@pytest.mark.parametrize(
    ("op", "expected"),
    [("add", [-2, 6]), ("multiply", [-28, -30]), ("mean", [-2 / 3, 2]), ("maximum", [4, 5]), ("concat", None)],
)
def test_what_a_combination_computes(op, expected):
    expected = torch.tensor([expected]) if expected else torch.tensor([[1.0, -2.0, 4.0, 3.0, -7.0, 5.0]])
    torch.testing.assert_close(make(op, [(2,)] * 3)(A, B, C), expected.float())


def test_what_the_small_operations_compute():
    torch.testing.assert_close(make("subtract", [(2,)] * 2)(A, B), torch.tensor([[-3.0, -5.0]]))
    expected = torch.tensor([[1.0 + 4 * (-7 - 1), -2.0 + 3 * (5 + 2)]])
    torch.testing.assert_close(make("interpolate", [(2,)] * 3)(A, C, B), expected)
    torch.testing.assert_close(make("relu6", [(2,)])(torch.tensor([[9.0, -1.0]])), torch.tensor([[6.0, 0.0]]))
    torch.testing.assert_close(make("leaky_relu", [(2,)])(torch.tensor([[9.0, -1.0]])), torch.tensor([[9.0, -0.01]]))
    torch.testing.assert_close(make("sin", [(2,)])(A), torch.tensor([[math.sin(1), math.sin(-2)]]))
    assert make("zero", [(2,)])(torch.tensor([[math.inf, 1.0]])).tolist() == [[0.0, 0.0]]
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert make("shift", [(1, 3, 3)])(image).tolist() == [[[[4, 5, 0], [7, 8, 0], [0, 0, 0]]]]
    halves = [make("split", [MAP], parts=2, index=i)(torch.arange(4.0).reshape(1, 4, 1, 1)) for i in (0, 1)]
    assert torch.cat(halves, 1).flatten().tolist() == [0, 1, 2, 3]


@given(side=st.integers(1, 40), window=st.integers(1, 9), stride=st.integers(1, 5), dilation=st.integers(1, 3))
def test_same_padding_agrees_with_tensorflows_formula(side, window, stride, dilation):
    # As TensorFlow's documentation writes it, by the remainder of the side.
    reach = (window - 1) * dilation + 1
    total = max(reach - stride, 0) if side % stride == 0 else max(reach - side % stride, 0)
    left, right, top, bottom = same_padding((side, 50), (window, 1), (stride, 1), dilation)
    assert (top, bottom) == (total // 2, total - total // 2)
    assert (left, right) == (0, 0)


@settings(max_examples=40)
@given(
    op=st.sampled_from(("conv", "depthwise_conv", "max_pool", "avg_pool")),
    sides=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    window=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_every_window_gives_the_ceiling_of_side_over_stride(op, sides, window, stride):
    attributes = dict(zip(("height", "width", "stride_height", "stride_width"), (*window, *stride), strict=True))
    attributes |= {"filters": 2} if op == "conv" else {}
    output = make(op, [(2, *sides)], **attributes).eval()(torch.randn(1, 2, *sides))
    assert output.shape[2:] == tuple(math.ceil(side / step) for side, step in zip(sides, stride, strict=True))


@settings(max_examples=40)
@given(
    kind=st.sampled_from(("max_pool", "avg_pool")),
    side=st.integers(1, 9),
    window=st.integers(1, 5),
    stride=st.integers(1, 4),
)
def test_pools_see_only_the_image(kind, side, window, stride):
    image = torch.randn(1, 1, side, side) - 3  # All but surely negative: a zero of the padding would win a maximum.
    pool = make(kind, [(1, side, side)], height=window, width=window, stride_height=stride, stride_width=stride)
    _, _, before, _ = same_padding((side, side), (window, window), (stride, stride))
    found = pool(image)[0, 0]
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            top, left = row * stride - before, column * stride - before
            seen = image[0, 0, max(top, 0) : top + window, max(left, 0) : left + window]
            torch.testing.assert_close(found[row, column], seen.max() if kind == "max_pool" else seen.mean())


def test_concat_pads_evenly_and_the_odd_row_goes_to_the_bottom_right():
    large, small = torch.ones(1, 1, 5, 6), torch.full((1, 2, 2, 3), 7.0)
    joined = make("concat", [(1, 5, 6), (2, 2, 3)], pad=True)(large, small)
    canvas = torch.zeros(1, 2, 5, 6)
    canvas[:, :, 1:3, 1:4] = 7.0
    assert torch.equal(joined, torch.cat([large, canvas], dim=1))


@pytest.mark.parametrize("order", CONVOLUTION_ORDERS)
def test_a_convolution_is_laid_out_in_its_order_and_leaves_its_input_alone(order):
    module = make("conv", [MAP], height=2, width=2, filters=8, order=order)
    names = {"ZeroPad2d": None, "Conv2d": "conv", "BatchNorm2d": "bn", "ReLU": "relu", "LastReLU": "relu"}
    assert "-".join(filter(None, (names[type(m).__name__] for m in module))) == order.removesuffix("-unbiased")
    image = torch.randn(2, *MAP)
    before = image.clone()
    module(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize("order", CONVOLUTION_ORDERS)
def test_a_convolution_has_a_bias_unless_normalisation_follows_it(order):
    convolution = next(m for m in make("conv", [MAP], filters=8, order=order, **WINDOW) if hasattr(m, "weight"))
    if isinstance(convolution, torch.nn.BatchNorm2d):  # bn-relu-conv
        convolution = make("conv", [MAP], filters=8, order=order, **WINDOW)[-1]
    assert (convolution.bias is None) == ("conv-bn" in order or order == "conv-unbiased")


@pytest.mark.parametrize(
    ("op", "own"), [("conv", {"filters": 8, **WINDOW}), ("depthwise_conv", WINDOW), ("batch_norm", {})]
)
def test_a_normalisation_may_have_no_weights(op, own):
    with_weights, without = (make(op, [MAP], affine=affine, **own) for affine in (True, False))
    norms = [[m for m in made.modules() if isinstance(m, torch.nn.BatchNorm2d)] for made in (with_weights, without)]
    assert [m.affine for m in norms[0]] == [True]
    assert [m.affine for m in norms[1]] == [False]
    channels = norms[0][0].num_features
    count = [sum(p.numel() for p in made.parameters()) for made in (with_weights, without)]
    assert count[0] - count[1] == 2 * channels


def test_local_contrast_normalisation_removes_brightness_and_contrast():
    normalise = make("local_contrast_norm", [(2, 9, 9)], size=3)
    image = torch.randn(1, 2, 9, 9)
    torch.testing.assert_close(normalise(5 * image + 2), normalise(image), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(normalise(image), image)


def test_a_linear_map_without_units_has_the_cells_width():
    assert make("linear", [(5,)], hidden_size=7)(torch.randn(2, 5)).shape == (2, 7)
    with pytest.raises(ValueError, match="`units` must be at least 1 outside a recurrent cell"):
        make("linear", [(5,)])


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "sentence"),
    [
        ("conv", [(4,)], WINDOW | {"filters": 8}, "takes a feature map"),
        ("conv", [MAP], WINDOW | {"filters": 9, "groups": 2}, "2 groups .* 4 channels and 9 filters"),
        ("conv", [MAP], WINDOW | {"filters": 9, "groups": 3}, "3 groups .* 4 channels and 9 filters"),
        ("max_pool", [(4,)], WINDOW, "takes a feature map"),
        ("global_avg_pool", [(4,)], {}, "takes a feature map"),
        ("linear", [MAP], {"units": 3}, "put `flatten` or `global_avg_pool` before it"),
        ("concat", [MAP, (4, 6, 7)], {}, "same height and width, unless `pad` is true"),
        ("concat", [MAP, (4,)], {"pad": True}, "all feature maps or all vectors"),
        *((op, [MAP, (3, 7, 6)], {}, "must have the same shape") for op in ("add", "multiply", "mean", "maximum")),
        ("subtract", [MAP, (4, 1, 1)], {}, "must have the same shape"),
        ("split", [MAP], {"parts": 3, "index": 0}, "part 0 of 3 equal parts of 4 channels does not exist"),
        ("split", [MAP], {"parts": 2, "index": 2}, "part 2 of 2 equal parts of 4 channels does not exist"),
        ("shift", [MAP], {"height": 7}, r"a shift by \(7, 1\) pixels leaves nothing of it"),
    ],
)
def test_inputs_that_do_not_fit_are_rejected_with_the_reason(op, shapes, attributes, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(op, shapes, **attributes)


def test_convolution_agrees_with_explicit_padding():
    module = make("conv", [(4, 5, 5)], height=4, width=3, filters=2, stride_height=2, stride_width=2, order="conv")
    convolution = module[-1]
    image = torch.randn(1, 4, 5, 5)
    padded = F.pad(image, (1, 1, 1, 2))
    expected = F.conv2d(padded, convolution.weight, convolution.bias, stride=2)
    torch.testing.assert_close(module(image), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_a_last_relu_has_its_outputs_layout_and_pytorchs_values(layout):
    values = torch.randn(2, 5, 4, 6).contiguous(memory_format=layout)
    gradient = torch.randn(2, 9, 4, 6)[:, 2:7]

    def through(relu):
        leaf = values.clone().requires_grad_()
        seen = []
        before = leaf * 1
        before.register_hook(seen.append)
        relu(before).backward(gradient)
        return leaf.grad, seen[0]

    ours, theirs = through(LastReLU()), through(torch.nn.ReLU())
    assert torch.equal(ours[0], theirs[0])
    assert ours[1].is_contiguous(memory_format=layout)
    assert ours[1].stride() == theirs[1].stride()
