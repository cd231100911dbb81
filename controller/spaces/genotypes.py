"""Cells as text in the notations of the literature, and back. Standard library only.

- DARTS: `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=[2, 3, 4, 5], reduce=..., reduce_concat=...)`. Its
  state 0 is the older input and 1 the newer one, the reverse of our numbers.
- NASNet, as in the published TensorFlow code: the lists `operations`, `hiddenstate_indices` and `used_hiddenstates` of
  a cell, in which `none` is the identity and a used state is one that does not go into the output.

An operation without a name in NASNet's code keeps ours.
"""

import ast
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from child_trainer.architectures.cells.cell import INPUTS, OPERATIONS, Block, Cell, Genotype, InvalidCell

DARTS_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "skip_connect": "identity",
        "sep_conv_3x3": "sep_3x3",
        "sep_conv_5x5": "sep_5x5",
        "sep_conv_7x7": "sep_7x7",
        "dil_conv_3x3": "dil_sep_3x3",
        "dil_conv_5x5": "dil_sep_5x5",
        "conv_7x1_1x7": "conv_1x7_7x1",
        "avg_pool_3x3": "avg_3x3",
        "max_pool_3x3": "max_3x3",
    }
)
"""The operation of each name in DARTS's code."""

NASNET_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "none": "identity",
        "separable_3x3_2": "sep_3x3",
        "separable_5x5_2": "sep_5x5",
        "separable_7x7_2": "sep_7x7",
        "avg_pool_3x3": "avg_3x3",
        "max_pool_2x2": "max_2x2",
        "max_pool_3x3": "max_3x3",
        "max_pool_5x5": "max_5x5",
        "max_pool_7x7": "max_7x7",
        "1x1": "conv_1x1",
        "3x3": "bottleneck_3x3",
        "1x7_7x1": "bottleneck_1x7_7x1",
    }
)
"""The operation of each name in NASNet's and AmoebaNet's code."""

WIDTH = 100
"""Columns of a text."""

_NAMES_OF_DARTS = {operation: name for name, operation in DARTS_NAMES.items()}
_NAMES_OF_NASNET = {operation: name for name, operation in NASNET_NAMES.items()}

_DARTS_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_NASNET_FIELDS = ("operations", "hiddenstate_indices", "used_hiddenstates")


class InvalidGenotype(ValueError):
    """A text is not a genotype, or cells have no such text; the message names the place and the rule."""


# --- DARTS ---------------------------------------------------------------------------------------------------------


def to_darts(genotype: Genotype) -> str:
    """Return the cells as a `Genotype(...)` of DARTS.

    Raises:
        InvalidGenotype: a block concatenates, or has an operation that DARTS lacks.
    """
    lines = []
    for name, cell in (("normal", genotype.normal), ("reduce", genotype.reduction)):
        edges = [edge for number, block in enumerate(cell.blocks, 1) for edge in _darts_edges(name, number, block)]
        lines += [
            _field(f"    {name}=", edges) + ",",
            _field(f"    {name}_concat=", [exchanged(state) for state in cell.concat]) + ",",
        ]
    return "\n".join(["Genotype(", *lines, ")"])


def _darts_edges(cell: str, number: int, block: Block) -> list[tuple[str, int]]:
    if block.combine != "add":
        raise InvalidGenotype(f"DARTS's cells add, but block {number} of `{cell}` has {block.combine!r}")
    for operation in block.operations:
        if operation not in _NAMES_OF_DARTS:
            raise InvalidGenotype(
                f"DARTS has no operation {operation!r}, which block {number} of `{cell}` has; it has"
                f" {', '.join(_NAMES_OF_DARTS)}"
            )
    sides = zip(block.operations, block.inputs, strict=True)
    return [(_NAMES_OF_DARTS[operation], exchanged(state)) for operation, state in sides]


def from_darts(text: str) -> Genotype:
    """Return the cells of a `Genotype(...)` of DARTS; it may be assigned to a name, as in DARTS's file.

    Raises:
        InvalidGenotype: the text is no genotype; the message names the first error.
    """
    fields = _call(_statements(text, "Genotype(normal=[...], ...)"), "Genotype")
    if (names := list(fields)) != list(_DARTS_FIELDS) and set(names) != set(_DARTS_FIELDS):
        raise InvalidGenotype(f"a Genotype has the fields {', '.join(_DARTS_FIELDS)}, got {', '.join(names) or 'none'}")
    return Genotype(*(_darts_cell(name, fields[name], fields[f"{name}_concat"]) for name in ("normal", "reduce")))


def _darts_cell(name: str, edges: Any, concat: Any) -> Cell:
    edges = _list_of(name, edges)
    if len(edges) % 2 or not edges:
        raise InvalidGenotype(f"`{name}` has two edges for each block, got {len(edges)} edges")
    for place, edge in enumerate(edges, start=1):
        if not (isinstance(edge, tuple) and len(edge) == 2 and isinstance(edge[0], str) and _is_state(edge[1])):
            raise InvalidGenotype(f"edge {place} of `{name}` is ('operation', state), got {edge!r}")
        if edge[0] not in DARTS_NAMES:
            known = ", ".join(DARTS_NAMES)
            raise InvalidGenotype(f"edge {place} of `{name}` has the unknown operation {edge[0]!r}; there are {known}")
    blocks = [
        Block((exchanged(one), exchanged(other)), (DARTS_NAMES[first], DARTS_NAMES[second]))
        for (first, one), (second, other) in zip(edges[::2], edges[1::2], strict=True)
    ]
    states = _states(f"{name}_concat", concat)
    return _cell(name, blocks, tuple(exchanged(state) for state in states))


def exchanged(state: int) -> int:
    """Return the number of a state in DARTS's and ENAS's convention, in which the two inputs are exchanged; or back."""
    return 1 - state if state < INPUTS else state


# --- NASNet --------------------------------------------------------------------------------------------------------


def to_nasnet(genotype: Genotype) -> str:
    """Return the cells as the lists of NASNet's code; those of one cell if both are equal.

    Raises:
        InvalidGenotype: a block concatenates.
    """
    if genotype.normal == genotype.reduction:
        return "\n".join(
            _field(f"{name} = ", values) for name, values in _nasnet_lists("cell", genotype.normal).items()
        )
    lines = []
    for name, cell in (("normal", genotype.normal), ("reduction", genotype.reduction)):
        lists = _nasnet_lists(name, cell).items()
        lines += [f"{name} = dict(", *(_field(f"    {field}=", values) + "," for field, values in lists), ")"]
    return "\n".join(lines)


def _nasnet_lists(name: str, cell: Cell) -> dict[str, list[Any]]:
    for number, block in enumerate(cell.blocks, start=1):
        if block.combine != "add":
            raise InvalidGenotype(f"NASNet's code adds, but block {number} of `{name}` has {block.combine!r}")
    if tuple(sorted(cell.concat)) != cell.concat:
        raise InvalidGenotype(f"NASNet's code concatenates states in ascending order, got {cell.concat} of `{name}`")
    operations = [operation for block in cell.blocks for operation in block.operations]
    return {
        "operations": [_NAMES_OF_NASNET.get(operation, operation) for operation in operations],
        "hiddenstate_indices": [state for block in cell.blocks for state in block.inputs],
        "used_hiddenstates": [int(state not in cell.concat) for state in range(INPUTS + len(cell.blocks))],
    }


def from_nasnet(text: str) -> Genotype:
    """Return the cells of `normal = dict(...)` and `reduction = dict(...)`, or of the three lists of a single cell.

    Raises:
        InvalidGenotype: the text has no such lists, or they make no cell; the message names the first error.
    """
    usual = "operations = [...], hiddenstate_indices = [...] and used_hiddenstates = [...]"
    assigned = _assignments(_statements(text, usual), usual)
    if set(assigned) == {"normal", "reduction"}:
        return Genotype(*(_nasnet_cell(name, _call([assigned[name]], "dict")) for name in ("normal", "reduction")))
    cell = _nasnet_cell("cell", {name: _literal(name, value) for name, value in assigned.items()})
    return Genotype(cell, cell)


def _nasnet_cell(name: str, lists: Mapping[str, Any]) -> Cell:
    if set(lists) != set(_NASNET_FIELDS):
        raise InvalidGenotype(f"`{name}` has the lists {', '.join(_NASNET_FIELDS)}, got {', '.join(lists) or 'none'}")
    operations = _list_of("operations", lists["operations"])
    states, used = (_states(field, lists[field]) for field in _NASNET_FIELDS[1:])
    if len(operations) % 2 or not operations or len(states) != len(operations):
        raise InvalidGenotype(
            f"`{name}` has two operations and two hiddenstate_indices for each block, got {len(operations)} and"
            f" {len(states)}"
        )
    if len(used) != INPUTS + len(operations) // 2 or not set(used) <= {0, 1}:
        count = INPUTS + len(operations) // 2
        raise InvalidGenotype(f"`used_hiddenstates` of `{name}` has {count} numbers, each 0 or 1, got {list(used)}")
    for place, operation in enumerate(operations, start=1):
        if not isinstance(operation, str) or (operation not in NASNET_NAMES and operation not in OPERATIONS):
            known = ", ".join([*NASNET_NAMES, *(own for own in OPERATIONS if own not in _NAMES_OF_NASNET)])
            raise InvalidGenotype(f"operation {place} of `{name}` is unknown, {operation!r}; there are {known}")
    ours = [NASNET_NAMES.get(operation, operation) for operation in operations]
    blocks = [Block((states[i], states[i + 1]), (ours[i], ours[i + 1]), "add") for i in range(0, len(operations), 2)]
    return _cell(name, blocks, tuple(state for state, is_used in enumerate(used) if not is_used))


# --- Writing and reading -------------------------------------------------------------------------------------------


def _field(start: str, values: Sequence[object]) -> str:
    """Return a list behind its name, in lines of at most 100 columns."""
    lines, indent = [f"{start}["], " " * (len(start) + 1)
    for place, value in enumerate(values):
        item = repr(value) + (", " if place < len(values) - 1 else "]")
        if len(lines[-1] + item.rstrip()) >= WIDTH:
            lines.append(indent)
        lines[-1] += item
    return "\n".join(line.rstrip() for line in lines)


def _statements(text: str, usual: str) -> list[ast.AST]:
    try:
        return list(ast.parse(textwrap.dedent(text).strip()).body)
    except (SyntaxError, ValueError) as error:
        raise InvalidGenotype(f"a genotype is Python text such as {usual}, but it cannot be parsed: {error}") from None


def _call(statements: Sequence[ast.AST], name: str) -> dict[str, Any]:
    """Return the keyword arguments of a call of `name`, the only statement or the only value assigned."""
    found = statements[0] if len(statements) == 1 else None
    value = found.value if isinstance(found, ast.Expr | ast.Assign) else found
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == name):
        raise InvalidGenotype(f"a genotype of this notation is one {name}(...), got {_shortened(statements)}")
    if value.args or any(keyword.arg is None for keyword in value.keywords):
        raise InvalidGenotype(f"{name}(...) takes its fields by name, as in {name}(field=[...])")
    return {str(keyword.arg): _literal(str(keyword.arg), keyword.value) for keyword in value.keywords}


def _assignments(statements: Sequence[ast.AST], usual: str) -> dict[str, ast.AST]:
    assigned: dict[str, ast.AST] = {}
    for statement in statements:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(statement, ast.Assign) or not isinstance(target, ast.Name):
            raise InvalidGenotype(f"cells of NASNet's code are {usual}, got {_shortened([statement])}")
        assigned[target.id] = statement.value
    return assigned


def _literal(name: str, value: ast.AST) -> Any:
    """Return a literal's value, or the numbers of `range(first, last)`."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "range":
        bounds = [_literal(name, bound) for bound in value.args]
        if len(bounds) in (1, 2) and all(map(_is_state, bounds)):
            return list(range(*bounds))
    try:
        return ast.literal_eval(value)  # pyright: ignore[reportArgumentType]
    except ValueError:
        raise InvalidGenotype(f"`{name}` must be a list of literals, got {_shortened([value])}") from None


def _list_of(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidGenotype(f"`{name}` must be a list, got {value!r}")
    return list(value)


def _states(name: str, value: Any) -> tuple[int, ...]:
    states = _list_of(name, value)
    if not all(map(_is_state, states)):
        raise InvalidGenotype(f"`{name}` must be a list of numbers of at least 0, got {value!r}")
    return tuple(states)


def _is_state(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000


def _cell(name: str, blocks: list[Block], concat: tuple[int, ...]) -> Cell:
    try:
        return Cell(tuple(blocks), concat)
    except InvalidCell as error:
        raise InvalidGenotype(f"`{name}` is no cell: {error}") from None


def _shortened(nodes: Sequence[ast.AST]) -> str:
    text = "; ".join(ast.unparse(node) for node in nodes) or "nothing"
    return text if len(text) <= 60 else text[:57] + "..."
