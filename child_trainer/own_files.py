"""Loads parts that users wrote in a file of their own, such as `my_search.py:HillClimber`. Standard library only.

A run keeps the text of each such file. Every process of the run loads the part from that text, so that all nodes have
the same part, and a later change or removal of the file does not affect the run.
"""

import hashlib
import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from child_trainer.architectures.operation_types import OwnOperation, add_operation

_TEXTS: ContextVar[Mapping[str, str]] = ContextVar("texts")
"""The texts that a run keeps, by file; set by `using`."""

_MODULES: dict[tuple[str, str], types.ModuleType] = {}
"""The modules loaded in this process, by file and digest of the text: one text gives one class."""


class OwnFileError(ValueError):
    """A file of the user's own cannot be loaded, or does not hold what was named."""


def is_own(name: str) -> bool:
    """Return whether a name is `FILE.py:NAME` or `MODULE:NAME` and not one of a catalogue."""
    return ":" in name


def file_of(name: str) -> str:
    """Return the file or module of an own part's name, as the user typed it."""
    return name.rpartition(":")[0]


def digest(text: str) -> str:
    """Return 12 hexadecimal digits that identify a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def using(texts: Mapping[str, str]) -> Iterator[None]:
    """Read files from these texts, by the files' names, until the block ends; others are read from disk."""
    token = _TEXTS.set(dict(_TEXTS.get({})) | dict(texts))
    try:
        yield
    finally:
        _TEXTS.reset(token)


def text_of(file: str) -> str:
    """Return a file's text, from the run or else from the disk.

    Args:
        file: a path that ends in `.py`, or a module's dotted name.

    Raises:
        OwnFileError: there is no such file or module, or it cannot be read.
    """
    if (kept := _TEXTS.get({}).get(file)) is not None:
        return kept
    path = _path(file)
    try:
        return path.read_text(encoding="utf-8-sig")  # without the mark that Windows editors put in front
    except OSError as error:
        raise OwnFileError(f"{file!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OwnFileError(f"{file!r} must be Python source in UTF-8") from error


def load(name: str) -> object:
    """Return the object that `FILE.py:NAME` or `MODULE:NAME` names.

    Raises:
        OwnFileError: the file cannot be loaded, or defines nothing of that name.
    """
    file, _, attribute = name.rpartition(":")
    if not file or not attribute.isidentifier():
        raise OwnFileError(f"{name!r} must be FILE.py:NAME or MODULE:NAME, such as my_search.py:HillClimber")
    module = load_module(file)
    try:
        return getattr(module, attribute)
    except AttributeError:
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise OwnFileError(f"{file!r} has no {attribute!r}; it has {', '.join(own) or 'nothing of its own'}") from None


def load_module(file: str) -> types.ModuleType:
    """Return the module of a file's text.

    Raises:
        OwnFileError: the file cannot be read, or its code fails.
    """
    text = text_of(file)
    key = (file, digest(text))
    if key not in _MODULES:
        with redirect_stdout(sys.stderr):  # a command's own output may be for programs
            _MODULES[key] = _execute(file, text)
    return _MODULES[key]


def load_all(texts: Mapping[str, str]) -> None:
    """Load these texts, by the files' names, so that this process knows the operations that they define.

    Raises:
        OwnFileError: as `load_module`.
    """
    with using(texts):
        for file in texts:
            load_module(file)


def _path(file: str) -> Path:
    if file.endswith(".py"):
        path = Path(file).expanduser()
        if not path.is_file():
            raise OwnFileError(f"there is no file {file!r} in {Path.cwd()}")
        return path
    try:
        spec = find_spec(file)
    except Exception:  # an error in a package above it
        spec = None
    if spec is None or spec.origin is None or not spec.has_location:
        raise OwnFileError(f"there is no module {file!r}, nor a file: a file's name ends in .py")
    return Path(spec.origin)


def _execute(file: str, text: str) -> types.ModuleType:
    """Run a file's text as a module of its own; an installed module with this text is imported as usual."""
    name = f"nascluster_own_{Path(file).stem.replace('-', '_').replace('.', '_')}_{digest(file + text)}"
    try:
        path = str(_path(file).absolute())
        on_disk = Path(path).read_text(encoding="utf-8-sig") == text
    except (OSError, ValueError):
        path, on_disk = f"<{file}, as the run keeps it>", False
    if on_disk and not file.endswith(".py"):
        return _import(file)
    if not on_disk:
        path = f"<{file}, as the run keeps it>"
        # Tracebacks and `inspect` find the source here.
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    module = types.ModuleType(name)
    module.__file__ = path
    if not file.endswith(".py"):
        module.__package__ = file.rpartition(".")[0]
    sys.modules[name] = module  # `dataclass` looks it up
    try:
        exec(compile(text, path, "exec"), vars(module))
        _add_operations(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = error.lineno if isinstance(error, SyntaxError) else _line(error, path)
        where = f", line {line}" if line else ""
        raise OwnFileError(f"{file!r}{where} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _import(name: str) -> types.ModuleType:
    try:
        module = import_module(name)
        _add_operations(module)
    except (Exception, SystemExit) as error:
        raise OwnFileError(f"the module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _add_operations(module: types.ModuleType) -> None:
    """Make the module's `OPERATIONS` known to this process."""
    operations = getattr(module, "OPERATIONS", {})
    if not isinstance(operations, Mapping) or not all(isinstance(own, OwnOperation) for own in operations.values()):
        raise TypeError("`OPERATIONS` must map names to OwnOperation")
    for name, own in operations.items():
        add_operation(name, own)


def _line(error: BaseException, path: str) -> int | None:
    """Return the last line of the file that the error came through."""
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
