"""Reads the docstrings under the fields of a dataclass, which are its help texts. Standard library only."""

import ast
import inspect
import textwrap
from functools import cache


@cache
def field_docs(kind: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass, on one line; those of inherited fields, too."""
    return {name: text for base in reversed(kind.__mro__) for name, text in _own_docs(base).items()}


def _own_docs(kind: type) -> dict[str, str]:
    if kind is object:
        return {}
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):  # a class without source, such as one typed into a shell
        return {}
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            docs[field.target.id] = " ".join(str(text.value.value).split())
    return docs
