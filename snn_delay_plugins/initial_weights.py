r"""Initial weights from which adaptive and leaky neurons fire, whatever the density of their input.

Eq. 1 of Deckers et al. scales the input current by (1 - alpha): a neuron of threshold theta = 1 sees the running mean of
its current. Let n synapses carry independent spikes of probability p per step. With weights of variance
:math:`\sigma^2 / n`, whose sum over a neuron's synapses has the mean :math:`-c\,\sigma` and the standard deviation
:math:`\rho\,\sigma`, the membrane potential before adaptation and reset has

.. math::
    \text{mean } -c\,\sigma\,p, \qquad
    \text{variance } \underbrace{\rho^2 \sigma^2 p^2}_{\text{from neuron to neuron}} +
    \underbrace{\sigma^2\, p\,(1 - p)\, \frac{1 - \alpha}{1 + \alpha}}_{\text{from step to step}}

and fires where it exceeds 1. Neither depends on n. The step-to-step part alone reaches the threshold in sparse input:
for p = 0.02 it is 0.066 sigma for alpha from U(0.36, 0.96) (AdLIF+, LIF), so that 1 / (0.066 sigma), about one standard
deviation, sets :data:`GAIN`: enough to fire, and no more, for the gradient of a spike reaches no further than its
surrogate's support. In dense input everything grows with p, and the share of neurons above threshold tends to Q(c /
rho) (Q: the tail of the normal distribution) whatever p and sigma are: an excess of inhibition, :data:`INHIBITION`, as
in balanced networks of neuroscience, keeps it from the half of the neurons that weights of mean zero would drive into
saturation. :data:`SPREAD` below 1 (independent weights have 1) keeps the neuron-to-neuron part from silencing whole
small layers. A neuron with few synapses gets less inhibition, c (1 - 1 / n): with one, half of them are excited.

A layer that spreads every spike over time by a kernel h of sum 1 (a Gaussian delay in training, SLAYER's smoothing)
leaves less of the step-to-step part: its weights grow by :math:`(\lVert \ell \rVert / \lVert \ell * h \rVert)^{1.6}`,
where :math:`\ell[k] = (1 - \alpha)\, \alpha^k` is the membrane's response for alpha = :data:`LEAK`. The power is 1 for
input that is independent from step to step; the layers behind do not have such input, and it was found on the grid
below.

The numbers were chosen on a grid of densities, widths and depths (``tests/test_firing.py`` holds the part that is
promised): layers of 2 to 4 fire between 0.5 % and 30 % of their neuron-steps with AdLIF+ and LIF neurons. Twice the
gain lets Bittar and Garner's slower AdLIF neurons fire too (they see 0.034 sigma), and was given up: AdLIF+ networks
then learned more slowly (0.66 instead of 1.0 of test clips right after 60 steps on 20 noisy patterns).
:func:`snn_delay_plugins.calibrate` serves those.

What is not ours knows nothing of this: ``nn.Linear`` starts from weights of sigma = 0.58, far below what AdLIF+ needs
even behind dense spikes, and no choice of the neuron's own parameters makes up for it without changing Eq. 1 (alpha
scales the fluctuations down alone). :func:`snn_delay_plugins.calibrate` scales such weights to a wanted rate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import values_known

__all__ = ["GAIN", "INHIBITION", "LEAK", "SPREAD", "firing_weight_"]

GAIN = 16.0
"""sigma, in thresholds."""
INHIBITION = 0.5
"""c: the mean sum of a neuron's weights is -INHIBITION * GAIN."""
SPREAD = 0.4
"""rho: the standard deviation of that sum is SPREAD * GAIN."""
LEAK = 0.8
"""alpha, a step, between those of fast and of slow neurons."""
SMOOTHED = 1.6
"""The power with which weights make up for a kernel over time."""


def firing_weight_(draw: Tensor, mask: Tensor | None = None, kernel: Tensor | None = None) -> Tensor:
    """Turn independent draws from U(-1, 1) into weights that make neurons fire (head of this module), in place.

    :param draw: ``[out, *]``; a neuron's (or filter's) synapses are all entries of its row.
    :param mask: which synapses exist, of the same shape; the others become zero. Default: all.
    :param kernel: over which steps every spike is spread, ``[taps]``. Default: over none.
    :returns: ``draw``.

    Example::

        >>> weight = firing_weight_(torch.empty(1000, 300).uniform_(-1, 1))
        >>> round(weight.std().item() * 300 ** 0.5) == GAIN
        True
    """
    with torch.no_grad():
        rows = draw.flatten(1)
        exists = torch.ones_like(rows) if mask is None else mask.flatten(1).to(rows.dtype)
        fan_in = exists.sum(1, keepdim=True)
        unit = rows * exists * math.sqrt(3)
        unit = unit - (1 - SPREAD) * exists * unit.sum(1, keepdim=True) / fan_in
        unit = unit / (1 - (1 - SPREAD**2) / fan_in).sqrt()  # the variance that the sum has lost
        gain = GAIN if kernel is None else GAIN * _loss(kernel)
        weight = gain * (unit / fan_in.sqrt() - exists * INHIBITION * (1 - 1 / fan_in) / fan_in)
        return draw.copy_(weight.view_as(draw))


def _loss(kernel: Tensor) -> float:
    """How much smaller the fluctuations of a membrane are behind ``kernel``: by its size, and by what it smooths."""
    if not values_known(kernel):  # nor are the draws
        return 1.0
    taps = kernel.detach().double().flatten().cpu()
    size = taps.abs().sum().clamp_min(1e-12)
    steps = len(taps) + math.ceil(math.log(1e-6) / math.log(LEAK))
    response = (1 - LEAK) * LEAK ** torch.arange(steps, dtype=torch.double)
    # the products of their spectra: a convolution would write out as many copies of the response as there are taps
    reach = steps + len(taps)
    spread = torch.fft.irfft(torch.fft.rfft(response, reach) * torch.fft.rfft(taps / size, reach), reach)[:steps]
    return float((response.norm() / spread.norm().clamp_min(1e-12)) ** SMOOTHED / size)
