r"""Convolutions over space whose every connection has a weight and a delay,

.. math:: I_{i}[t, x] = \sum_j \sum_y w_{ij}[y]\, s_j[t - d_{ij}[y],\, x + y],

with i and j channels, x positions and y the places of the kernel: as in :mod:`.delay` (SLAYER rule) and :mod:`.dcls`
(Gaussian), of which this is the extension to space (:mod:`.window_convolution`).

Shapes: spikes ``[T, N, C, L]`` or ``[T, N, C, H, W]``; weight and delay ``[out, C / groups, *kernel]``; output
``[T, N, out, *positions]``.
"""

from __future__ import annotations

from torch import Tensor

from ..checks import check_choice
from ..delays import GAUSSIAN, LINEAR, Interpolation
from .delay import INTERPOLATIONS
from .inputs import Padding
from .window_convolution import windowed_convolution

__all__ = ["delayed_convolution"]


def delayed_convolution(
    spikes: Tensor,
    weight: Tensor,
    delay: Tensor,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    sigma: float | Tensor | None = None,
    interpolation: Interpolation = "linear",
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    time_padding: Padding = "same",
    history: Tensor | None = None,
) -> Tensor:
    """Convolution over one or two axes of space with a delay per connection (equation: head of this module).

    :param spikes: ``[T, N, C, L]`` or ``[T, N, C, H, W]``. :param weight: ``[out, C / groups, *kernel]``.
    :param delay: of the shape of ``weight``, in time steps within ``[0, max_delay]``. :param bias: ``[out]``.
    :param sigma: a number or a tensor broadcastable to ``weight``: the delays are Gaussians of this standard deviation
        (Hammouamri et al., Eq. 9). Default: ``interpolation`` between steps, gradient by the SLAYER rule.
    :param interpolation: ``"linear"``, ``"round"`` (with ``sigma=None``: the discrete form, Eq. 7) or ``"floor"``.
    :param stride: and ``padding``, ``dilation``, ``groups``: over space, as in ``torch.nn.functional.conv2d``.
    :param time_padding: ``"same"``: T steps out, ``"full"``: ``T + max_delay``, or a number of steps more.
    :param history: the spikes before the first step, newest first, ``[H, N, C, ...]``; default: none came before.
    :returns: input currents ``[T + time_padding, N, out, *positions]`` in the dtype of ``spikes``; half precision is
        computed in float32.
    :raises ValueError: for shapes that do not fit, unknown options, a sigma that is not positive, or delays that are
        negative, NaN or longer than ``max_delay``.
    :raises TypeError: if ``spikes`` and ``weight`` have different dtypes (outside autocast) or are not floating point.

    Example::

        >>> import torch
        >>> spikes, weight = torch.zeros(3, 1, 1, 2, 2), torch.ones(1, 1, 1, 1)
        >>> spikes[0] = 1.0
        >>> delayed_convolution(spikes, weight, torch.ones(1, 1, 1, 1), max_delay=1)[:, 0, 0, 0, 0].tolist()
        [0.0, 1.0, 0.0]
    """
    if sigma is None:
        rule, parameters = LINEAR.interpolations[check_choice("interpolation", interpolation, INTERPOLATIONS)], {}
    else:
        rule, parameters = GAUSSIAN, {"sigma": sigma}
    return windowed_convolution(
        spikes, weight, delay, bias, rule=rule, parameters=parameters, max_delay=max_delay, stride=stride,
        padding=padding, dilation=dilation, groups=groups, time_padding=time_padding, history=history,
    )  # fmt: skip
