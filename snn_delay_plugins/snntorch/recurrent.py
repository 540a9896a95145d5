"""Neurons with delayed recurrent synapses for snnTorch."""

from __future__ import annotations

from typing import Any, Unpack

from snntorch import SpikingNeuron
from torch import Tensor, nn

from ..delay_options import Interpolation, SynapseOptions, takes_options
from ..parameters import live_modules, refuse_other_batch
from ..recurrent import RecurrentDelays
from ..transforms import exported_step
from .model import SequenceNeuron
from .state import CarriedStates
from .upstream import emitted, restarted_alone

__all__ = ["DelayedRecurrent"]


class DelayedRecurrent(RecurrentDelays, CarriedStates):
    r"""Neurons with recurrent synapses, each with a trainable weight and delay: to a neuron what ``snn.RLeaky`` is to
    ``snn.Leaky``.

    .. math:: I_i[t] = x_i[t] + \sum_j W_{ij}\, s_j[t - 1 - d_{ij}]

    x is the input current, I what the neuron gets and s the spikes that it gives. A spike arrives after 1 + d steps; d
    stays in ``[0, max_delay]`` after every optimizer step. A delay between two whole steps, and how it is learned, is a
    matter of ``delay_gradient``: all rules of :class:`DelayedLinear` serve (``"triangle"``: Queant et al., *DelRec*,
    arXiv:2509.24852).

    Calls and outputs are those of the neuron. One that takes steps (``AdLIFPlus``, ``snn.Leaky``): ``(N, F)`` and its
    states, if it does not hold them; the layer keeps the ``spikes`` of the last step and ``history``, those before, newest
    first, until :meth:`reset_mem`, also where the states are passed: two streams of steps need two layers. One of this
    package that takes sequences (``StateAdLIFPlus``): ``(T, N, F)``, compiled with its synapses.

    :param neuron: the neuron. :param features: F; default: that of the neuron, where it says it.
    :raises TypeError: for a module that is no neuron of snnTorch or of this package.
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.snntorch import StateAdLIFPlus
        >>> layer = DelayedRecurrent(StateAdLIFPlus(features=128), max_delay=25, delay="uniform")
        >>> layer(torch.rand(100, 8, 128)).shape
        torch.Size([100, 8, 128])
    """

    _states = ("spikes", "history")
    _sequence_form = "a neuron that takes sequences, e.g. StateAdLIFPlus"
    neuron: Any
    spikes: Tensor | None
    history: Tensor | None

    @takes_options(SynapseOptions)
    def __init__(
        self,
        neuron: nn.Module,
        features: int | None = None,
        *,
        kernel: Interpolation = "linear",
        **options: Unpack[SynapseOptions],
    ) -> None:
        super().__init__()
        if not isinstance(neuron, SpikingNeuron):
            raise TypeError(f"neuron must be one of snnTorch or of this package, got {type(neuron).__name__}")
        self.create_recurrence(neuron, features, interpolation=kernel, **options)
        self.spikes = self.history = None

    @property
    def kernel(self) -> str:
        """Interpolation between whole steps, in the vocabulary of snnTorch's coming ``SynapticDelay``."""
        return self.interpolation

    @property
    def takes_sequences(self) -> bool:
        """Whether a call is a whole sequence."""
        return isinstance(self.neuron, SequenceNeuron)

    def reset_mem(self):
        """Forget the spikes of earlier steps and the neuron's states, which are returned."""
        self.spikes = self.history = None
        self.states_are_new()
        restarted_alone(self, None)
        return self.neuron.reset_mem()

    reset_delay = reset_mem  # as of DelayedLinear

    def reset(self):
        """:meth:`reset_mem`, as SpikingJelly's ``functional.reset_net`` calls it: the layer may be in a network of its."""
        return self.reset_mem()

    @classmethod
    def detach_hidden(cls) -> None:
        """Cut what every layer of this class, copies included, keeps from its graph, and the states of its neuron
        (truncated backpropagation). For one network: :func:`snn_delay_plugins.snntorch.detach`."""
        for layer in live_modules():
            if isinstance(layer, cls):
                layer.detach_states()

    def detach_states(self) -> None:
        super().detach_states()
        if isinstance(self.neuron, CarriedStates):
            self.neuron.detach_states()

    def forward(self, input_: Tensor, *states: Tensor | None):
        """One step or a sequence.

        :param input_: input current ``(N, F)`` or ``(T, N, F)``. :param states: of the neuron after the step before.
        :returns: what the neuron returns.
        """
        if self.takes_sequences:
            self.check_input(input_, steps=True)
            return self.neuron(input_, *states, recurrence=self.recurrence(None, self.neuron.graded_spikes_factor))
        if exported_step(type(self).__name__):
            return self.neuron(input_, *states)
        self.take_states()
        past = None if self.spikes is None else self.spikes[None]
        refuse_other_batch(past, input_, -2, "reset_mem() or snn_delay_plugins.snntorch.reset(net)")
        restarted_alone(self, past)
        current, self.history = self.arriving(input_, self.spikes, self.history)
        if current is not input_:
            emitted(self, current)
        out = self.neuron(current, *states)
        self.spikes = out[0] if isinstance(out, tuple | list) else out
        return out

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel={self.kernel!r}"
