"""Graphs as the ledger stores them: packed, and each one once. Standard library only."""

import json
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from child_trainer.architectures.architecture import Architecture, digest_of
from child_trainer.architectures.operation_types import Value

MAX_RECENT = 1_000
"""Architectures kept in memory: more than the paper's 800 in training, and few enough to fit."""

JOINS = ("add", "concat")
"""Operations that only join others, which the count of a graph's operations leaves out."""

FIELDS = ("name", "op", "inputs", "attributes")
"""Of a node, in the order of `Architecture.to_json`."""


def columns_of(data: Mapping[str, Any]) -> str:
    """Return the JSON of an `Architecture.to_json` with its nodes in columns, which compresses to half.

    A node that another one reads is given by its distance: how many places earlier it comes. `rows_of` undoes this to
    the last detail. Data that is no graph stays as it is.
    """
    nodes = data.get("nodes")
    if isinstance(nodes, list) and all(isinstance(node, dict) and tuple(node) == FIELDS for node in nodes):
        place = {node["name"]: index for index, node in enumerate(nodes)}
        columns = {field: [node[field] for node in nodes] for field in FIELDS}
        columns["inputs"] = [
            [here - place[source] if source in place else source for source in inputs]
            for here, inputs in enumerate(columns["inputs"])
        ]
        data = {**data, "nodes": columns}
    return json.dumps(data, separators=(",", ":"))


def columns_of_graph(architecture: Architecture) -> str:
    """Return `columns_of` of the architecture's JSON, without making that first."""
    nodes = architecture.nodes
    names, inputs = _wiring_json(tuple([n.name for n in nodes]), tuple([n.inputs for n in nodes]))
    ops = _json([n.op for n in nodes])
    attributes = [_attributes_json(n.attributes, repr(n.attributes)) if n.attributes else "{}" for n in nodes]
    columns = f'{{"name":{names},"op":{ops},"inputs":{inputs},"attributes":[{",".join(attributes)}]}}'
    outputs, hyperparameters = _json(list(architecture.outputs)), dict(architecture.hyperparameters)
    more = f',"hyperparameters":{_json(hyperparameters)}' if hyperparameters else ""
    return f'{{"kind":{_json(architecture.kind)},"nodes":{columns},"outputs":{outputs}{more}}}'


_json = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=64)  # the networks of a table all have one graph
def _wiring_json(names: tuple[str, ...], inputs: tuple[tuple[str, ...], ...]) -> tuple[str, str]:
    """Return the columns of the names and of the inputs."""
    place = {name: index for index, name in enumerate(names)}
    distances = [
        [here - place[source] if source in place else source for source in read] for here, read in enumerate(inputs)
    ]
    return _json(names), _json(distances)


@lru_cache(maxsize=4096)
def _attributes_json(attributes: tuple[tuple[str, Value], ...], text: str) -> str:
    """Return the attributes of a node; in the cache `text` separates 1, 1.0 and True, 0.0 and -0.0, which are equal."""
    return _json(dict(attributes))


def rows_of(text: str) -> dict[str, Any]:
    """Return what `columns_of` was given."""
    data = json.loads(text)
    columns = data.get("nodes")
    if not isinstance(columns, dict):
        return data
    names = columns["name"]
    columns["inputs"] = [
        [names[here - source] if isinstance(source, int) else source for source in inputs]
        for here, inputs in enumerate(columns["inputs"])
    ]
    nodes = zip(*(columns[field] for field in FIELDS), strict=True)
    return data | {"nodes": [dict(zip(FIELDS, node, strict=True)) for node in nodes]}


def pack(columns: str) -> bytes:
    """Return the text compressed."""
    return zlib.compress(columns.encode())


def unpack(graph: bytes) -> dict[str, Any]:
    """Return the graph as `Architecture.to_json` gave it."""
    return rows_of(zlib.decompress(graph).decode())


def architecture_of(graph: bytes) -> Architecture:
    """Return the architecture of a packed graph, with its nodes in the order in which they were sampled."""
    return Architecture.from_json(unpack(graph))


def define_functions(db: sqlite3.Connection) -> None:
    """Give the connection what the migration to version 5 calls."""
    db.create_function("columns_of", 1, lambda text: columns_of(json.loads(text)), deterministic=True)
    db.create_function("digest_of", 1, digest_of, deterministic=True)
    db.create_function("pack", 1, pack, deterministic=True)


class GraphTable:
    """The table `architectures` of one connection, with the architectures that were used last in memory.

    Args:
        db: the connection; callers hold its lock.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: OrderedDict[int, Architecture] = OrderedDict()

    def add(self, architecture: Architecture) -> int:
        """Store the graph unless it is stored already, and return its key."""
        # Not by what is in memory: a transaction that stored it may have been rolled back.
        query = "SELECT graph_id FROM architectures WHERE digest = ?"
        row = self._db.execute(query, (architecture.digest,)).fetchone()
        if row is None:
            ops = [node.op for node in architecture.nodes]
            nodes = len(ops) - sum(map(ops.count, JOINS))
            stored = self._db.execute(
                "INSERT INTO architectures (digest, graph, nodes) VALUES (?, ?, ?) RETURNING graph_id",
                (architecture.digest, pack(columns_of_graph(architecture)), nodes),
            )
            row = stored.fetchone()
        self._keep(row[0], architecture)
        return row[0]

    def get(self, key: int) -> Architecture:
        """Return the architecture that is stored under this key."""
        architecture = self._recent.get(key)
        if architecture is None:
            query = "SELECT graph FROM architectures WHERE graph_id = ?"
            architecture = architecture_of(self._db.execute(query, (key,)).fetchone()[0])
        self._keep(key, architecture)
        return architecture

    def _keep(self, key: int, architecture: Architecture) -> None:
        self._recent[key] = architecture
        self._recent.move_to_end(key)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
