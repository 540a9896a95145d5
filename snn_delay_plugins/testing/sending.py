"""Factories on their way to another process: also lambdas, and what test files hold that no process can import.

A function without an importable name goes by its code; what it refers to is looked up in the file that it comes from, which
the other process loads.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import marshal
import pickle
import sys
import types
from pathlib import Path

__all__ = ["module_of_file", "packed", "unpacked"]

_MAIN = "__conformance_main__"  # the other process has a __main__ of its own


def packed(thing: object) -> bytes:
    """
    :raises Exception: whatever pickle raises for what cannot be sent.
    """
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(thing)
    return file.getvalue()


def unpacked(data: bytes) -> object:
    return pickle.loads(data)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj):
        if isinstance(obj, types.ModuleType):
            return importlib.import_module, (obj.__name__,)
        if not isinstance(obj, types.FunctionType | type):
            return NotImplemented
        module = sys.modules.get(obj.__module__)
        file = getattr(module, "__file__", None)
        if isinstance(obj, types.FunctionType) and "<" in obj.__qualname__:  # a lambda, or a function in a function
            cells = tuple(cell.cell_contents for cell in obj.__closure__ or ())
            code = marshal.dumps(obj.__code__)
            return _function, (code, obj.__module__, file, obj.__name__, obj.__defaults__, obj.__kwdefaults__, cells)
        if module is None or _importable(module):
            return NotImplemented
        return _attribute, (obj.__module__, file, obj.__qualname__)


def _importable(module: types.ModuleType) -> bool:
    """Whether the name alone leads to the same file."""
    if module.__name__ == "__main__":
        return False
    try:
        spec = importlib.util.find_spec(module.__name__)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin is not None and spec.origin == getattr(module, "__file__", spec.origin)


def _module(name: str, file: str | None) -> types.ModuleType:
    name = _MAIN if name == "__main__" else name
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == file:
        return sys.modules[name]
    if file is None:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded as a module")
    folder = str(Path(file).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def module_of_file(file: str) -> types.ModuleType:
    """A file of Python as a module; the second time the same one."""
    path = Path(file).resolve()
    return _module(path.stem, str(path))


def _attribute(name: str, file: str | None, qualname: str) -> object:
    value: object = _module(name, file)
    for part in qualname.split("."):
        value = getattr(value, part)
    return value


def _function(code, module, file, name, defaults, kwdefaults, cells) -> types.FunctionType:
    globals_ = vars(_module(module, file))
    function = types.FunctionType(marshal.loads(code), globals_, name, defaults, tuple(types.CellType(c) for c in cells))
    function.__kwdefaults__ = kwdefaults
    return function
