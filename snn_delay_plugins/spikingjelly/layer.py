"""Layers with delays for SpikingJelly."""

from __future__ import annotations

from typing import Unpack, cast

from ..delay_options import Interpolation, LinearOptions, takes_options
from ..delayed import DelayedSynapses, DiscreteSynapses
from .history import KeepsHistory, StepMode

__all__ = ["DelayedLinear", "DiscreteDelayedLinear"]


class DelayedLinear(DelayedSynapses, KeepsHistory):
    r"""Linear layer with a trainable weight and delay per synapse (Deckers et al., Eq. 7), used like ``layer.Linear``.

    .. math:: I_i[t] = \sum_j W_{ij}\, s_j[t - d_{ij}] + b_i

    Spikes ``[N, in]`` (``step_mode="s"``) or ``[T, N, in]`` (``"m"``); delays count time steps and stay in
    ``[0, max_delay]`` after every optimizer step. The memory is ``history``
    (:class:`~snn_delay_plugins.spikingjelly.history.KeepsHistory`). The options are those of
    ``help(DelayedLinear.__init__)`` and :class:`~snn_delay_plugins.delay_options.LinearOptions`.

    With ``layer(spikes, support=...)`` (mode ``"m"``) the gradient of the spikes may be computed in ``support`` alone, bool
    ``[T, N, in]``: what an :class:`AdLIFPlusNode` with ``store_support = True`` holds as ``support`` after a call, where
    its surrogate is not zero.

    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=25, step_mode="m")
        >>> layer(torch.rand(100, 8, 700)).shape
        torch.Size([100, 8, 128])
    """

    _operator = "delayed_linear"

    @takes_options(LinearOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        interpolation: Interpolation = "linear",
        step_mode: StepMode = "s",
        **options: Unpack[LinearOptions],
    ) -> None:
        super().__init__()
        self.create_synapses(in_features, out_features, bias, interpolation=interpolation, **options)
        self.keep_history(step_mode)

    def discretize(self, weight_bits: int | None = None) -> DiscreteDelayedLinear:
        """A frozen layer with whole delays for deployment: what this layer computes in evaluation, if its delays are
        learned through a Gaussian or ``interpolation="round"``.

        :param weight_bits: the weights as well in so many bits, 2 to 16 (:mod:`snn_delay_plugins.quantisation`): multiples
            of the buffer ``weight_scale``, by which they changed by a share ``weight_error``. Default: as they are.
        """
        return DiscreteDelayedLinear(self, weight_bits)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, interpolation={self.interpolation!r}, step_mode={self.step_mode!r}"


class DiscreteDelayedLinear(DiscreteSynapses, KeepsHistory):
    """A trained :class:`DelayedLinear` with its delays rounded, frozen for deployment (``layer.discretize()``).

    It holds the synapses that exist as a list in buffers and has no parameters and no gradients; spikes visit their
    synapses. It is called as the layer that it was made of.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=24, delay_gradient="gaussian", synapses=10, step_mode="m")
        >>> frozen = layer.eval().discretize()
        >>> spikes = (torch.rand(100, 8, 700) < 0.01).float()
        >>> torch.allclose(frozen(spikes), layer(spikes), atol=1e-5), frozen.weights.numel()
        (True, 1280)
    """

    def __init__(self, layer: DelayedLinear, weight_bits: int | None = None) -> None:
        super().__init__()
        self.take_synapses(layer, weight_bits)
        self.keep_history(cast("StepMode", layer.step_mode))
