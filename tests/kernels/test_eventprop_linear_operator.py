"""EventProp of linear neurons as torch operators."""

import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

import snn_delay_plugins.kernels.eventprop.linear.operator as operators
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop_models import ADLIF, system_of
from snn_delay_plugins.kernels.eventprop.linear import rows

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


def test_polynomials_in_vector_instructions_equal_those_one_by_one():
    places, r = np.array([3, 0, 9, 5, 11, 7, 2, 8], np.uint32), np.random.default_rng(0)
    fractions, moments = r.uniform(-1, 1, 8), r.normal(size=96)
    moments[8 * 5] = np.nan

    @numba.njit
    def run(table, sums, values, slopes):
        return rows.evaluate_rows(table, places, fractions, values, slopes, sums[0], sums[1])

    got = moments.copy(), np.ones((2, 8)), np.empty(8), np.empty(8)
    expected = moments.copy(), np.ones((2, 8)), np.empty(8), np.empty(8)
    assert run(*got) == 1 << 3
    table, sums, values, slopes = expected
    assert rows._evaluate_rows_plain(table, places, fractions, values, slopes, *sums) == 1 << 3
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
    assert got[1][0, 3] == 1


def test_tables_of_linear_neurons_are_made_without_numba():
    code = (
        "import sys; from snn_delay_plugins.kernels.eventprop.linear import operator, readout_operator, tables; "
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
