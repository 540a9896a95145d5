"""What was made of a file once, kept on disk as arrays whose rows are read from there when they are asked for.

An entry is a folder: one file of plain numbers per array, and ``arrays.json`` with their types and shapes. It is built
chunk by chunk beside its place and moved into it in one step, so that neither building nor reading it takes more memory
than a chunk, and an entry is whole or absent, however a process ends. Processes that want the same entry at the same
time build it once: the others wait.
"""

import errno
import hashlib
import json
import logging
import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from ..errors import DataError
from . import atomic, places

log = logging.getLogger(__name__)

_CONTENTS = "arrays.json"


def folder() -> Path:
    """Where entries lie (:func:`recipes.engine.files.places.cache`). Safe to delete."""
    return places.cache()


def entry(kind: str, path: Path, format_and_settings: list) -> Path:
    """Where what ``kind`` of reading made of this very file (name, size, time) with these settings is kept."""
    stat = path.stat()
    key = [*format_and_settings, str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    return folder() / kind / f"{path.name.split('.')[0]}-{name}"


class Sink(Protocol):
    """Takes arrays in pieces."""

    def append(self, name: str, rows: np.ndarray) -> None:
        """More rows (along the first axis) of the array ``name``; all pieces of an array have one type and width."""


class _Folder:
    """A sink that writes what it gets into a folder."""

    def __init__(self, into: Path):
        self._into = into
        self._files: dict[str, BinaryIO] = {}
        self._contents: dict[str, dict] = {}

    def append(self, name: str, rows: np.ndarray) -> None:
        like = {"type": rows.dtype.str, "row": list(rows.shape[1:])}
        if name not in self._files:
            self._files[name] = open(self._into / name, "xb")  # noqa: SIM115 (closed in close)
            self._contents[name] = like | {"rows": 0}
        known = self._contents[name]
        if like != {"type": known["type"], "row": known["row"]}:
            raise TypeError(f"{name}: rows of {like} after rows of {known}")
        self._files[name].write(np.ascontiguousarray(rows))
        known["rows"] += len(rows)

    def close(self, whole: bool) -> None:
        for file in self._files.values():
            if whole:
                file.flush()
                os.fsync(file.fileno())
            file.close()
        if whole:
            atomic.write_json(self._into / _CONTENTS, self._contents)


class OnDisk:
    """An array whose rows are read from its file when they are asked for, by a slice or by their numbers.

    It reads at positions rather than through a memory map: where memory is short, the samples of a shuffled epoch come
    many times faster, because a page fault reads what lies around and not what is needed next; and what was read does
    not count as memory of this process.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]):
        self.path, self.dtype, self.shape = path, dtype, shape
        self._row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
        self._file = open(path, "rb")  # noqa: SIM115 (as long as the array lives)
        weakref.finalize(self, self._file.close)

    def __reduce__(self):
        return OnDisk, (self.path, self.dtype, self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                found = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
                self._read(found, start)
                return found
        numbers = np.arange(len(self))[rows]
        found = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for i, number in enumerate(numbers):
            self._read(found[i : i + 1], int(number))
        return found

    def _read(self, into: np.ndarray, row: int) -> None:
        left, position = into.reshape(-1).view(np.uint8), row * self._row_bytes
        while len(left):
            got = os.preadv(self._file.fileno(), [left], position)
            if not got:
                raise OSError(f"{self.path}: the file has been cut while it was in use")
            left, position = left[got:], position + got


def update(digest, array: np.ndarray | OnDisk) -> None:
    """``digest.update`` with all of the array's bytes, a chunk at a time."""
    if isinstance(array, np.ndarray):
        return digest.update(np.ascontiguousarray(array))
    rows = max(1, (1 << 24) // max(array._row_bytes, 1))
    for start in range(0, len(array), rows):
        digest.update(array[start : start + rows])


def cached(
    source: Path, kept: Path, make: Callable[[Sink], None], on_disk: Sequence[str] = ()
) -> dict[str, np.ndarray | OnDisk]:
    """The arrays that ``make`` makes of ``source``, from the entry ``kept``, which is built where there is none or a
    damaged one; those named ``on_disk`` stay there. Raises :class:`DataError` where the disk is full."""
    arrays = _opened(source, kept, on_disk)
    if arrays is not None:
        return arrays
    with atomic.locked(kept, lambda: log.info("waiting for another process that is reading %s", source)):
        arrays = _opened(source, kept, on_disk)
        if arrays is None:
            _build(source, kept, make)
            arrays = _read(kept, on_disk)
    return arrays


def _opened(source: Path, kept: Path, on_disk: Sequence[str]) -> dict[str, np.ndarray | OnDisk] | None:
    if not kept.exists():
        return None
    try:
        return _read(kept, on_disk)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{kept}: unreadable ({error}); reading {source} anew", stacklevel=4)
        return None


def _build(source: Path, kept: Path, make: Callable[[Sink], None]) -> None:
    try:
        with atomic.replacing_folder(kept) as part:
            sink, whole = _Folder(part), False
            try:
                make(sink)
                whole = True
            finally:
                sink.close(whole)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{kept.parent}: no space left for what is made of {source}; free some, or set SNN_DELAY_PLUGINS_CACHE "
            "to a folder on another disk"
        ) from error


def _read(kept: Path, on_disk: Sequence[str]) -> dict[str, np.ndarray | OnDisk]:
    contents, arrays = json.loads((kept / _CONTENTS).read_text(encoding="utf-8")), {}
    for name, about in contents.items():
        array = OnDisk(kept / name, np.dtype(about["type"]), (about["rows"], *about["row"]))
        needed, found = array._row_bytes * len(array), (kept / name).stat().st_size
        if found != needed:
            raise ValueError(f"{name} has {found} bytes, not {needed}")
        arrays[name] = array if name in on_disk else array[:]
    return arrays
