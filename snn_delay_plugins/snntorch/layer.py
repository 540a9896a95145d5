"""Layers with delays for snnTorch, in the vocabulary of its coming ``SynapticDelay``."""

from __future__ import annotations

from torch import Tensor

from ..delayed import DelayedSynapses, DiscreteSynapses
from ..parameters import live_modules
from ..transforms import exported_step
from .state import CarriedStates
from .upstream import emitted, restarted_alone

__all__ = ["DelayedLinear", "DiscreteDelayedLinear"]


class DelayedLinear(DelayedSynapses, CarriedStates):
    r"""Linear layer with a trainable weight and delay per synapse (Deckers et al., Eq. 7), in place of ``nn.Linear``.

    .. math:: I_i[t] = \sum_j W_{ij}\, s_j[t - d_{ij}] + b_i

    With ``step_mode=True`` it is called once per time step on spikes ``(N, in)`` and keeps the last inputs until
    :meth:`reset_delay`; with ``step_mode=False`` it takes the whole sequence ``(T, N, in)`` and keeps nothing. Both
    give equal outputs; delays count time steps. The delay stays in ``[0, max_delay]`` after every optimizer step.

    The last inputs are ``history`` ``[max_delay + 1, N, in]``, newest first. It stays as it is when the next step brings
    another, but shares memory with it: write into ``history.clone()`` alone.

    :param max_delay: longest delay.
    :param delay: initial delays: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.
    :param learn_delay: ``False``: the delays are a buffer.
    :param delay_type: ``"synaptic"`` (delay ``[out, in]``), ``"axonal"`` (``[1, in]``), ``"dendritic"`` (``[out, 1]``).
    :param delay_gradient: ``"slayer"``, or ``"gaussian"``: in training a Gaussian around the delay, in evaluation the
        rounded delay (Hammouamri et al., Eq. 9 and Eq. 7).
    :param kernel: SLAYER: interpolation between whole steps: ``"linear"``, ``"round"`` or ``"floor"``.
    :param padding: ``"same"``, or for sequences alone a number of steps after the last, that late spikes still arrive
        (published DCLS models: ``max_delay // 2``), or ``"full"`` (``max_delay``).
    :param smoothing: SLAYER: the causal kernel eps_d over time (Deckers et al., section 3.3), ``[taps]``.
    :param sigma: Gaussian: standard deviation in time steps. Default: T_d // 2 + 0.27 with T_d = max_delay + 1, where
        the published annealing starts; bring it down to 0.5 with :mod:`snn_delay_plugins.schedules`.
    :param learn_sigma: Gaussian: sigma is a parameter, at least 0.27, instead of a buffer.
    :param sigma_type: ``"shared"`` (one number) or ``"synaptic"`` (``[out, in]``).
    :param synapses: number of synapses per neuron, from random senders (``mask``). Default: from all senders.
    :param density: the same as a share of the senders.
    :param bound_mode: ``"project"`` (clip after the optimizer's step) or ``"clamp"`` (clamp in the forward pass).
    :param step_mode: one step (default) or the whole sequence per call.
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=25, step_mode=False)
        >>> layer(torch.rand(100, 8, 700)).shape
        torch.Size([100, 8, 128])
    """

    _states = ("history",)
    _sequence_form = "step_mode=False"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        max_delay: int,
        delay: float | str | Tensor = 0.0,
        learn_delay: bool = True,
        delay_type: str = "synaptic",
        kernel: str = "linear",
        padding: str | int = "same",
        smoothing: Tensor | None = None,
        delay_gradient: str = "slayer",
        sigma: float | None = None,
        learn_sigma: bool = False,
        sigma_type: str = "shared",
        synapses: int | None = None,
        density: float | None = None,
        step_mode: bool = True,
        bound_mode: str = "project",
    ) -> None:
        super().__init__()
        if not isinstance(step_mode, bool):
            raise TypeError(f"step_mode must be True (one step per call) or False (sequences), got {step_mode!r}")
        self.create_synapses(
            in_features, out_features, bias, max_delay=max_delay, delay=delay, delay_type=delay_type,
            learn_delay=learn_delay, bound_mode=bound_mode, delay_gradient=delay_gradient, interpolation=kernel,
            padding=padding, smoothing=smoothing, sigma=sigma, learn_sigma=learn_sigma, sigma_type=sigma_type,
            synapses=synapses, density=density,
        )  # fmt: skip
        if step_mode and self.padding != "same":
            raise ValueError(f"padding={padding!r} lengthens a sequence and needs step_mode=False")
        self.step_mode = step_mode
        self.history = None

    def discretize(self, weight_bits: int | None = None) -> DiscreteDelayedLinear:
        """A frozen layer with whole delays for deployment: what this layer computes in evaluation, if its delays are
        learned through a Gaussian or ``kernel="round"``.

        :param weight_bits: the weights as well in so many bits, 2 to 16 (:mod:`snn_delay_plugins.quantisation`): multiples
            of the buffer ``weight_scale``, by which they changed by a share ``weight_error``. Default: as they are.
        """
        return DiscreteDelayedLinear(self, weight_bits)

    def reset_delay(self) -> None:
        """Forget the inputs of earlier steps."""
        self.history = None
        self.states_are_new()
        restarted_alone(self, None)

    reset_mem = reset_delay  # what snnTorch's utils.reset calls

    @classmethod
    def detach_hidden(cls) -> None:
        """Cut the inputs that every layer of this class, copies included, keeps from their graph (truncated
        backpropagation); their spikes still arrive. For one network: :func:`snn_delay_plugins.snntorch.detach`."""
        for layer in live_modules():
            if isinstance(layer, cls):
                layer.detach_states()

    @property
    def kernel(self) -> str:
        """Interpolation between whole steps, in the vocabulary of snnTorch's coming ``SynapticDelay``."""
        return self.interpolation

    def forward(self, input_: Tensor) -> Tensor:
        if not self.step_mode:
            return self.sequence_currents(input_)
        if exported_step(type(self).__name__):
            return self.step_currents(input_, None)[0]
        self.take_states()
        self.check_batch(self.history, input_, "reset_delay() or snn_delay_plugins.snntorch.reset(net)")
        restarted_alone(self, self.history)
        current, self.history = self.step_currents(input_, self.history)
        emitted(self, current)
        return current

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel={self.kernel!r}, step_mode={self.step_mode}"


class DiscreteDelayedLinear(DiscreteSynapses, CarriedStates):
    """A trained :class:`DelayedLinear` with its delays rounded, frozen for deployment (``layer.discretize()``).

    It holds the synapses that exist as a list in buffers and has no parameters and no gradients; spikes visit their
    synapses. With ``step_mode=True`` it keeps the last inputs, ``history`` ``[max_delay + 1, N, in]``, until
    :meth:`reset_delay`.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=24, delay_gradient="gaussian", synapses=10, step_mode=False)
        >>> frozen = layer.eval().discretize()
        >>> spikes = (torch.rand(100, 8, 700) < 0.01).float()
        >>> torch.allclose(frozen(spikes), layer(spikes), atol=1e-5), frozen.weights.numel()
        (True, 1280)
    """

    _states = ("history",)
    _sequence_form = "step_mode=False"

    def __init__(self, layer: DelayedLinear, weight_bits: int | None = None) -> None:
        super().__init__()
        self.take_synapses(layer, weight_bits)
        self.step_mode = layer.step_mode
        self.history = None

    def reset_delay(self) -> None:
        """Forget the inputs of earlier steps."""
        self.history = None
        self.states_are_new()
        restarted_alone(self, None)

    reset_mem = reset_delay  # what snnTorch's utils.reset calls

    def forward(self, input_: Tensor) -> Tensor:
        if not self.step_mode:
            return self.sequence_currents(input_)
        if exported_step(type(self).__name__):
            return self.step_currents(input_, None)[0]
        self.take_states()
        self.check_batch(self.history, input_, "reset_delay() or snn_delay_plugins.snntorch.reset(net)")
        restarted_alone(self, self.history)
        current, self.history = self.step_currents(input_, self.history)
        emitted(self, current)
        return current
