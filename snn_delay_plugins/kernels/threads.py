"""Compiled loops on several threads: the same machine code runs on one thread or on many, over ranges that never share
an output, so that results do not depend on the number of threads.

Python threads serve, because the loops release the interpreter lock; numba's own pool would abort the process where
two threads of a program call it at once, and it changes torch's number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import torch

__all__ = ["over_ranges", "pool"]


@lru_cache(maxsize=4)
def pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="snn_delay_plugins")  # one per process: pools do not fork


def over_ranges(task: Callable[[int, int], None], size: int, grain: int = 1) -> None:
    """Call ``task(first, last)`` on ranges that cover 0 ... size, on as many threads as torch uses; inner bounds are
    multiples of ``grain``."""
    pieces = -(-size // grain)
    threads = max(1, min(torch.get_num_threads(), pieces))
    bounds = [min(size, pieces * k // threads * grain) for k in range(threads + 1)]
    ranges = list(pairwise(bounds))
    if threads == 1:
        task(*ranges[0])
        return
    others = [pool(os.getpid(), threads - 1).submit(task, *piece) for piece in ranges[1:]]
    task(*ranges[0])
    for other in others:
        other.result()
