"""``numba.njit`` whose cache on disk may be missing, full, read-only or damaged, and that finds loops built by a function.

numba names an entry of the cache by the pickled variables that a loop closes over. A compiled function among them pickles
differently in every process: no process would find what another one has compiled, and the folder would grow for ever.
Here such a variable stands for what it computes.

numba fails at the first call where it finds no folder that can be written, where the disk is full, and where a file of
the cache is cut or overwritten. Here the loops are then compiled anew in every process, which gives the same numbers,
and one warning says what to set.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import sys
import warnings
from collections.abc import Callable
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.core import sigutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps
from numba.extending import _Intrinsic

__all__ = ["njit"]


_told = False


def _tell(reason: Exception) -> None:
    """One warning in a process, whatever the number of functions."""
    global _told
    if not _told:
        _told = True
        warnings.warn_explicit(  # no line of source: none that the user wrote is to blame
            "numba cannot keep compiled code on disk, so that every process compiles anew (up to half a minute before "
            "its first results): set the environment variable NUMBA_CACHE_DIR to a folder that can be written and has "
            f"room ({type(reason).__name__}: {reason})",
            RuntimeWarning,
            __name__,
            0,
        )


class _ChecksummedResults(CompileResultCacheImpl):
    """Machine code with its checksum: a damaged block of a file would crash the process."""

    def get_filename_base(self, fullname, abiflags):
        return super().get_filename_base(fullname, abiflags) + ".checked"  # no file that numba itself would read

    def reduce(self, cres):
        code = dumps(super().reduce(cres))
        return hashlib.sha256(code).digest(), code

    def rebuild(self, target_context, payload):
        digest, code = payload
        if hashlib.sha256(code).digest() != digest:
            raise ValueError("the checksum of the cached code differs")
        return super().rebuild(target_context, pickle.loads(code))


_PLAIN = (bool, int, float, str, tuple, np.generic, np.ndarray)


def _description(value: Any, within: tuple[FunctionType, ...] = ()) -> Any:
    """What a variable of a loop computes, equal in every process: a function by its code and by the variables and compiled
    functions that it uses in turn; an array by its numbers; anything else by its ``repr``."""
    if isinstance(value, np.ndarray):  # whose ``repr`` leaves out most of a long one
        return value.dtype.str, value.shape, value.tobytes().hex()
    if isinstance(value, _Intrinsic):  # writes instructions of its own, with help from all around it
        return _sources(value._defn.__module__)
    function = getattr(value, "py_func", value)
    if not isinstance(function, FunctionType):
        return repr(value)
    if function in within:  # a function that calls itself
        return function.__qualname__
    within = (*within, function)
    names = [function.__globals__.get(name) for name in function.__code__.co_names]
    used = [x for x in names if hasattr(x, "py_func") or isinstance(x, (*_PLAIN, _Intrinsic))]
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return _instructions(function.__code__), [_description(x, within) for x in (*cells, *used)]


@cache
def _sources(module: str) -> list:
    """Of a module and of those of its package that it takes functions from, and the numbers that they have."""
    package, found, ahead = module.partition(".")[0], {}, [module]
    while ahead:
        name = ahead.pop()
        if name in found or name.partition(".")[0] != package:
            continue
        inside = {key: x for key, x in vars(sys.modules[name]).items() if not key.startswith("__")}
        numbers = [(key, repr(x)) for key, x in sorted(inside.items()) if isinstance(x, (bool, int, float))]
        found[name] = inspect.getsource(sys.modules[name]), numbers
        ahead += [x.__name__ for x in inside.values() if isinstance(x, ModuleType)]
        ahead += [x.__module__ for x in inside.values() if isinstance(x, FunctionType)]
    return sorted(found.items())


def _instructions(code: CodeType) -> Any:
    constants = [_instructions(x) if isinstance(x, CodeType) else repr(x) for x in code.co_consts]
    return code.co_code.hex(), code.co_names, constants


class _ForgivingCache(FunctionCache):
    """numba's cache of one function; what goes wrong with its files is a miss."""

    _impl_class = _ChecksummedResults

    def _index_key(self, sig, codegen):
        description = repr(_description(self._py_func)).encode()
        return sig, codegen.magic_tuple(), hashlib.sha256(description).hexdigest()

    def load_overload(self, sig, target_context):
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # damaged pickles raise anything
            self._start_anew()
            return None
        # two processes that write at once can leave an index that names the file of another signature
        arguments, _ = sigutils.normalize_signature(sig)
        return found if found is None or found.signature.args == arguments else None

    def _start_anew(self) -> None:
        try:
            self.flush()
        except OSError as error:
            self.disable()
            _tell(error)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self.disable()
            _tell(error)


def njit(**options) -> Callable[[Callable], Callable]:
    """``numba.njit(**options)``, with ``cache=True`` wherever that is possible.

    Example::

        >>> @njit(nogil=True)
        ... def twice(x):
        ...     return 2 * x
        >>> twice(2.0)
        4.0
    """
    cached = options.pop("cache", False)

    def compiled(function: Callable) -> Callable:
        dispatcher = numba.njit(**options)(function)
        if cached and hasattr(dispatcher, "enable_caching"):  # NUMBA_DISABLE_JIT gives the function itself
            try:
                dispatcher._cache = _ForgivingCache(function)  # pyright: ignore[reportAttributeAccessIssue] - numba's own field
            except (RuntimeError, OSError) as error:
                _tell(error)
        return dispatcher

    return compiled
