"""The package ``nir``, which an extra installs, and what is raised where it cannot say something."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["DT", "NIRError", "check_dt", "nir", "refuse"]

try:
    import nir
except ImportError as error:
    raise ImportError("NIR needs the package nir: pip install 'snn_delay_plugins[nir]'") from error

DT = 1e-4
"""Seconds of a step, where none are given: those of snnTorch's and SpikingJelly's exporters."""


class NIRError(ValueError):
    """A network that NIR cannot say, or a graph that is damaged or that no layer here can run."""


def refuse(where: str, why: str) -> NoReturn:
    """:raises NIRError: in one voice."""
    raise NIRError(f"{where}: {why}")


def check_dt(dt: float) -> float:
    """:raises ValueError: unless dt is a positive number of seconds."""
    if isinstance(dt, bool) or not isinstance(dt, int | float) or not 0 < dt < float("inf"):
        raise ValueError(f"dt must be a positive number of seconds, got {dt!r}")
    return float(dt)
