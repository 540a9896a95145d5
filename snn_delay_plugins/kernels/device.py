"""Which kernels serve a tensor: Triton's on CUDA, and on any device inside of :func:`interpreted`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

from torch import Tensor

__all__ = ["has_triton", "interpreted", "kernel_device", "runs_triton"]

_interpreted = False


@cache
def has_triton() -> bool:
    return find_spec("triton") is not None


def kernel_device(tensor: Tensor) -> str:
    """The type of device whose kernels serve the tensor."""
    return "cuda" if _interpreted else tensor.device.type


def runs_triton(tensor: Tensor) -> bool:
    """Whether Triton's kernels are those of the tensor, if Triton is installed."""
    return _interpreted or tensor.is_cuda


@contextmanager
def interpreted() -> Iterator[None]:
    """Tensors of the CPU go through everything that is written for CUDA, with the kernels in Triton's interpreter.

    :raises RuntimeError: unless ``TRITON_INTERPRET=1``, which triton looks at when it is imported.
    """
    global _interpreted
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("set TRITON_INTERPRET=1 before triton is imported: without it its kernels need a GPU")
    before, _interpreted = _interpreted, True
    try:
        yield
    finally:
        _interpreted = before
