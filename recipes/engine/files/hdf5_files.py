"""HDF5 files from anywhere, packed (.gz, .zip) or not: read without following what they say about other files, and without
taking more memory than their size accounts for.

An HDF5 file may name others: by external links, by virtual data sets and by external storage of a data set. It may declare
any shape without storing it, and a list of any length in 16 bytes. All of that is refused here, with the name of the file
and of the data set. Limits: a packed file unpacks to at most 100 times its size (or 256 MiB), a data set has at most 2^24
rows, a chunk at most 64 MiB (compressed, at most 1 MiB, and no more than what it holds), and the lists of a
data set together are no longer than the file.
"""

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from ..errors import DataError
from . import archives, bounded, cache, plain_files

_MOST_ROWS = 1 << 24
_MOST_OF_A_CHUNK = 64 << 20
_MOST_STORED_OF_A_CHUNK = 1 << 20
_MOST_LINKS = 16
_OF_LISTS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}
_FILTERS = _OF_LISTS | {
    h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET,
    h5py.h5z.FILTER_LZF,
}  # fmt: skip
_WRONG = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, zlib.error)  # what h5py makes of damage


@contextmanager
def opened(path: Path) -> Iterator["Hdf5File"]:
    """Raises :class:`DataError`."""
    if not plain_files.checked(path).st_size:
        raise DataError(f"{path}: the file is empty")
    cache.folder().mkdir(parents=True, exist_ok=True)
    # Nameless: gone with the process, however it ends. Not in /tmp, which may be small, or memory.
    with open(path, "rb") as packed, tempfile.TemporaryFile(dir=cache.folder()) as plain:
        raw: BinaryIO = packed
        if path.suffix in (".gz", ".zip"):
            _unpack(path, plain)
            raw = plain
        try:
            file = h5py.File(path if raw is packed else plain, "r")
        except _WRONG as error:
            raise DataError(f"{path}: not an HDF5 file, or a damaged one ({error})") from error
        with file:
            yield Hdf5File(path, file, raw)


def _unpack(path: Path, plain: BinaryIO) -> None:
    if path.suffix == ".zip":
        archives.copy_file(path, path.stem, plain)
        return
    try:
        with gzip.open(path, "rb") as packed:
            bounded.copy(packed, plain, bounded.most(path.stat().st_size), path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})") from error


class Hdf5File:
    """An open file; ``raw`` are its plain bytes."""

    def __init__(self, path: Path, file: h5py.File, raw: BinaryIO):
        self.path, self._file, self._raw = path, file, raw

    def dataset(self, name: str) -> h5py.Dataset | None:
        """The data set of this name; None where there is nothing of this name or a group. Raises :class:`DataError`."""
        try:
            found = self._resolved(name)
            if found is None:
                return None
            identity = h5py.h5o.open(self._file.id, found.encode())
            if not isinstance(identity, h5py.h5d.DatasetID):
                return None
            self._check_storage(name, identity)
            dataset = h5py.Dataset(identity)
            self._check_size(name, dataset)
        except DataError:
            raise
        except _WRONG as error:
            raise self._damaged(name, error) from error
        return dataset

    def values(self, name: str, dataset: h5py.Dataset, which: slice = slice(None)) -> np.ndarray:
        """Some rows. Raises :class:`DataError`."""
        try:
            return dataset[which]
        except _WRONG as error:
            raise self._damaged(name, error, which) from error

    def check_lists(self, name: str, dataset: h5py.Dataset) -> None:
        """The lists of a data set of lists, [rows], are no longer than the file. Raises :class:`DataError`."""
        try:
            lengths = self._lengths(name, dataset)
        except DataError:
            raise
        except _WRONG as error:
            raise self._damaged(name, error) from error
        needed = lengths.astype(np.int64) * h5py.check_vlen_dtype(dataset.dtype).itemsize
        size = self._raw.seek(0, 2)
        if needed.sum() > size:
            longest = int(needed.argmax())
            raise DataError(
                f"{self.path}: {name} declares {needed.sum()} bytes (sample {longest} has {needed[longest]} of "
                f"them) in a file of {size}"
            )

    def _resolved(self, name: str) -> str | None:
        """The path of hard links alone that a name stands for; None where it stands for nothing."""
        parts, resolved, links = name.strip("/").split("/"), "", 0
        while parts:
            part = parts.pop(0)
            if part in ("", "."):
                continue
            here = self._file[resolved] if resolved else self._file
            if not isinstance(here, h5py.Group):
                return None
            link = here.get(part, getlink=True)
            if isinstance(link, h5py.SoftLink):
                links += 1
                if links > _MOST_LINKS:
                    raise DataError(f"{self.path}: {name} leads through more than {_MOST_LINKS} links")
                target = link.path.split("/")
                parts, resolved = target + parts, "" if link.path.startswith("/") else resolved
            elif isinstance(link, h5py.HardLink):
                resolved = f"{resolved}/{part}"
            elif link is None:
                return None
            else:
                self._refuse(name, getattr(link, "filename", "another file"))
        return resolved or None

    def _check_storage(self, name: str, identity: h5py.h5d.DatasetID) -> None:
        """Before anything of the data set is asked for that would open other files."""
        made = identity.get_create_plist()
        if made.get_external_count():
            self._refuse(name, made.get_external(0)[0].decode("utf-8", "replace"))
        if made.get_layout() == h5py.h5d.VIRTUAL:
            self._refuse(name, made.get_virtual_filename(0) if made.get_virtual_count() else "others")
        self._check_filters(name, made, _FILTERS)

    def _check_filters(self, name: str, made: h5py.h5p.PropDCID, allowed: set[int]) -> None:
        filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
        if set(filters) - allowed or len(set(filters)) < len(filters):
            raise DataError(f"{self.path}: {name} is stored with filters {filters}; read are {sorted(allowed)}, once each")

    def _check_size(self, name: str, dataset: h5py.Dataset) -> None:
        if dataset.shape is None or dataset.size > _MOST_ROWS:
            raise DataError(f"{self.path}: {name} has shape {dataset.shape}; at most {_MOST_ROWS} entries are read")
        if dataset.chunks is None:
            return
        size = int(np.prod(dataset.chunks, dtype=object)) * dataset.id.get_type().get_size()
        if size > _MOST_OF_A_CHUNK:
            raise DataError(f"{self.path}: {name} has chunks of {size} bytes; at most {_MOST_OF_A_CHUNK} are read")
        if dataset.compression:
            stored = max((dataset.id.get_chunk_info(i).size for i in range(dataset.id.get_num_chunks())), default=0)
            if stored > min(size + size // 10 + 1024, _MOST_STORED_OF_A_CHUNK):
                raise DataError(
                    f"{self.path}: {name} has a chunk of {size} bytes that is compressed to {stored}; it must "
                    f"be smaller than what it holds, and than {_MOST_STORED_OF_A_CHUNK}"
                )

    def _lengths(self, name: str, dataset: h5py.Dataset) -> np.ndarray:
        """Of all lists, from their descriptors: a length of 4 bytes, an address, an index of 4 bytes."""
        width = 8 + self._file.id.get_create_plist().get_sizes()[0]
        made = dataset.id.get_create_plist()
        self._check_filters(name, made, _OF_LISTS)
        layout = made.get_layout()
        if layout == h5py.h5d.CHUNKED:
            parts = [_chunk(dataset, i, width) for i in range(dataset.id.get_num_chunks())]
        elif layout == h5py.h5d.CONTIGUOUS:
            start = dataset.id.get_offset()
            if start is None:  # nothing was ever written
                return np.zeros(0, np.uint32)
            self._raw.seek(start)
            parts = [self._raw.read(width * dataset.size)]
        else:
            raise DataError(f"{self.path}: {name} is stored in the compact layout, which is not read")
        return np.concatenate([_first_words(part, width) for part in parts] or [np.zeros(0, np.uint32)])

    def _refuse(self, name: str, other: object) -> None:
        raise DataError(f"{self.path}: {name} is kept in another file ({other}), which is not read; copy it into this one")

    def _damaged(self, name: str, error: Exception, which: slice = slice(None)) -> DataError:
        where = "" if which.start is None else f"between samples {which.start} and {which.stop - 1} "
        return DataError(f"{self.path}: damaged {where}({name}: {' '.join(str(error).split())})")


def _chunk(dataset: h5py.Dataset, number: int, width: int) -> bytes:
    """The plain bytes of one chunk, whose rows are ``width`` bytes wide."""
    about = dataset.id.get_chunk_info(number)
    _, stored = dataset.id.read_direct_chunk(about.chunk_offset)
    made, whole = dataset.id.get_create_plist(), width * int(np.prod(dataset.chunks))
    for i in reversed(range(made.get_nfilters())):
        if about.filter_mask & 1 << i:
            continue
        which = made.get_filter(i)[0]
        if which == h5py.h5z.FILTER_DEFLATE:
            stored = zlib.decompressobj().decompress(stored, whole)
        else:  # shuffled: first bytes, then second bytes, ...
            stored = np.frombuffer(stored, np.uint8)[:whole].reshape(width, -1).T.tobytes()
    return stored


def _first_words(rows: bytes, width: int) -> np.ndarray:
    whole = len(rows) // width * width
    return np.frombuffer(rows[:whole], np.uint8).reshape(-1, width)[:, :4].copy().view("<u4")[:, 0]
