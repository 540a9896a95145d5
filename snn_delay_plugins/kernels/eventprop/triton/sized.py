"""Kernels that are compiled once for all sizes."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

import triton

SIZES = frozenset(
    (
        "steps",
        "n_in",
        "n_out",
        "capacity",
        "nodes",
        "max_spikes",
        "of_sample",
        "of_step",
        "every",
        "samples",
        "parts",
        "columns",
    )
)
"""Names of the arguments that count something."""


def sized(function: Callable):
    """``triton.jit`` of a kernel that is launched.

    Triton compiles again for a number that is 1 and for one that is divisible by 16. How many spikes there are is data:
    a training would stop to compile, for seconds, at batches long after the first. Lanes are neurons one after the other,
    a thread each, so that no load or store gains by what is known of the sizes.
    """
    return triton.jit(function, do_not_specialize=[name for name in signature(function).parameters if name in SIZES])
