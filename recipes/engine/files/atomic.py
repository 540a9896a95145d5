"""Files that are either whole or absent: written beside their place, then moved into it in one step."""

import contextlib
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

# Where the system has no file locks that die with their process, filelock keeps one as a file that is there or not: it
# must not be taken for one of the other kind, which stays there unlocked.
_LOCK = ".held" if filelock.FileLock is filelock.SoftFileLock else ".lock"


class Held(RuntimeError):
    """Another process holds the lock."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path``; becomes ``path`` when the block ends without an error.

    A reader sees the old file or the new one, never a half-written one, also when the process is killed. An OSError of
    writing names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(part, 0o666 & ~_umask())  # mkstemp makes private files; a result is an ordinary one
        os.replace(part, path)
    except OSError as error:
        if error.errno is not None and (error.filename is None or str(part) in (error.filename, error.filename2)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``; becomes ``path`` when the block ends without an error.

    To be used inside :func:`locked`: what killed processes have left of earlier attempts is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.parts"):
        shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".parts"))
    try:
        yield part
        os.chmod(part, 0o777 & ~_umask())
        if path.is_dir():
            os.replace(path, f"{part}.old.parts")  # a folder cannot take the place of a full one in one step
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(f"{part}.old.parts", ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Only one process at a time is inside this block for the same ``path``; the others wait, after one call of
    ``waiting``. A killed process lets go. The lock is an empty file beside ``path`` that stays there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(f".{path.name}{_LOCK}"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Likewise for a folder that is there, whose lock lies in it. Raises :class:`Held` instead of waiting."""
    lock = filelock.FileLock(Path(folder) / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise Held(f"{folder}: held by another process") from None
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """JSON without NaN or infinity (they are not JSON): a value that holds one is an error here, not at the
    reader."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
