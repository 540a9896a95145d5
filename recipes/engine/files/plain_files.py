"""Files that a user names: ordinary ones. A FIFO would wait for ever, and a device never ends."""

import os
import stat
from pathlib import Path

from ..errors import DataError

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def checked(path: Path, about: str = "") -> os.stat_result:
    """Of an ordinary file, or a link to one. Raises :class:`DataError`, which ends with ``about``."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        what = f"a link to {os.readlink(path)}, which is not there" if path.is_symlink() else "no such file"
        raise DataError(f"{path}: {what}{about}") from error
    except OSError as error:  # links in a circle, a folder that may not be read, a name that is too long
        raise DataError(f"{path}: {error.strerror}{about}") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path}: {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a file{about}")
    return found


def check_distinct(named: dict[str, Path]) -> None:
    """No two of these are one file, by a link: a test set would be trained on. Raises :class:`DataError`."""
    seen: dict[tuple[int, int], str] = {}
    for name, path in named.items():
        found = checked(path)
        other = seen.setdefault((found.st_dev, found.st_ino), name)
        if other != name:
            raise DataError(f"{path}: the same file as {named[other]}; {other} and {name} need files of their own")
