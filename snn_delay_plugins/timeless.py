"""Losses that read how many spikes there are and not when: EventProp has no gradient for them, which is said once it shows.

A dense spike train X[T, N, C] of events hands the gradient g = dL/dX on as dL/dt = (g[n+1] - g[n-1]) / (2 dt)
(:mod:`snn_delay_plugins.events`). A loss of the counts sum_n X[n] has the same g at all times, and one that writes its
gradient to the bins of the spikes alone has none beside them: every dL/dt is then zero, and nothing learns.
"""

from __future__ import annotations

import warnings

from torch import Tensor

from .callers import user_level
from .checks import values_known

__all__ = ["warn_if_timeless"]

_ROUNDING = 1e-6


def warn_if_timeless(dense: Tensor, later: Tensor, change: Tensor, bins: Tensor) -> None:
    """Warn where a gradient on dense spikes says nothing about their times.

    :param dense: g, ``[T, N, C]``. :param later: g[n+1] and :param change: g[n+1] - g[n-1] of every spike, ``[spikes]``.
    :param bins: n, ``[spikes]``.
    """
    if not change.numel() or not values_known(dense) or not _without_time(later, change, bins, dense.shape[0]):
        return
    if bool((dense != 0).any()) and bool(dense.isfinite().all()):
        warnings.warn(
            f"the gradient on the dense spikes {list(dense.shape)} of an EventProp layer is the same before and after "
            "every spike: the loss reads how many spikes there are (or marks single ones), not when. EventProp moves "
            "spikes in time and has no gradient for their number: this loss alone trains none of the layers before "
            "(snnTorch's ce_count_loss, mse_count_loss, ce_temporal_loss and mse_temporal_loss are such losses). Set "
            "count_gradient=1 of the layer (or of SpikeEvents.to_dense) for a gradient that stands in for that of counts, "
            "read the output through EventPropLI (voltages) or SpikeEvents.first_spike_times "
            "(functional.losses.first_spike_cross_entropy), or regulate counts with "
            "functional.losses.spike_count_regularisation",
            stacklevel=user_level(),
        )


def _without_time(later: Tensor, change: Tensor, bins: Tensor, steps: int) -> bool:
    size = change.abs()
    largest, spike = size.max(0)
    negligible = _ROUNDING * float(later.abs().max())
    if not float(largest) > negligible:
        return True
    if 0 < int(bins[spike]) < steps - 1:
        return False
    # In the first and last bin a spike has a neighbour on one side alone: the others tell, if there are any.
    inner = size[(bins > 0) & (bins < steps - 1)]
    return bool(inner.numel()) and not float(inner.max()) > negligible
