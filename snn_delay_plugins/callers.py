"""Where a warning points: at the user's line, however many frames of torch, the frameworks and this package lie between."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path
from types import FrameType

__all__ = ["user_level"]

_BETWEEN = ("torch", "snntorch", "spikingjelly", __package__ or "")
_WRAPPERS = (contextlib.__file__, functools.__file__)  # of decorators, cached properties and single dispatch


def user_level() -> int:
    """The ``stacklevel`` with which a warning of the function that calls this points at the user's code."""
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _BETWEEN)
    inside = (*(str(Path(file).parent) + os.sep for file in files if file), *_WRAPPERS)
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and _lies_between(frame, inside):
        level, frame = level + 1, frame.f_back
    return level


def _lies_between(frame: FrameType, inside: tuple[str, ...]) -> bool:
    file, caller = frame.f_code.co_filename, frame.f_back
    generated = file.startswith("<") and caller is not None and caller.f_code.co_filename.startswith(inside)
    return generated or file.startswith(inside)
