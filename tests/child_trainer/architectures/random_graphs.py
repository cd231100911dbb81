"""Random architectures over the whole vocabulary, and other descriptions of one and the same network."""

from random import Random
from typing import Any

from hypothesis import strategies as st

from child_trainer.architectures.architecture import INPUTS, MAX_OUTPUTS, Architecture, Kind, Node, node
from child_trainer.architectures.channel_order import read_in_order
from child_trainer.architectures.operation_types import OPERATIONS, Attribute, Value


@st.composite
def random_graphs(draw: Any, most_nodes: int = 8) -> Architecture:
    """Draw an architecture of any kind; each node reads inputs and earlier nodes, some of them twice."""
    kind: Kind = draw(st.sampled_from(sorted(INPUTS)))
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, most_nodes))):
        op = draw(st.sampled_from(sorted(OPERATIONS)))
        operation = OPERATIONS[op]
        sources = st.sampled_from([*INPUTS[kind], *(n.name for n in nodes)])
        inputs = draw(st.lists(sources, min_size=operation.min_inputs, max_size=operation.max_inputs or 3))
        attributes = {
            name: draw(values(attribute))
            for name, attribute in operation.attributes.items()
            if attribute.default is None or draw(st.booleans())
        }
        nodes.append(node(f"n{i}", op, inputs, **attributes))
    names = st.sampled_from([n.name for n in nodes])
    outputs = tuple(draw(st.lists(names, min_size=1, max_size=MAX_OUTPUTS[kind])))
    rates = draw(st.dictionaries(st.just("learning_rate"), st.floats(1e-6, 10), max_size=1))
    return Architecture(kind, tuple(nodes), outputs, tuple(rates.items()))


def values(attribute: Attribute) -> st.SearchStrategy[Value]:
    """Draw a value that the attribute may have."""
    if attribute.options:
        return st.sampled_from(attribute.options)
    if attribute.of is str:
        return st.text()
    if attribute.of is bool:
        return st.booleans()
    if attribute.of is float:
        return st.floats(attribute.minimum, attribute.maximum, allow_nan=False, allow_infinity=False)
    least = -2 if attribute.minimum is None else int(attribute.minimum)
    return st.integers(least, least + 3)


def described_otherwise(network: Architecture, random: Random) -> Architecture:
    """Return the network with other names, other orders, defaults written out, and nodes that nothing reads."""
    names = [f"m{i}" for i in range(len(network.nodes))]
    random.shuffle(names)
    new = dict(zip((n.name for n in network.nodes), names, strict=True))
    live = network.pruned()
    in_order = read_in_order(live.ordered, live.outputs, INPUTS[live.kind])
    nodes: list[Node] = []
    for n in network.nodes:
        inputs = tuple(new.get(source, source) for source in n.inputs)
        if OPERATIONS[n.op].commutative and n.name not in in_order:
            inputs = tuple(random.sample(inputs, len(inputs)))
        defaults = {name: a.default for name, a in OPERATIONS[n.op].attributes.items() if a.default is not None}
        attributes = dict(n.attributes)
        if random.random() < 0.5:
            attributes = defaults | attributes
        nodes.append(Node(new[n.name], n.op, inputs, tuple(sorted(attributes.items()))))
    nodes.append(node("dead", "add", (random.choice(names), INPUTS[network.kind][0])))
    random.shuffle(nodes)
    return Architecture(network.kind, tuple(nodes), tuple(new[o] for o in network.outputs), network.hyperparameters)
