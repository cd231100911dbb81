"""The files that bring a cluster up, read as strictly as those who use them ought to."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

POOL = "nascluster/pool"
MARKET = "ray.io/market-type"


class _Strict(yaml.SafeLoader):
    """YAML in which a key that is written twice is an error; the usual loader keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"written twice: {twice} {node.start_mark}")
        return super().construct_mapping(node, deep)


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [*yaml.load_all(path.read_text(), _Strict)]


def mappings(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the mappings are in a document: the path to each."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from mappings(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from mappings(inner, (*path, index))


def with_key(document: dict[str, Any], path: tuple[str | int, ...], key: str, value: Any) -> dict[str, Any]:
    """A copy of a document with one more key in the mapping at `path`."""
    copy = json.loads(json.dumps(document))  # which also parts the mappings that stand in several places
    found = copy
    for step in path:
        found = found[step]
    found[key] = value
    return copy


FENCED = re.compile(r"^ *```(?:\w*)\n(.*?)^ *```", re.M | re.S)


def code_lines(path: Path) -> list[str]:
    """The command lines of a page: those of its code blocks, joined where a backslash goes on, and those in its text
    that are more than a command's name."""
    text = path.read_text()
    rest = FENCED.sub("", text)
    blocks = [*FENCED.findall(text), *re.findall(r"(?:^ {4}[^\n]*\n)+", rest, re.M)]
    joined = "\n".join(blocks).replace("\\\n", " ")
    inline = re.findall(r"`([^`]+)`", rest)
    return [line.strip() for line in joined.splitlines()] + [" ".join(c.split()) for c in inline if len(c.split()) > 2]
