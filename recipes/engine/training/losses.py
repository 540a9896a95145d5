"""Losses on the membrane potential of a readout, ``[T, N, classes]``."""

import torch
from torch import Tensor


def summed_softmax(membrane: Tensor) -> Tensor:
    r"""Softmax of every step, summed over time: ``[T, N, classes] -> [N, classes]`` (Deckers et al., Eq. 3).

    .. math:: u_{out} = \sum_t \frac{e^{u_{out}[t]}}{\sum_j e^{u_{out,j}[t]}}

    The sum over the classes is T, so :math:`u_{out}` lies in [0, T].
    """
    # one class after the other: over few classes that lie side by side torch's softmax takes twice as long on a CPU
    return torch.softmax(membrane.permute(2, 0, 1).contiguous(), dim=0).sum(1).t()


def summed_softmax_cross_entropy(membrane: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with :func:`summed_softmax` as logits, mean over the batch (Deckers et al., Eq. 4)."""
    return torch.nn.functional.cross_entropy(summed_softmax(membrane), labels)


def rates_above(rates: Tensor, most: float) -> Tensor:
    r"""Excess of rates over ``most``, squared, mean over the neurons: :math:`\frac 1n \sum_i \max(0, r_i - r_{max})^2`."""
    return (rates - most).clamp(min=0).square().mean()
