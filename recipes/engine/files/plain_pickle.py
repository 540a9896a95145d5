"""Pickles of data from the web, read without running anything that they say, in memory and time that follow their size.

A pickle is a program: it names functions and classes of any installed module and calls them. Here it gets none of
those. Numbers, strings, lists and dictionaries come as they are; NumPy arrays and pandas tables (which need not be
installed) are taken apart by stand-ins of our own that only hold what they are given; any other name is an error that
says which one it was.

A few bytes may also ask for gigabytes, or for ever. Limits:

* the file has at most 512 MiB, and no string, number or frame is longer than what is left of it;
* lists that are named again and again ("a list of ten lists of ten lists ...") unfold to at most ten items for each byte of
  the file, and what is kept as text becomes bytes at most ten times for each of its own;
* nothing is nested more than 100 deep, and nothing holds itself;
* keys of dictionaries are numbers and strings (a tuple of tuples takes for ever to hash), and there are no sets.

It is the module's reader in Python that runs here: it does as it is told a step at a time, so that all of that can be asked
before each.
"""

import contextlib
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from . import plain_files

_MOST_BYTES = 512 << 20
_PER_BYTE = 10
_AT_LEAST = 1 << 16
_DEEPEST = 100
_KEYS = (str, bytes, int, float, type(None))


def load(path: Path) -> Any:
    """What the file holds; tables as dictionaries of columns. Raises :class:`DataError`."""
    size = plain_files.checked(path).st_size
    if size > _MOST_BYTES:
        raise DataError(f"{path}: {size} bytes; pickles of at most {_MOST_BYTES} are read")
    most = max(_PER_BYTE * size, _AT_LEAST)
    try:
        return _Unfolding(most).of(_Unpickler(path.read_bytes(), most).load())
    except DataError as error:
        raise DataError(f"{path}: {_short(error)}") from error
    except Exception as error:  # a pickle can be wrong in as many ways as a program
        what = f"{type(error).__name__}: {_short(error)}"
        raise DataError(f"{path}: not a pickle of arrays and tables, or a damaged one ({what})") from error


def _short(error: Exception) -> str:
    """One line, however long the names are that it tells."""
    return " ".join(str(error)[:200].split())


class _Unpickler(pickle._Unpickler):
    """Python's own, whose steps ask first."""

    def __init__(self, content: bytes, most: int):
        super().__init__(io.BytesIO(content), encoding="latin-1")
        self._size, self._left = len(content), most

    def find_class(self, module: str, name: str) -> Callable:
        root = module.split(".")[0]
        if (root, name) == ("_codecs", "encode"):
            return self._bytes
        try:
            return _KNOWN[root, name]
        except KeyError:
            raise DataError(f"holds {module}.{name}, which is not data; nothing of it was run") from None

    def persistent_load(self, identity: Any) -> None:
        raise DataError("refers to something outside the file; nothing of it was run")

    def _bytes(self, text: str, encoding: str) -> bytes:
        """How old protocols write bytes."""
        if encoding != "latin1":
            named = f"{encoding!r}" if isinstance(encoding, str) else "that is no name"
            raise DataError(f"asks for the codec {named}, which is not data; nothing of it was run")
        self._left -= len(text)
        if self._left < 0:
            raise DataError(f"makes more bytes of its texts than {_PER_BYTE} times its size")
        return text.encode("latin-1")

    def _build(self) -> None:
        if not isinstance(self.stack[-2], (_Type, _Array, _Held)):
            raise DataError("changes what is not data; nothing of it was run")
        pickle._Unpickler.load_build(self)

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._fill(self.stack[-1], items)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(self.stack[-1], [key, value])

    def _dictionary(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._fill(self.stack[-1], items)

    def _fill(self, mapping: dict, items: list) -> None:
        if type(mapping) is not dict or not all(isinstance(key, _KEYS) for key in items[::2]):
            raise DataError("holds a dictionary with keys that are neither numbers nor strings")
        mapping.update(zip(items[::2], items[1::2], strict=True))

    def _mutable_bytes(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self._size:
            raise DataError(f"declares {size} bytes in a file of {self._size}")
        self.append(bytearray(self.read(size)))

    def _no_set(self) -> None:
        raise DataError("holds a set, which is not read")

    dispatch = pickle._Unpickler.dispatch | {
        pickle.BUILD[0]: _build, pickle.SETITEMS[0]: _set_items, pickle.SETITEM[0]: _set_item, pickle.DICT[0]: _dictionary,
        pickle.BYTEARRAY8[0]: _mutable_bytes, pickle.EMPTY_SET[0]: _no_set, pickle.ADDITEMS[0]: _no_set,
        pickle.FROZENSET[0]: _no_set,
    }  # fmt: skip


class _Type:
    """numpy.dtype of numbers, strings or objects."""

    def __init__(self, code: str, *_: Any):
        code = code.decode("latin-1") if isinstance(code, bytes) else code
        if not (isinstance(code, str) and re.fullmatch(r"[?biufcSUVOMm]\d{0,6}", code)):
            raise DataError("an array of records, which is not read")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]
        if any(part is not None for part in state[2:5]) or self.order not in ("<", ">", "=", "|"):
            raise DataError("an array of records, which is not read")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(("" if self.order == "|" else self.order) + self.code)


class _Array:
    """numpy.ndarray: shape, type, whether columns come first, content."""

    def __init__(self):
        self.parts: tuple = ((0,), _Type("f8"), False, b"")

    def __setstate__(self, state: tuple) -> None:
        _, *parts = state
        self.parts = tuple(parts)


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


class _Index(_Held):
    """Names of columns or rows: (class, {"data" or "start", "stop", "step"})."""


class _Unfolding:
    """Makes arrays and dictionaries of columns from stand-ins, each once, and counts what all would be written out."""

    def __init__(self, most: int):
        self._most = most
        self._done: dict[int, tuple[Any, int]] = {}  # by what is alive as long as this is
        self._open: set[int] = set()

    def of(self, value: Any) -> Any:
        return self._counted(value)[0]

    def _counted(self, value: Any) -> tuple[Any, int]:
        if not isinstance(value, (list, tuple, dict, _Type, _Array, _Held)):
            return value, 1
        key = id(value)
        if key not in self._done:
            with self._inside(key):
                found = self._made(value)
            if found[1] > self._most:
                raise DataError(f"unfolds to more than {self._most} items, {_PER_BYTE} for each byte")
            self._done[key] = found
        return self._done[key]

    @contextlib.contextmanager
    def _inside(self, key: int):
        if key in self._open:
            raise DataError("holds a list that holds itself")
        if len(self._open) >= _DEEPEST:
            raise DataError(f"is nested more than {_DEEPEST} deep")
        self._open.add(key)
        yield
        self._open.remove(key)

    def _made(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, _Array):
            return self._array(*value.parts)
        if isinstance(value, _Table):
            return self._counted(value.state["_mgr"] if "_mgr" in value.state else value.state["_data"])
        if isinstance(value, _Blocks):
            return self._columns(value)
        if isinstance(value, (_Held, _Type)):
            raise DataError(f"holds a {type(value).__name__.strip('_').lower()} where data were expected")
        if isinstance(value, dict):
            items, count = self._all(value.values())
            return dict(zip(value, items, strict=True)), count
        items, count = self._all(value)
        return type(value)(items), count

    def _all(self, values: Any) -> tuple[list, int]:
        made, count = [], 1
        for value in values:
            item, more = self._counted(value)
            made.append(item)
            count += more
            if count > self._most:
                raise DataError(f"unfolds to more than {self._most} items, {_PER_BYTE} for each byte")
        return made, count

    def _array(self, shape: tuple, kind: _Type, fortran: bool, content: Any) -> tuple[np.ndarray, int]:
        if isinstance(content, list):  # of objects
            items, count = self._all(content)
            array = np.empty(len(items), object)
            for i, item in enumerate(items):
                array[i] = item
        else:
            content = content.encode("latin-1") if isinstance(content, str) else content
            array = np.frombuffer(content, kind.dtype)
            count = 1 + array.nbytes
        array = array.reshape(shape, order="F" if fortran else "C")
        if max(array.shape, default=0) > self._most:  # of nothing
            raise DataError(f"holds an array of shape {array.shape}")
        return array, count

    def _columns(self, blocks: _Blocks) -> tuple[dict, int]:
        if blocks.state is not None:  # pandas before 1.3
            held = blocks.state[3]["0.14.1"]
            pairs, axes = [(block["values"], block["mgr_locs"]) for block in held["blocks"]], held["axes"]
        else:
            pairs, axes = [block.made_from[:2] for block in blocks.made_from[0]], blocks.made_from[1]
        names, found, total = self._labels(axes[0]), {}, 1
        for values, where in pairs:
            which = where if isinstance(where, slice) else np.asarray(self.of(where), np.int64)
            values, count = self._counted(values)
            found |= dict(zip(names[which].tolist(), values, strict=True))
            total += count
        return {name: found[name] for name in names.tolist()}, total

    def _labels(self, index: _Index) -> np.ndarray:
        about = index.made_from[1]
        if "start" in about:
            numbers = range(about["start"], about["stop"], about["step"])
            if len(numbers) > self._most:
                raise DataError(f"names {len(numbers)} columns")
            return np.asarray(numbers)
        names = self.of(about["data"])
        if not (isinstance(names, np.ndarray) and all(isinstance(name, _KEYS) for name in names.tolist())):
            raise DataError("has columns whose names are neither numbers nor strings")
        return names


def _array(*_: Any) -> _Array:
    return _Array()


def _from_buffer(content: bytes, kind: _Type, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.parts = shape, kind, order == "F", content
    return array


def _number(kind: _Type, content: Any) -> Any:
    content = content.encode("latin-1") if isinstance(content, str) and len(content) <= 64 else content
    if isinstance(content, (bytes, bytearray)):
        return np.frombuffer(content[:64], kind.dtype)[0].item()
    if not isinstance(content, _KEYS):
        raise DataError("holds a number that is none")
    return content


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
    ("__builtin__", "bytes"): _no_bytes,
    ("pandas", "DataFrame"): _Table,
    ("pandas", "BlockManager"): _Blocks,
    ("pandas", "_unpickle_block"): _Held,
    ("pandas", "_new_Index"): _Index,
    ("pandas", "Index"): _Held,
    ("pandas", "RangeIndex"): _Held,
    ("pandas", "Int64Index"): _Held,
}
