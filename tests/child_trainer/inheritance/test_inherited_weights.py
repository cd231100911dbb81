"""Networks after changes compute what they did before (T9.1, T9.2, T9.4, G16)."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from child_trainer.inheritance import inherited_weights
from child_trainer.inheritance.changed_architectures import changed, find_node, width_of
from child_trainer.inheritance.changes import (
    Branch,
    Deepen,
    InsertIdentity,
    InvalidChange,
    Repeat,
    ReplaceIdentity,
    Widen,
)
from child_trainer.inheritance.inherited_weights import inherited
from child_trainer.networks.build import build
from child_trainer.networks.weights import WrongWeights
from tests.child_trainer.inheritance.networks import (
    BARE,
    BOTTLENECK,
    DENSE,
    GROUPED,
    IMAGES,
    PLAIN,
    PROBLEM,
    child_of,
    conv,
    outputs,
    step,
    trained,
    weights_of,
)

PARENTS = {"plain": PLAIN, "dense": DENSE, "bottleneck": BOTTLENECK, "bare": BARE, "grouped": GROUPED}
PARENTS["signed"] = changed(PLAIN, [InsertIdentity(after="c3", name="i")])
PARENTS["vector"] = changed(PLAIN, [InsertIdentity(after="fc.relu", name="i")])
NETWORKS = {name: trained(parent) for name, parent in PARENTS.items()}

CHANGES = [
    ("plain", Widen(node="c1", width=11, noise=0)),
    ("plain", Widen(node="c2", width=9, noise=0)),
    ("plain", Widen(node="c3", width=20, noise=0)),  # through flatten
    ("plain", Widen(node="fc", width=13, noise=0)),  # read by the head alone
    ("dense", Widen(node="stem", width=7, noise=0)),  # read by all later layers, through two concatenations
    ("dense", Widen(node="d1", width=5, noise=0)),
    ("dense", Widen(node="d2", width=8, noise=0)),
    ("dense", Widen(node="d3", width=6, noise=0)),
    ("bare", Widen(node="linear", width=8, noise=0)),
    ("plain", Deepen(after="c1", name="new", op="conv", width=6, noise=0)),
    ("plain", Deepen(after="c2", name="new", op="conv", width=8, size=5, noise=0)),
    ("plain", Deepen(after="c2", name="new", op="conv", width=8, size=1, noise=0)),
    ("plain", Deepen(after="c2", name="new", op="conv", width=8, size=2, noise=0)),
    ("plain", Deepen(after="p", name="new", op="conv", width=8, noise=0)),
    ("plain", Deepen(after="fc.relu", name="new", op="linear", width=9, noise=0)),
    ("dense", Deepen(after="stem", name="new", op="conv", width=4, noise=0)),
    ("dense", Deepen(after="d3", name="new", op="conv", width=5, noise=0)),
    ("plain", Branch(node="c2", name="b", allocation="copy", merge="add", count=3)),
    ("plain", Branch(node="fc", name="b", allocation="copy", merge="add")),
    ("plain", Branch(node="c3", name="b", allocation="copy", merge="concat", count=2)),
    ("bare", Branch(node="c2", name="b", allocation="copy", merge="concat", count=3)),
    ("bare", Branch(node="linear", name="b", allocation="split", merge="add", count=3)),
    ("bare", Branch(node="skip", name="b", allocation="split", merge="concat", count=2)),
    ("bare", Branch(node="skip", name="b", allocation="copy", merge="add", count=2)),
    ("bare", Branch(node="dw", name="b", allocation="split", merge="concat", count=3)),
    ("plain", Branch(node="p", name="b", allocation="split", merge="concat", count=4)),
    ("dense", Repeat(node="d1", name="new", noise=0)),
    ("dense", Repeat(node="d2", name="new", noise=0)),  # read through batch_norm, a depthwise convolution and a pool
    ("bottleneck", Repeat(node="d1", name="new", noise=0)),
    ("bottleneck", Repeat(node="d2", name="new", noise=0)),
    ("grouped", Branch(node="g", name="b", allocation="split", merge="concat", count=2)),
    ("grouped", Branch(node="g", name="b", allocation="split", merge="concat", count=4)),
    ("grouped", Branch(node="pre", name="b", allocation="split", merge="concat", count=2)),
    ("grouped", Branch(node="g", name="b", allocation="copy", merge="add", count=2)),
    ("plain", InsertIdentity(after="c1", name="i")),
    ("plain", InsertIdentity(after="fc.relu", name="i")),
    ("bare", ReplaceIdentity(node="skip", op="conv", size=1, width=6, noise=0)),
    ("bare", ReplaceIdentity(node="skip", op="conv", size=2, width=6, noise=0)),
    ("bare", ReplaceIdentity(node="skip", op="separable_conv", size=3, width=6, noise=0)),
    ("bare", ReplaceIdentity(node="skip", op="separable_conv", size=7, width=6, noise=0)),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=str)
def test_a_changed_network_computes_the_same_until_it_is_trained(name, change):
    """T9.1 and G16: below 1e-5 in evaluation; after one step both differ by far more."""
    before = NETWORKS[name]
    after, child = child_of(PARENTS[name], before, change)
    expected = outputs(before)
    assert (outputs(child) - expected).abs().max() < 1e-5
    assert after.id != PARENTS[name].id
    step(child, torch.optim.SGD(child.parameters(), 0.05))
    assert (outputs(child) - expected).abs().max() > 1e-3


def test_the_copies_of_a_unit_share_its_outgoing_weights():
    """T9.2: over the copies of a unit, the weights that leave it sum to what they were."""
    before = weights_of(NETWORKS["plain"])
    _, child = child_of(PLAIN, NETWORKS["plain"], Widen(node="c1", width=17, noise=0))
    after = weights_of(child)
    rows = [tuple(row.flatten().tolist()) for row in before["c1/conv.weight"]]
    source = torch.tensor([rows.index(tuple(row.flatten().tolist())) for row in after["c1/conv.weight"]])
    assert source[:6].tolist() == list(range(6))
    assert max(Counter(source.tolist()).values()) > 1
    sums = torch.zeros_like(before["c2/conv.weight"]).index_add_(1, source, after["c2/conv.weight"])
    assert torch.allclose(sums, before["c2/conv.weight"], atol=1e-6)


def test_the_copy_of_a_dense_layer_shares_the_outgoing_weights_with_it():
    """T9.2, of each later layer: the weights that leave a channel and its copies sum to what left the channel."""
    before = weights_of(NETWORKS["bottleneck"])
    _, child = child_of(BOTTLENECK, NETWORKS["bottleneck"], Repeat(node="d1", name="new", noise=0))
    after = weights_of(child)
    rows = [tuple(row.flatten().tolist()) for row in before["d1/conv.weight"]]
    source = [4 + rows.index(tuple(row.flatten().tolist())) for row in after["new/conv.weight"]]
    # The order of what later layers read: stem, d1, new, and (of the last) d2.
    for reader, rest in (("d2.in", []), ("t", [7, 8, 9])):
        places = torch.tensor([*range(7), *source, *rest])
        weight = f"{reader}/conv.weight"
        sums = torch.zeros_like(before[weight]).index_add_(1, places, after[weight])
        assert torch.allclose(sums, before[weight], atol=1e-6)
    assert after["new.in/conv.weight"].shape == (12, 7, 1, 1)
    assert after["new.in/conv.weight"][:, 4:].eq(0).all()


def test_noise_tells_copies_apart_and_is_as_large_as_asked():
    _, child = child_of(PLAIN, NETWORKS["plain"], Widen(node="c2", width=800, noise=0.5))
    old, new = weights_of(NETWORKS["plain"])["c2/conv.weight"], weights_of(child)["c2/conv.weight"]
    assert torch.equal(new[:8], old)
    distance = torch.cdist(new[8:].flatten(1), old.flatten(1)).min(1).values / old[0].numel() ** 0.5
    assert distance.mean() == pytest.approx(0.5 * old.std().item(), rel=0.05)
    for name, change in (
        ("plain", Deepen(after="c1", name="new", op="conv", width=6)),
        ("bottleneck", Repeat(node="d1", name="new")),
    ):
        _, child = child_of(PARENTS[name], NETWORKS[name], change)
        assert 0 < (outputs(child) - outputs(NETWORKS[name])).abs().max() < 0.1


def test_noise_is_in_the_kernels_of_further_copies_alone():
    noisy = Branch(node="c2", name="b", allocation="copy", merge="add", count=3, noise=0.5)
    before = weights_of(NETWORKS["plain"])
    after = weights_of(child_of(PLAIN, NETWORKS["plain"], noisy)[1])
    for branch in ("b.2", "b.3"):
        assert not torch.equal(after[f"{branch}/conv.weight"], before["c2/conv.weight"])
        assert torch.equal(after[f"{branch}/norm.weight"], before["c2/norm.weight"])
    assert torch.equal(after["c2/conv.weight"], before["c2/conv.weight"])
    for name, parts in (
        ("plain", Branch(node="c2", name="b", allocation="copy", merge="concat", noise=0.5)),
        ("grouped", Branch(node="g", name="b", allocation="split", merge="concat", noise=0.5)),
        ("bare", Branch(node="linear", name="b", allocation="split", merge="add", noise=0.5)),
    ):
        _, child = child_of(PARENTS[name], NETWORKS[name], parts)
        assert (outputs(child) - outputs(NETWORKS[name])).abs().max() < 1e-5, name


HASHED = """
import torch
from child_trainer.inheritance.changes import Repeat
from tests.child_trainer.inheritance.networks import BOTTLENECK, child_of, trained, weights_of
weights = weights_of(child_of(BOTTLENECK, trained(BOTTLENECK, 0), Repeat(node="d1", name="new", noise=0.5))[1])
print(*(weights[f"{name}/conv.weight"].sum().item() for name in ("new.in", "new")))
"""


def test_equal_seeds_give_equal_weights_in_every_process():
    """Attempts in other processes, where strings hash otherwise: two whose set of the two convolutions is in another
    order.
    """
    first, second = (
        subprocess.run(
            [sys.executable, "-c", HASHED],
            env=os.environ | {"PYTHONHASHSEED": hashing},
            cwd=Path(__file__).parents[3],
            check=True,
            capture_output=True,
        ).stdout
        for hashing in ("1", "2")
    )
    assert first == second


def test_new_layers_are_measured_in_one_pass(monkeypatch):
    built = []
    monkeypatch.setattr(
        inherited_weights, "build", lambda *args, **kwargs: built.append(args) or build(*args, **kwargs)
    )
    changes = [Deepen(after="c1", name=f"n{place}", op="conv", width=6, noise=0.1) for place in range(4)]
    _, child = child_of(PLAIN, NETWORKS["plain"], *changes)
    assert len(built) == 1
    # Each is measured on what the noise before it leaves, and so gives that back but for its own.
    weights = weights_of(child)
    assert len({tuple(weights[f"n{place}/norm.bias"].tolist()) for place in range(4)}) == 4
    assert 0 < (outputs(child) - outputs(NETWORKS["plain"])).abs().max() < 1


def test_a_tree_of_merges_over_identities_is_the_identity():
    """T9.4: parts of the channels come back in their places, and a mean of copies is the value."""
    changes = (
        Branch(node="skip", name="outer", allocation="split", merge="concat", count=2),
        Branch(node="skip", name="inner", allocation="copy", merge="add", count=2),
        Branch(node="outer.2", name="other", allocation="split", merge="concat", count=3),
    )
    after, child = child_of(BARE, NETWORKS["bare"], *changes)
    merges = [(n.name, n.op, n.inputs) for n in after.nodes if n.op in ("concat", "mean")]
    assert merges == [
        ("inner", "mean", ("skip", "inner.2")),
        ("other", "concat", ("outer.2", "other.2", "other.3")),
        ("outer", "concat", ("inner", "other")),
    ]
    assert torch.equal(outputs(child), outputs(NETWORKS["bare"]))


def test_a_tree_grows_over_a_layer_and_computes_what_the_layer_did():
    """T9.4: as path-level EAS grows its cells: branches, nodes below them, operations in the place of identities."""
    changes = (
        Branch(node="g", name="root", allocation="split", merge="concat", count=2),
        InsertIdentity(after="root.2", name="below.1"),
        Branch(node="below.1", name="below", allocation="split", merge="concat", count=2),
        ReplaceIdentity(node="below.1", op="separable_conv", size=5, width=3, noise=0),
        ReplaceIdentity(node="below.2", op="conv", size=1, width=3, noise=0),
        InsertIdentity(after="below.2", name="deep.1"),
        Branch(node="deep.1", name="deep", allocation="copy", merge="add", count=3),
        ReplaceIdentity(node="deep.3", op="separable_conv", size=3, width=3, noise=0),
    )
    after, child = child_of(GROUPED, NETWORKS["grouped"], *changes)
    read = {n.name: n.inputs for n in after.nodes}
    assert (read["root"], read["below"], read["deep"]) == (
        ("g", "below"),
        ("below.1", "deep"),
        ("deep.1", "deep.2", "deep.3"),
    )
    assert (outputs(child) - outputs(NETWORKS["grouped"])).abs().max() < 1e-5


@pytest.mark.parametrize("op", ["max_pool", "avg_pool"])
def test_a_pool_in_the_place_of_an_identity_changes_the_function_and_no_weights(op):
    after, child = child_of(BARE, NETWORKS["bare"], ReplaceIdentity(node="skip", op=op))
    assert {name: tensor.tolist() for name, tensor in weights_of(child).items()} == {
        name: tensor.tolist() for name, tensor in weights_of(NETWORKS["bare"]).items()
    }
    assert (outputs(child) - outputs(NETWORKS["bare"])).abs().max() > 1e-3
    # What comes behind it begins as the identity of what the pool gives.
    grown = [
        InsertIdentity(after="skip", name="i"),
        ReplaceIdentity(node="i", op="separable_conv", width=6, noise=0),
    ]
    _, deeper = child_of(after, child, *grown)
    assert (outputs(deeper) - outputs(child)).abs().max() < 1e-5


CHAIN = (
    Widen(node="c1", width=9, noise=0),
    Deepen(after="c1", name="d1", op="conv", width=9, size=5, noise=0),
    Widen(node="d1", width=12, noise=0),
    Branch(node="d1", name="b", allocation="copy", merge="add"),
    Deepen(after="fc.relu", name="d2", op="linear", width=9, noise=0),
)


def test_names_survive_a_chain_of_changes():
    architecture, network = PLAIN, NETWORKS["plain"]
    for change in CHAIN:
        names = {(n.name, n.op) for n in architecture.nodes}
        architecture, network = child_of(architecture, network, change)
        assert names <= {(n.name, n.op) for n in architecture.nodes}
    assert (outputs(network) - outputs(NETWORKS["plain"])).abs().max() < 1e-5
    # One by one or all at once, it is the same network; its weights have the names that the first ones had.
    assert changed(PLAIN, CHAIN) == architecture
    assert set(weights_of(NETWORKS["plain"])) < set(weights_of(network))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["c1", "c2", "c3", "fc"]), st.integers(1, 9)), min_size=1, max_size=4))
def test_any_chain_of_wider_layers_keeps_the_function(steps):
    changes, widths = [], {name: width_of(find_node(PLAIN, name)) for name in ("c1", "c2", "c3", "fc")}
    for name, more in steps:
        widths[name] += more
        changes.append(Widen(node=name, width=widths[name], noise=0))
    _, child = child_of(PLAIN, NETWORKS["plain"], *changes)
    assert (outputs(child) - outputs(NETWORKS["plain"])).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("plain", Widen(node="c1", width=6), "node 'c1' has the width 6: a wider one needs more, got 6"),
        ("plain", Widen(node="gone", width=6), "the network has no node 'gone' to be changed"),
        ("plain", Widen(node="p", width=6), "node 'p' (max_pool) has no width"),
        ("plain", Deepen(after="c3", name="n", op="conv", width=7), "no identity behind 'c3' (conv)"),
        ("plain", Deepen(after="fc.relu", name="n", op="conv", width=9), "whose value is a vector"),
        ("plain", Deepen(after="c1", name="n", op="conv", width=5), "must have the width 6, got 5"),
        ("plain", Branch(node="fc", name="b", allocation="split", merge="concat"), "one of identity, max_pool"),
        ("plain", Branch(node="c1", name="b", allocation="split", merge="add"), "without batch normalisation and ReLU"),
        ("dense", Branch(node="j1", name="b", allocation="copy", merge="add"), "joins values"),
        ("plain", Branch(node="c1", name="b", allocation="copy", merge="add", count=9), "2 to 8 branches, got 9"),
        ("plain", Repeat(node="c1", name="n"), "node 'c1' (conv) is no layer of a dense block: choose a conv that"),
        ("dense", Repeat(node="stem", name="n"), "node 'stem' (conv) is no layer of a dense block"),
        ("bottleneck", Repeat(node="d1.in", name="n"), "node 'd1.in' (conv) is no layer of a dense block"),
        ("grouped", Branch(node="g", name="b", allocation="split", merge="concat", count=3), "or a conv with groups"),
        ("plain", InsertIdentity(after="gone", name="i"), "the network has no node 'gone' to be changed"),
        ("plain", ReplaceIdentity(node="c1", op="max_pool"), "node 'c1' (conv) cannot be replaced: choose an identity"),
        ("bare", ReplaceIdentity(node="skip", op="max_pool", width=6), "in the place of 'skip' has no `width`, got 6"),
        ("bare", ReplaceIdentity(node="skip", op="conv"), "a conv in the place of 'skip' needs `width`"),
        ("bare", ReplaceIdentity(node="skip", op="conv", width=5), "must have the width 6 of what node 'skip' reads"),
        ("signed", ReplaceIdentity(node="i", op="separable_conv", width=7), "reads 'c3', whose values may be negative"),
        ("vector", ReplaceIdentity(node="i", op="conv", width=9), "what node 'i' reads is a vector"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_by_name(name, change, message):
    with pytest.raises(InvalidChange, match=r".*") as refusal:
        child_of(PARENTS[name], NETWORKS[name], change)
    assert message in str(refusal.value)


def test_a_layer_that_is_added_to_others_or_read_by_place_is_not_widened():
    added = changed(PLAIN, [Branch(node="c2", name="b", allocation="copy", merge="add")])
    _, network = child_of(PLAIN, NETWORKS["plain"], Branch(node="c2", name="b", allocation="copy", merge="add"))
    with pytest.raises(InvalidChange, match="joins the layer with others of the same width"):
        child_of(added, network, Widen(node="c2", width=9))
    grouped = type(PLAIN)("feedforward", (conv("c1", "image"), conv("g", "c1", groups=2)), ("g",))
    with pytest.raises(InvalidChange, match="node 'g' \\(conv\\) reads the layer's channels by place"):
        child_of(grouped, trained(grouped), Widen(node="c1", width=8))


def test_the_weights_of_another_network_are_refused():
    with pytest.raises(WrongWeights, match="for which no weights are given"):
        inherited(
            PLAIN,
            weights_of(NETWORKS["dense"]),
            [Deepen(after="c1", name="n", op="conv", width=6)],
            PROBLEM,
            IMAGES,
            generator=torch.Generator(),
        )
