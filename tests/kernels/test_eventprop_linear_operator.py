"""EventProp of linear neurons as torch operators."""

import pytest
import torch

import snn_delay_plugins.kernels.eventprop.linear.operator as operators
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop_models import ADLIF, system_of

INPUTS, HIDDEN, DURATION = 4, 9, 40.0  # more neurons than one block of the loops


@pytest.mark.parametrize("recurrent", [False, True])
def test_opcheck_of_the_layer_and_its_backward_pass(recurrent):
    e = SpikeEvents.from_lists([[1.0, 2.0, 7.5], [], [3.0]], [[0, 1, 2], [], [3]], num_units=INPUTS, duration=DURATION)

    def synapses(n, weight):
        return [weight * torch.rand(HIDDEN, n, dtype=torch.float64), 5 * torch.rand(HIDDEN, n, dtype=torch.float64)]

    s = system_of(ADLIF, {}, 1.0, HIDDEN)
    layer = [*synapses(INPUTS, 30.0), *(synapses(HIDDEN, 0.3) if recurrent else [None, None])]
    # without a refractory period at_ready is NaN, which opcheck does not take for equal
    refractory = torch.linspace(0.5, 2, HIDDEN, dtype=torch.float64)
    neurons = [x.contiguous() for x in (s.M, s.J, s.r, s.theta, refractory)]
    leaves = [None if x is None else x.clone().requires_grad_() for x in (*layer, *neurons)]
    times = e.times.double()
    events, fixed = (e.units, e.offsets), (s.B, s.c, s.kept, DURATION, 1.0)
    torch.library.opcheck(operators.eventprop_linear, (times.clone().requires_grad_(), *events, *leaves, *fixed, 100))
    arguments = (times, *events, *layer, *neurons, *fixed)
    spikes, potential, *rest = operators.eventprop_linear(*arguments, 100)
    assert spikes.numel() >= HIDDEN
    for g_potential, wanted in ((torch.ones_like(potential), (True, True)), (None, (False, False))):
        given = (torch.ones_like(spikes), g_potential, *arguments[:-2], *rest, *fixed[3:], *wanted)
        torch.library.opcheck(operators.eventprop_linear_backward, given)
