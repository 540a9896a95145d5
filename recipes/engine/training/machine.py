"""What a measurement was taken on, and how much memory it took."""

import ctypes
import gc
import importlib.metadata
import os
import platform
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import torch

import snn_delay_plugins

_PACKAGES = ("torch", "lightning", "spikingjelly", "numpy", "numba", "h5py")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result may depend on (those that are installed)."""
    found = {"snn_delay_plugins": snn_delay_plugins.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe() -> dict[str, object]:
    """Processor, cores and operating system; no host name."""
    return {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@contextmanager
def peak_memory():
    """Peak resident memory of this process inside the block, as ``.peak`` and ``.before`` in MiB.

    The peak includes Python, the libraries and the data, all of which are in ``before``, the resident memory
    at the block's start. Linux can set its high-water mark back to the present; elsewhere the mark is that of
    the whole process (``.reset`` is False).
    """
    memory = SimpleNamespace(before=psutil.Process().memory_info().rss / 2**20, peak=None, reset=_reset_high_water_mark())
    try:
        yield memory
    finally:
        memory.peak = _high_water_mark()


def release_memory() -> None:
    """Give memory that is not in use back to the operating system, where the allocator can, so that a peak counts it."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # no glibc; Windows has no library without a name
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Let freed tensors stay with this process. glibc gives large ones back to the operating system, which has to find
    their pages again in the next step: up to a tenth of a training's time."""
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 32 * 2**20)  # the largest that it takes
        mallopt(trim_threshold, 2**31 - 1)


def reset_peak_gpu_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gpu_memory(device: torch.device) -> float | None:
    """Most memory that tensors took on this GPU since the reset, in MiB; None on the processor."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def _reset_high_water_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to the present VmRSS
        return True
    except OSError:
        return False


def _high_water_mark() -> float:
    """In MiB."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    if peak is None:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak / 2**20
