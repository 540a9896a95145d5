"""Arrays of npz and npy files from anywhere: no pickled objects, and no more memory than the file's size accounts for.

A few bytes may declare an array of any shape, and a few kilobytes of zip unpack to gigabytes of zeros: what an array
declares is compared with what is stored, and that with the size of the file (:mod:`recipes.engine.files.bounded`).
"""

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataError
from . import bounded, plain_files

_WRONG = (  # what NumPy and zipfile make of damage
    OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, OverflowError, MemoryError, SyntaxError, struct.error,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays, by name. Raises :class:`DataError`."""
    most = bounded.most(plain_files.checked(path).st_size)
    arrays = {}
    try:
        with zipfile.ZipFile(path) as packed:
            for about in packed.infolist():
                most -= about.file_size
                if most < 0:
                    raise bounded.error(path)
                name = about.filename.removesuffix(".npy")
                with packed.open(about) as member:
                    _check_header(path, name, member, about.file_size)
                with packed.open(about) as member:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    except DataError:
        raise
    except _WRONG as error:
        raise DataError(f"{path}: not a whole npz file without pickled objects ({error})") from error
    return arrays


def read_npy(path: Path) -> np.ndarray:
    """Raises :class:`DataError`."""
    stored = plain_files.checked(path).st_size
    try:
        with open(path, "rb") as file:
            _check_header(path, "it", file, stored)
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except DataError:
        raise
    except _WRONG as error:
        raise DataError(f"{path}: not a readable npy file ({error})") from error


def _check_header(path: Path, name: str, member: BinaryIO, stored: int) -> None:
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"{name} is in format {version}")
    shape, _, dtype = _HEADERS[version](member)
    size = dtype.itemsize
    for length in shape:
        size *= length
    if not dtype.hasobject and (size < 0 or size > stored):
        raise DataError(f"{path}: {name} declares {size} bytes, but {stored} are stored")
