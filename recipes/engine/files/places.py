"""Where files lie that nobody has named a folder for."""

import functools
import logging
import os
import tempfile
from pathlib import Path

import platformdirs

log = logging.getLogger(__name__)

_NAME = "snn_delay_plugins"
_said: set[Path] = set()


def cache() -> Path:
    """$SNN_DELAY_PLUGINS_CACHE, else the system's folder for caches (on Linux $XDG_CACHE_HOME or ~/.cache). Where that
    cannot be written, the folder for temporary files, after saying so once. Nothing is made here."""
    if named := os.environ.get("SNN_DELAY_PLUGINS_CACHE"):
        return Path(named)
    home = _home()
    if home or os.environ.get("XDG_CACHE_HOME"):
        usual = Path(platformdirs.user_cache_dir(_NAME, appauthor=False))
        if usual.is_absolute() and _writable(usual):
            return usual
    instead = _without_home()
    if instead not in _said:
        _said.add(instead)
        log.warning(
            "%s: nothing can be written there; the cache is in %s. Set HOME, or SNN_DELAY_PLUGINS_CACHE to another folder.",
            "no home folder" if home is None else home, instead,
        )  # fmt: skip
    return instead


def _home() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # HOME is not set, and the system does not know this user
        return None
    return home if home.is_dir() else None


def _without_home() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        shared = Path(tempfile.gettempdir()) / f"{_NAME}-{user}"
    except FileNotFoundError:  # no such folder either: whoever writes will say so
        return Path("/tmp") / f"{_NAME}-{user}"
    if os.path.lexists(shared) and (shared.is_symlink() or shared.stat().st_uid != user):
        return _private()  # somebody else has put it there, and could change what is read from it
    return shared


@functools.cache
def _private() -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{_NAME}-"))


def _writable(path: Path) -> bool:
    """Whether this folder is there, or can be made, and files in it."""
    while not path.is_dir():
        if os.path.lexists(path) or path.parent == path:
            return False
        path = path.parent
    return os.access(path, os.W_OK | os.X_OK)
