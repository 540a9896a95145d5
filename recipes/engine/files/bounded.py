"""Unpacking what somebody else packed, up to a size that its own size accounts for.

A few kilobytes of zip or gzip unpack to gigabytes of zeros. Recordings do not: those of the recipes unpack to 2 to 20 times
their size.
"""

from pathlib import Path
from typing import BinaryIO

from ..errors import DataError

_RATIO = 100
_ALWAYS = 256 << 20


def most(packed: int) -> int:
    """Bytes that so many packed ones may become: 100 times as many, or 256 MiB."""
    return max(_RATIO * packed, _ALWAYS)


def copy(source: BinaryIO, into: BinaryIO, left: int, path: Path) -> int:
    """All of ``source``, at most ``left`` bytes; what is left of them. Raises :class:`DataError`, which names ``path``."""
    while piece := source.read(1 << 20):
        left -= len(piece)
        if left < 0:
            raise error(path)
        into.write(piece)
    return left


def error(path: Path) -> DataError:
    return DataError(f"{path}: unpacks to more than {_RATIO} times its size; not unpacked")
