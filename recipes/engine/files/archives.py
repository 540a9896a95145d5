"""Unpacking archives from the web: only plain files, only inside the folder they are meant for, whole or not at all, and no
more than their size accounts for."""

import bz2
import contextlib
import errno
import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import DataError
from . import atomic, bounded, plain_files


def unpack(archive: Path, folder: Path) -> None:
    """All files of a .zip or .tar.gz into ``folder``, which is there when the last one is, and replaces an older one.
    One process at a time (:func:`recipes.engine.files.atomic.locked`). Raises :class:`DataError`."""
    left = bounded.most(plain_files.checked(archive).st_size)
    with _explained(archive), atomic.replacing_folder(folder) as part:
        for name, content in _files(archive):
            path = part.joinpath(*name.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as file:
                left = bounded.copy(content, file, left, archive)


def unpack_file(archive: Path, name: str, into: Path) -> None:
    """The one file called ``name``, in whichever folder of the archive, as ``into``. Raises :class:`DataError`."""
    with atomic.replacing(into) as part, open(part, "wb") as file:
        copy_file(archive, name, file)


def copy_file(archive: Path, name: str, into: BinaryIO) -> None:
    """Likewise into an open file."""
    found, left = [], bounded.most(plain_files.checked(archive).st_size)
    with _explained(archive):
        for inside, content in _files(archive):
            found.append(inside)
            if inside.name == name:
                into.seek(0)
                into.truncate()
                left = bounded.copy(content, into, left, archive)
    if name not in [inside.name for inside in found]:
        held = ", ".join(map(str, found[:10])) or "nothing"
        raise DataError(f"{archive}: no file {name} in this archive; it holds {held}")


def _files(archive: Path) -> Iterator[tuple[PurePosixPath, BinaryIO]]:
    """Where each file belongs and its content; folders are made as needed, and anything else is refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                mode = member.external_attr >> 16
                if mode & 0o170000 not in (0, 0o100000, 0o040000):
                    raise DataError(f"{archive}: {member.filename!r} is neither a file nor a folder; not unpacked")
                if not member.is_dir():
                    with packed.open(member) as content:
                        yield _inside(archive, member.filename), content
        return
    with _plain_tar(archive) as plain, tarfile.open(fileobj=plain, mode="r:") as packed:
        for member in packed:
            if not (member.isreg() or member.isdir()):
                raise DataError(f"{archive}: {member.name!r} is neither a file nor a folder; not unpacked")
            if member.isreg():
                yield _inside(archive, member.name), packed.extractfile(member)
        while plain.read(1 << 20):  # to the end, where gzip's checksum is
            pass


@contextlib.contextmanager
def _plain_tar(archive: Path) -> Iterator["_Limited"]:
    """What a .tar, .tar.gz, .tar.bz2 or .tar.xz packs. Its headers too may be of any length."""
    with open(archive, "rb") as file:
        start = file.read(6)
        file.seek(0)
        openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
        opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), None)
        with opener(file, "rb") if opener else contextlib.nullcontext(file) as plain:
            yield _Limited(plain, archive)


class _Limited:
    """A file for reading, of which no more than a number of bytes are read."""

    def __init__(self, file: BinaryIO, archive: Path):
        self._file, self._archive = file, archive
        self._most = bounded.most(archive.stat().st_size)

    def read(self, size: int = -1) -> bytes:
        left = max(self._most - self._file.tell(), 0)
        content = self._file.read(left + 1 if size < 0 else min(size, left + 1))
        if len(content) > left:
            raise bounded.error(self._archive)
        return content

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        if whence == 0 and position > self._most:
            raise bounded.error(self._archive)
        return self._file.seek(position, whence)


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(c in name for c in "\\:\0"):
        raise DataError(f"{archive}: {name!r} would be written outside its folder; not unpacked")
    return path


@contextlib.contextmanager
def _explained(archive: Path) -> Iterator[None]:
    """What archives and disks can be wrong with, as an error that names the archive."""
    damaged = (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError,
        NotImplementedError, ValueError, OverflowError,
    )  # fmt: skip
    try:
        yield
    except DataError:
        raise
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise DataError(f"{archive}: two files called {Path(error.filename).name}; not unpacked") from error
    except damaged as error:
        raise DataError(f"{archive}: damaged, or not an archive ({error}); delete it to have it made anew") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{archive}: no space left to unpack it beside it") from error
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise DataError(f"{archive}: a name that cannot be written here ({error.strerror}); not unpacked") from error
        if error.errno is None:  # gzip.BadGzipFile
            raise DataError(f"{archive}: damaged ({error}); delete it to have it made anew") from error
        raise
