"""Lists of synapses with whole delays: plain form and kernel against the dense layer."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.functional.sparse_delay import (
    sparse_delayed_linear,
    sparse_delayed_linear_step,
    synapse_list,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    steps=st.integers(0, 10),
    batch=st.integers(0, 3),
    inputs=st.integers(1, 5),
    out=st.integers(1, 4),
    max_delay=st.integers(0, 12),
    padding=st.sampled_from(["same", "full", 3]),
    density=st.sampled_from([0.0, 0.4, 1.0]),
    active=st.sampled_from([0.0, 0.2, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_both_forms_are_the_dense_layer_with_rounded_delays(
    steps, batch, inputs, out, max_delay, padding, density, active, dtype, seed
):
    torch.manual_seed(seed)
    weight, bias = torch.randn(out, inputs, dtype=dtype), torch.randn(out, dtype=dtype)
    delay = torch.rand(out, inputs, dtype=dtype) * max_delay
    mask = torch.rand(out, inputs) < density
    spikes = (torch.rand(steps, batch, inputs) < active) * torch.randn(steps, batch, inputs, dtype=dtype)
    dense = delayed_linear(
        spikes, weight * mask, delay.round(), bias, max_delay=max_delay, padding=padding, method="direct"
    )
    synapses = synapse_list(weight, delay, max_delay, mask)
    assert synapses.weights.numel() == mask.sum()
    for method in ("torch", None):
        current = sparse_delayed_linear(
            spikes, synapses, out, bias, max_delay=max_delay, padding=padding, method=method
        )
        torch.testing.assert_close(current, dense, rtol=1e-5, atol=1e-5)
    pending, currents = spikes.new_zeros(max_delay + 1, batch, out), []
    for t, step in enumerate(spikes):
        currents.append(sparse_delayed_linear_step(step, pending, t % (max_delay + 1), synapses, bias))
    if steps:
        torch.testing.assert_close(torch.stack(currents), dense[:steps], rtol=1e-5, atol=1e-5)


def test_the_plain_step_is_the_kernel(monkeypatch):
    torch.manual_seed(0)
    synapses = synapse_list(torch.randn(3, 4), torch.rand(3, 4) * 5, 5)
    rings = []
    for method in ("torch", "numba"):
        monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", method)
        torch.manual_seed(1)
        ring = torch.zeros(6, 2, 3)
        rings.append([sparse_delayed_linear_step(torch.rand(2, 4), ring, t % 6, synapses) for t in range(15)])
    torch.testing.assert_close(torch.stack(rings[0]), torch.stack(rings[1]))


def test_the_kernel_compiles_in_one_graph():
    torch.manual_seed(0)
    synapses, x = synapse_list(torch.randn(3, 4), torch.rand(3, 4) * 5, 5), torch.rand(7, 2, 4)

    def current(x):
        return sparse_delayed_linear(x, synapses, 3, max_delay=5)

    compiled = torch.compile(current, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), current(x))


def test_what_does_not_fit_is_refused():
    weight = torch.ones(3, 4)
    with pytest.raises(ValueError, match="delays must lie in"):
        synapse_list(weight, weight * 6, 5)
    with pytest.raises(ValueError, match="mask must have the shape"):
        synapse_list(weight, weight, 5, torch.ones(4, 3, dtype=torch.bool))
    synapses = synapse_list(weight, weight, 5)
    with pytest.raises(ValueError, match="spikes must be"):
        sparse_delayed_linear(torch.zeros(2, 1, 3), synapses, 3, max_delay=5)
    with pytest.raises(TypeError, match="convert one of them"):
        sparse_delayed_linear(torch.zeros(2, 1, 4).double(), synapses, 3, max_delay=5)
    with pytest.raises(ValueError, match="method must be one of"):
        sparse_delayed_linear(torch.zeros(2, 1, 4), synapses, 3, max_delay=5, method="magic")
    with pytest.raises(ValueError, match="pending must be"):
        sparse_delayed_linear_step(torch.zeros(2, 4), torch.zeros(6, 1, 3), 0, synapses)
