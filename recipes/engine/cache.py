"""What was made of a file once, kept on disk as arrays that are read from there, not into memory.

An entry is a folder: one file of plain numbers per array, and ``arrays.json`` with their types and shapes. It is built
chunk by chunk beside its place and moved into it in one step, so that neither building nor reading it takes more memory
than a chunk, and an entry is whole or absent, however a process ends. Processes that want the same entry at the same
time build it once: the others wait.
"""

import errno
import hashlib
import json
import logging
import mmap
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from recipes.engine import atomic
from recipes.engine.sources import DataError

log = logging.getLogger(__name__)

_CONTENTS = "arrays.json"


def folder() -> Path:
    """Where entries lie: $SNN_DELAY_PLUGINS_CACHE, else ~/.cache/snn_delay_plugins. Safe to delete."""
    return Path(os.environ.get("SNN_DELAY_PLUGINS_CACHE") or Path.home() / ".cache" / "snn_delay_plugins")


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


class InMemory:
    """A sink that keeps what it gets."""

    def __init__(self):
        self._pieces: dict[str, list[np.ndarray]] = {}

    def append(self, name: str, rows: np.ndarray) -> None:
        self._pieces.setdefault(name, []).append(rows)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}


class _OnDisk:
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


def cached(source: Path, kept: Path, make: Callable[[Sink], None]) -> dict[str, np.ndarray]:
    """The arrays that ``make`` makes of ``source``, read-only and mapped from the entry ``kept``, which is built where
    there is none or a damaged one. Raises :class:`DataError` where the disk is full."""
    arrays = _opened(source, kept)
    if arrays is not None:
        return arrays
    with atomic.locked(kept, lambda: log.info("waiting for another process that is reading %s", source)):
        arrays = _opened(source, kept)
        if arrays is None:
            _build(source, kept, make)
            arrays = _mapped(kept)
    return arrays


def _opened(source: Path, kept: Path) -> dict[str, np.ndarray] | None:
    if not kept.exists():
        return None
    try:
        return _mapped(kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{kept}: unreadable ({error}); reading {source} anew", stacklevel=4)
        return None


def _build(source: Path, kept: Path, make: Callable[[Sink], None]) -> None:
    try:
        with atomic.replacing_folder(kept) as part:
            sink, whole = _OnDisk(part), False
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


def _mapped(kept: Path) -> dict[str, np.ndarray]:
    contents = json.loads((kept / _CONTENTS).read_text(encoding="utf-8"))
    return {
        name: _map(kept / name, np.dtype(about["type"]), (about["rows"], *about["row"]))
        for name, about in contents.items()
    }


def _map(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    needed, found = kind.itemsize * int(np.prod(shape)), path.stat().st_size
    if found != needed:
        raise ValueError(f"{path.name} has {found} bytes, not {needed}")
    if not needed:
        return np.zeros(shape, kind)  # nothing cannot be mapped
    with open(path, "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(pages, kind).reshape(shape)
