"""Layers with delays for SpikingJelly."""

from __future__ import annotations

from torch import Tensor

from ..delayed import DelayedSynapses, DiscreteSynapses
from .memory import DetachableMemories

__all__ = ["DelayedLinear", "DiscreteDelayedLinear"]


class DelayedLinear(DelayedSynapses, DetachableMemories):
    r"""Linear layer with a trainable weight and delay per synapse (Deckers et al., Eq. 7), used like ``layer.Linear``.

    .. math:: I_i[t] = \sum_j W_{ij}\, s_j[t - d_{ij}] + b_i

    Spikes ``[N, in]`` (``step_mode="s"``) or ``[T, N, in]`` (``"m"``) in, currents ``[N, out]`` or ``[T, N, out]``
    out; delays count time steps. Both modes give equal outputs. The memory ``history`` holds the last inputs,
    ``[max_delay + 1, N, in]``, until ``functional.reset_net``: a sequence may be fed in parts. It shares memory
    with that of the next step: write into a clone alone. The delay stays in ``[0, max_delay]`` after every
    optimizer step. With ``layer(spikes, support=...)`` (mode ``"m"``) the gradient of the spikes may be computed in
    ``support`` alone, bool ``[T, N, in]``: what an :class:`AdLIFPlusNode` with ``store_support = True`` holds as
    ``support`` after a call, where its surrogate is not zero.

    :param max_delay: longest delay.
    :param delay: initial delays: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.
    :param delay_type: ``"synaptic"`` (delay ``[out, in]``), ``"axonal"`` (``[1, in]``), ``"dendritic"`` (``[out, 1]``).
    :param learn_delay: ``False``: the delays are a buffer.
    :param delay_gradient: ``"slayer"``, or ``"gaussian"``: in training a Gaussian around the delay, in evaluation the
        rounded delay (Hammouamri et al., Eq. 9 and Eq. 7).
    :param interpolation: SLAYER: ``"linear"``, ``"round"`` or ``"floor"`` between whole steps.
    :param padding: ``"same"``, or with mode ``"m"`` alone a number of steps after the last, that late spikes still
        arrive (published DCLS models: ``max_delay // 2``), or ``"full"`` (``max_delay``); then nothing is left for the
        next call.
    :param smoothing: SLAYER: the causal kernel eps_d over time (Deckers et al., section 3.3), ``[taps]``.
    :param sigma: Gaussian: standard deviation in time steps. Default: T_d // 2 + 0.27 with T_d = max_delay + 1, where
        the published annealing starts; bring it down to 0.5 with :mod:`snn_delay_plugins.schedules`.
    :param learn_sigma: Gaussian: sigma is a parameter, at least 0.27, instead of a buffer.
    :param sigma_type: ``"shared"`` (one number) or ``"synaptic"`` (``[out, in]``).
    :param synapses: number of synapses per neuron, from random senders (``mask``). Default: from all senders.
    :param density: the same as a share of the senders.
    :param step_mode: ``"s"`` or ``"m"``.
    :param bound_mode: ``"project"`` (clip after the optimizer's step) or ``"clamp"`` (clamp in the forward pass).
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=25, step_mode="m")
        >>> layer(torch.rand(100, 8, 700)).shape
        torch.Size([100, 8, 128])
    """

    _operator = "delayed_linear"
    _sequence_form = "functional.set_step_mode(net, 'm')"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        max_delay: int,
        delay: float | str | Tensor = "zeros",
        delay_type: str = "synaptic",
        learn_delay: bool = True,
        interpolation: str = "linear",
        padding: str | int = "same",
        smoothing: Tensor | None = None,
        delay_gradient: str = "slayer",
        sigma: float | None = None,
        learn_sigma: bool = False,
        sigma_type: str = "shared",
        synapses: int | None = None,
        density: float | None = None,
        step_mode: str = "s",
        bound_mode: str = "project",
    ) -> None:
        super().__init__()
        self.create_synapses(
            in_features, out_features, bias, max_delay=max_delay, delay=delay, delay_type=delay_type,
            learn_delay=learn_delay, bound_mode=bound_mode, delay_gradient=delay_gradient,
            interpolation=interpolation, padding=padding, smoothing=smoothing, sigma=sigma, learn_sigma=learn_sigma,
            sigma_type=sigma_type, synapses=synapses, density=density,
        )  # fmt: skip
        self.step_mode = step_mode
        self.register_memory("history", 0.0)

    def discretize(self, weight_bits: int | None = None) -> DiscreteDelayedLinear:
        """A frozen layer with whole delays for deployment: what this layer computes in evaluation, if its delays are
        learned through a Gaussian or ``interpolation="round"``.

        :param weight_bits: the weights as well in so many bits, 2 to 16 (:mod:`snn_delay_plugins.quantisation`): multiples
            of the buffer ``weight_scale``, by which they changed by a share ``weight_error``. Default: as they are.
        """
        return DiscreteDelayedLinear(self, weight_bits)

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: str) -> tuple:
        self.check_batch(states[0], inputs[0], "spikingjelly.activation_based.functional.reset_net(net)")
        return states

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        if self.padding != "same":
            raise ValueError(f'padding={self.padding!r} lengthens a sequence and needs step_mode="m"')
        history = states[0] if isinstance(states[0], Tensor) else None
        current, history = self.step_currents(inputs[0], history)
        return (current,), (history,)

    def multi_step_functional_forward(
        self, inputs: tuple, states: tuple, support: Tensor | None = None, **kwargs
    ) -> tuple[tuple, tuple]:
        history = states[0] if isinstance(states[0], Tensor) else None
        current = self.sequence_currents(inputs[0], history, support)
        if self.padding != "same":
            return (current,), (0.0,)
        return (current,), (self.history_after(inputs[0], history),)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, interpolation={self.interpolation!r}, step_mode={self.step_mode!r}"


class DiscreteDelayedLinear(DiscreteSynapses, DetachableMemories):
    """A trained :class:`DelayedLinear` with its delays rounded, frozen for deployment (``layer.discretize()``).

    It holds the synapses that exist as a list in buffers and has no parameters and no gradients; spikes visit their
    synapses. The memory ``history`` holds the last inputs, ``[max_delay + 1, N, in]``. Both modes give equal outputs, and
    a sequence may be fed in parts.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=24, delay_gradient="gaussian", synapses=10, step_mode="m")
        >>> frozen = layer.eval().discretize()
        >>> spikes = (torch.rand(100, 8, 700) < 0.01).float()
        >>> torch.allclose(frozen(spikes), layer(spikes), atol=1e-5), frozen.weights.numel()
        (True, 1280)
    """

    _sequence_form = "functional.set_step_mode(net, 'm')"

    def __init__(self, layer: DelayedLinear, weight_bits: int | None = None) -> None:
        super().__init__()
        self.take_synapses(layer, weight_bits)
        self.step_mode = layer.step_mode
        self.register_memory("history", 0.0)

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: str) -> tuple:
        self.check_batch(states[0], inputs[0], "spikingjelly.activation_based.functional.reset_net(net)")
        return states

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        history = states[0] if isinstance(states[0], Tensor) else None
        current, history = self.step_currents(inputs[0], history)
        return (current,), (history,)

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        if self.padding != "same":
            return (self.sequence_currents(inputs[0]),), (0.0,)
        history = states[0] if isinstance(states[0], Tensor) else None
        return (self.sequence_currents(inputs[0], history=history),), (self.history_after(inputs[0], history),)
