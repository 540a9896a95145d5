"""Pickles of data from the web, read without running anything that they say.

A pickle is a program: it names functions and classes of any installed module and calls them. Here it gets none of
those. Numbers, strings, lists and dictionaries come as they are; NumPy arrays and pandas tables (which need not be
installed) are taken apart by stand-ins of our own that only hold what they are given; any other name is an error that
says which one it was.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recipes.engine.errors import DataError


def load(path: Path) -> Any:
    """What the file holds; tables as dictionaries of columns. Raises :class:`DataError`."""
    try:
        with open(path, "rb") as file:
            return _plain(_Unpickler(file, encoding="latin-1").load())
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a pickle can be wrong in as many ways as a program
        raise DataError(f"{path}: not a pickle of arrays and tables, or a damaged one ({error!r})") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        try:
            return _KNOWN[module.split(".")[0], name]
        except KeyError:
            raise DataError(f"holds {module}.{name}, which is not data; nothing of it was run") from None

    def persistent_load(self, identity: Any) -> None:
        raise DataError("refers to something outside the file; nothing of it was run")


class _Type:
    """numpy.dtype of numbers, strings or objects."""

    def __init__(self, code: str, *_: Any):
        self.code, self.order = str(code), "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]
        if any(part is not None for part in state[2:5]):
            raise DataError("an array of records, which is not read")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(("" if self.order == "|" else self.order) + self.code)


class _Array:
    """numpy.ndarray."""

    def __init__(self):
        self.value = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, content = state
        if isinstance(content, list):  # of objects
            array = np.empty(len(content), object)
            for i, item in enumerate(content):
                array[i] = _plain(item)
        else:
            content = content.encode("latin-1") if isinstance(content, str) else content
            array = np.frombuffer(content, kind.dtype)
        self.value = array.reshape(shape, order="F" if fortran else "C")


class _Held:
    """Any of pandas' objects: what it is made from, and what is put into it."""

    made_from: tuple = ()
    state: Any = None

    def __init__(self, *made_from: Any):
        self.made_from = made_from

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Table(_Held):
    """pandas.DataFrame."""


class _Blocks(_Held):
    """The columns of a table, those of one type together: (values [columns of the block, rows], which columns)."""

    def columns(self) -> dict:
        if self.state is not None:  # pandas before 1.3
            held = self.state[3]["0.14.1"]
            blocks, axes = [(block["values"], block["mgr_locs"]) for block in held["blocks"]], held["axes"]
        else:
            blocks, axes = [block.made_from[:2] for block in self.made_from[0]], self.made_from[1]
        names, found = _labels(axes[0]), {}
        for values, where in blocks:
            which = where if isinstance(where, slice) else _plain(where)
            found |= dict(zip(names[which], _plain(values), strict=True))
        return {name: found[name] for name in names}


class _Index(_Held):
    """Names of columns or rows: (class, {"data" or "start", "stop", "step"})."""


def _labels(index: _Index) -> np.ndarray:
    about = index.made_from[1]
    return np.arange(about["start"], about["stop"], about["step"]) if "start" in about else _plain(about["data"])


def _plain(value: Any) -> Any:
    """``value`` without stand-ins: arrays as arrays, tables as dictionaries of columns."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Table):
        return (value.state["_mgr"] if "_mgr" in value.state else value.state["_data"]).columns()
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (_Held, _Type)):
        raise DataError(f"holds a {type(value).__name__.strip('_').lower()} where data were expected")
    return value


def _array(*_: Any) -> _Array:
    return _Array()


def _from_buffer(content: bytes, kind: _Type, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.value = np.frombuffer(content, kind.dtype).reshape(shape, order=order)
    return array


def _number(kind: _Type, content: Any) -> Any:
    content = content.encode("latin-1") if isinstance(content, str) else content
    return np.frombuffer(content, kind.dtype)[0].item() if isinstance(content, bytes) else _plain(content)


def _bytes(text: str, encoding: str) -> bytes:
    """How old protocols write bytes."""
    if encoding != "latin1":
        raise DataError(f"asks for the codec {encoding!r}, which is not data; nothing of it was run")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """How old protocols write no bytes."""
    return b""


_KNOWN: dict[tuple[str, str], Callable] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "_reconstruct"): _array,
    ("numpy", "_frombuffer"): _from_buffer,
    ("numpy", "dtype"): _Type,
    ("numpy", "scalar"): _number,
    ("builtins", "slice"): slice,
    ("__builtin__", "slice"): slice,
    ("_codecs", "encode"): _bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("pandas", "DataFrame"): _Table,
    ("pandas", "BlockManager"): _Blocks,
    ("pandas", "_unpickle_block"): _Held,
    ("pandas", "_new_Index"): _Index,
    ("pandas", "Index"): _Held,
    ("pandas", "RangeIndex"): _Held,
    ("pandas", "Int64Index"): _Held,
}
