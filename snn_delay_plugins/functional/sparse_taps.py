"""Sparse connections in training: windows over a list of synapses (:func:`~.windows.listed_convolution`), by their names of
before there were rules."""

from __future__ import annotations

from .dcls import gaussian_window
from .delay import delay_window
from .windows import listed_convolution as sparse_convolution
from .windows import smoothed_taps

__all__ = ["delay_window", "gaussian_window", "smoothed_taps", "sparse_convolution"]
