"""Recurrent delays against the published layers of DelRec (github.com/alexmaxad/DelRec, MIT), which are fetched, not copied:

git clone https://github.com/alexmaxad/DelRec && pip install spikingjelly==0.0.0.0.14     # in an environment of its own
DELREC=DelRec python -m pytest tests/functional/test_published_delrec.py
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from snn_delay_plugins.delays import RULES
from snn_delay_plugins.functional import Coefficients, Recurrence, linear_neuron

FILE = Path(os.environ.get("DELREC", "")) / "src" / "recurrent_neurons.py"
pytestmark = pytest.mark.skipif(
    not os.environ.get("DELREC") or not FILE.is_file(), reason="DELREC names no clone of github.com/alexmaxad/DelRec"
)
F, STEPS, BATCH, TAU = 12, 60, 3, 2.5


def published(kind: str, sigma: float, surrogate) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location("delrec", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = SimpleNamespace(
        step_mode="m", store_v_seq=True, tau=TAU, decay_input=True, v_reset=None, v_threshold=1.0, detach_reset=False,
        surrogate_function=surrogate, backend="torch", sigma_init=sigma, recurrent_dropout_rate=0.0, use_sig_p=False,
        rec_delay_init_gain=2.0, init_rec_delay="uniform", init_recdel_offset=0.0, max_rec_delay=9.0,
    )  # fmt: skip
    return getattr(module, f"{kind}_recdel")(config, F).double()


@pytest.mark.parametrize("method", ["torch", "numba"])
@pytest.mark.parametrize("sigma", [0.0, 0.7, 4.0])
@pytest.mark.parametrize("kind", ["axonal", "synaptic"])
def test_the_same_parameters_give_the_same_currents_potentials_and_gradients(kind, sigma, method):
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate").Sigmoid(alpha=4.0)
    torch.manual_seed(0)
    theirs = published(kind, sigma, surrogate)
    x = (3 * torch.rand(STEPS, BATCH, F, dtype=torch.float64)).requires_grad_()
    spikes = theirs(x)
    assert 0.05 < spikes.mean() < 0.8

    weight, delay = (value.detach().clone().requires_grad_() for value in
                     (theirs.recurrent_weights, theirs.recurrent_delays))  # fmt: skip
    leak = 1 - 1 / TAU  # SpikingJelly resets before the leak
    lif = Coefficients(theta=1.0, A=((leak,),), B=(1 / TAU,), r=(-leak,))
    recurrence = Recurrence(
        weight=weight,
        delay=delay if kind == "synaptic" else delay[None],
        rule=RULES["triangle"],
        max_delay=30,  # so that no window is cut
        parameters={"sigma": sigma},
    )
    y = x.detach().clone().requires_grad_()
    ours, _, (u, _) = linear_neuron(y, lif, recurrence=recurrence, surrogate=surrogate, traces=True, method=method)
    assert torch.equal(ours, spikes)
    torch.testing.assert_close(u - ours, theirs.v_seq, rtol=0, atol=1e-10)
    received, expected = (((v - leak * before) * TAU)[1:] for v, before in (
        (u, torch.cat([u.new_zeros(1, BATCH, F), (u - ours)[:-1]])),
        (theirs.v_seq + spikes, torch.cat([u.new_zeros(1, BATCH, F), theirs.v_seq[:-1]])),
    ))  # fmt: skip
    torch.testing.assert_close(received, expected, rtol=0, atol=1e-9)
    wave = torch.cos(torch.arange(float(spikes.numel()), dtype=torch.float64)).view_as(spikes)
    (spikes * wave).sum().backward()
    (ours * wave).sum().backward()
    for one, two in ((y, x), (weight, theirs.recurrent_weights), (delay, theirs.recurrent_delays)):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-9)
