"""The spiking neurons that the EventProp recipes compare, by name."""

from collections.abc import Sequence

import torch
from torch import Tensor

from snn_delay_plugins.eventprop import EventPropSpiking
from snn_delay_plugins.functional.eventprop_models import LIF
from snn_delay_plugins.spikingjelly import EventPropAdLIF, EventPropLIF, EventPropLinear

NEURONS = ("lif", "adlif")


def spiking_layer(
    inputs: int,
    neurons: int,
    *,
    neuron: str = "lif",
    learn: Sequence[str] = (),
    tau_mem: float = 20.0,
    tau_syn: float = 5.0,
    tau_adapt: float = 100.0,
    a: float = 0.0,
    b: float = 0.1,
    spike_times: str = "exact",
    **synapses,
) -> EventPropSpiking:
    """A layer of LIF or of adaptive LIF neurons.

    Args:
        neuron: "lif" or "adlif".
        learn: names of the constants that are trained, one value per neuron, at first all alike.
        tau_adapt, a, b: of "adlif".
        spike_times: "exact"; "grid" for "lif" without learned constants alone.
        synapses: ``recurrent``, ``delay``, ``weight_init`` and so on of
            :class:`snn_delay_plugins.spikingjelly.EventPropLIF`.
    """
    if neuron not in NEURONS:
        raise ValueError(f"neuron {neuron!r}: use one of {', '.join(NEURONS)}")
    if neuron == "lif" and not learn:
        return EventPropLIF(inputs, neurons, tau_mem=tau_mem, tau_syn=tau_syn, spike_times=spike_times, **synapses)
    if spike_times != "exact":
        raise ValueError("learned constants and adaptive neurons have exact spike times alone: spike_times must be 'exact'")

    def constants(**values: float) -> dict[str, float | Tensor]:
        return {name: torch.full((neurons,), value) if name in learn else value for name, value in values.items()}

    own = constants(tau_mem=tau_mem, tau_syn=tau_syn)
    if neuron == "lif":
        return EventPropLinear(inputs, neurons, LIF, constants=own, learn=learn, **synapses)
    own |= constants(tau_adapt=tau_adapt, a=a, b=b)
    return EventPropAdLIF(inputs, neurons, **own, learn=learn, **synapses)
