r"""Linear layers on spikes.

.. math:: I_i[t] = \sum_j W_{ij}\, s_j[t] + b_i

the layer of :mod:`.delay` without its delays. Where few of the entries are not zero, as in spike trains, forward and the
gradient of the weights visit those alone; the gradient of the spikes is needed alone where the surrogate of the neurons
that fired them is not zero (``support``).

Shapes: spikes ``[*, in]``, weight ``[out, in]``, output ``[*, out]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels import dispatch
from ..kernels.dispatch import LinearMethod

__all__ = ["spike_linear"]


def spike_linear(
    spikes: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    support: Tensor | None = None,
    method: LinearMethod | None = None,
) -> Tensor:
    """``torch.nn.functional.linear`` for an input that is mostly zero.

    :param spikes: spikes, or any real input, ``[*, in]``.
    :param weight: ``[out, in]``; :param bias: ``[out]``; another shape is for the product of matrices, which broadcasts it.
    :param support: where the gradient of ``spikes`` is wanted, of their shape; elsewhere it is zero. Behind a neuron
        with a boxcar surrogate nothing else matters: ``support = (u - threshold).abs() <= 0.5``.
    :param method: ``"torch"`` (products of matrices, the reference), ``"events"`` (compiled, CPU: entries that are not
        zero alone), ``"numba"`` (the faster one, by density). Default: chosen by
        :mod:`snn_delay_plugins.kernels.dispatch`. All agree up to rounding; the gradients of the compiled form cannot be
        differentiated again.
    :returns: currents ``[*, out]``; under autocast as ``torch.nn.functional.linear``.
    :raises ValueError: for shapes that do not fit, or an unknown or impossible method.

    Example::

        >>> import torch
        >>> spike_linear(torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[1.0, 2.0, 4.0]])).tolist()
        [[5.0]]
    """
    if weight.dim() != 2 or spikes.dim() < 1 or spikes.shape[-1] != weight.shape[1]:
        raise ValueError(f"spikes must be [*, in] and weight [out, in], got {tuple(spikes.shape)}, {tuple(weight.shape)}")
    if support is not None and support.shape != spikes.shape:
        raise ValueError(f"support must have the shape {tuple(spikes.shape)} of spikes, got {tuple(support.shape)}")
    chosen = dispatch.linear_method(spikes, weight, bias, method)
    if chosen == "torch":
        if support is not None:
            spikes = torch.where(support.bool(), spikes, spikes.detach())
        return torch.nn.functional.linear(spikes, weight, bias)
    from ..kernels.spike_linear.operator import sparse_linear as operator

    rows = spikes.reshape(-1, weight.shape[1])
    if support is not None:
        support = support.bool().reshape(rows.shape)
    return operator(rows, weight, bias, support, chosen).view(*spikes.shape[:-1], weight.shape[0])
