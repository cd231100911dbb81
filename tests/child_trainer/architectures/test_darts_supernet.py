from collections import Counter

from child_trainer.architectures.cells.darts_supernet import CELLS, NONE, OPERATIONS, edges, gate, supernet
from child_trainer.architectures.gates import gate_sizes
from child_trainer.supernets.restriction import restrict

SUPERNET = supernet(cells=3, filters=4)


def test_every_edge_of_each_kind_of_cell_has_a_gate_in_darts_order():  # spec §12.1
    assert edges()[:5] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert len(edges()) == 14
    assert gate_sizes(SUPERNET) == {gate(cell, edge): 8 for cell in CELLS for edge in edges()}


def test_a_mix_reads_the_operations_in_darts_order():
    by_name = {n.name: n for n in SUPERNET.nodes}
    inputs = by_name["normal1.0-2"].inputs
    older = by_name["normal1.0-2.sep_3x3.1.relu"].inputs[0]
    names = [f"normal1.0-2.{operation}" for operation in OPERATIONS]
    assert [name.startswith(prefix) for name, prefix in zip(inputs, names, strict=True)] == [
        operation != "identity" for operation in OPERATIONS
    ]
    assert inputs[3] == older == "normal1.older"


def test_normalisation_has_weights_in_the_stem_only():
    affine = [n.name for n in SUPERNET.nodes if n.op in ("conv", "batch_norm") and n.attribute("affine")]
    normalised = [
        name for name in affine if next(n for n in SUPERNET.nodes if n.name == name).attribute("order") == "conv-bn"
    ]
    assert normalised == ["stem"]


def derived(chosen: dict[tuple[str, tuple[int, int]], str]) -> dict[str, list[float]]:
    return {
        gate(cell, edge): [float(chosen.get((cell, edge)) == operation) for operation in OPERATIONS]
        for cell in CELLS
        for edge in edges()
    }


def test_a_derived_cell_has_two_edges_for_each_node():
    """As in `spec §12.3`: of each node, all edges but two are left out, and the sum has the values of these."""
    chosen = {
        (cell, (source, target)): operation
        for cell in CELLS
        for target in range(2, 6)
        for source, operation in ((0, "sep_3x3"), (1, "identity"))
    }
    child = restrict(SUPERNET, derived(chosen))
    by_name = {n.name: n for n in child.nodes}
    assert by_name["normal1.5"].inputs == ("normal1.0-5.sep_3x3.2.pointwise", "normal1.newer")
    # In a reduction cell, an identity of an input halves the image.
    assert by_name["reduction2.2"].inputs[1] == "reduction2.1-2.identity.norm"
    assert Counter(n.op for n in child.nodes)["depthwise_conv"] == 3 * 4 * 2
    assert not any(n.op in ("mix", "zero") for n in child.nodes)


def test_an_edge_may_give_nothing():
    chosen = {(cell, edge): NONE if edge[0] == 0 else "avg_3x3" for cell in CELLS for edge in edges()}
    child = restrict(SUPERNET, derived(chosen))
    zeros = [n for n in child.nodes if n.op == "zero"]
    assert {n.inputs[0] for n in zeros if n.name.startswith("reduction2.0-2")} == {"reduction2.0-2.none.fit"}
