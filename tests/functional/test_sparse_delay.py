"""Lists of synapses with whole delays: plain form and kernel against the dense layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.functional.sparse_delay import sparse_delayed_linear, sparse_delayed_linear_step, synapse_list


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
        current = sparse_delayed_linear(spikes, synapses, out, bias, max_delay=max_delay, padding=padding, method=method)
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


def changed(synapses, name, place, value):
    part = getattr(synapses, name).clone()
    part[place] = value
    return synapses._replace(**{name: part})


@pytest.mark.parametrize("method", ["torch", "numba"])
@pytest.mark.parametrize(("name", "place", "value", "message"), [
    ("targets", 5, 3, r"targets\[5\] = 3 is outside \[0, out_features = 3\)"),
    ("targets", 5, -1, r"targets\[5\] = -1 is outside"),
    ("delays", 0, 6, r"delays\[0\] = 6 is outside \[0, max_delay \+ 1 = 6\)"),
    ("delays", 0, -(10**8), r"delays\[0\] = -100000000 is outside"),
    ("starts", -1, 10**8, "starts must rise from 0 to the number of synapses, 12, but run from 0 to 100000000"),
    ("starts", 1, -(10**8), r"starts\[1\] = -100000000 comes after 0"),
    ("starts", 1, 10**8, r"starts\[2\] = 6 comes after 100000000"),
])  # fmt: skip
def test_synapses_that_do_not_fit_are_refused_by_both_forms(method, name, place, value, message, monkeypatch):
    synapses = changed(synapse_list(torch.ones(3, 4), torch.full((3, 4), 2.0), 5), name, place, value)
    with pytest.raises(ValueError, match=message):
        sparse_delayed_linear(torch.ones(9, 2, 4), synapses, 3, max_delay=5, method=method)
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", method)
    with pytest.raises(ValueError, match=message):
        sparse_delayed_linear_step(torch.ones(2, 4), torch.zeros(6, 2, 3), 0, synapses)


@pytest.mark.parametrize("method", ["torch", "numba"])
def test_too_few_receivers_and_a_ring_that_is_too_short_are_refused(method, monkeypatch):
    synapses = synapse_list(torch.ones(400, 3), torch.full((400, 3), 3.0), 5)
    with pytest.raises(ValueError, match=r"targets\[2\] = 2 is outside \[0, out_features = 2\)"):
        sparse_delayed_linear(torch.ones(9, 2, 3), synapses, 2, max_delay=5, method=method)
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", method)
    with pytest.raises(ValueError, match=r"delays\[0\] = 3 is outside \[0, max_delay \+ 1 = 3\)"):
        sparse_delayed_linear_step(torch.ones(2, 3), torch.zeros(3, 2, 400), 0, synapses)
    for now in (-1, 4):
        with pytest.raises(ValueError, match=rf"now = {now} is outside \[0, 4\)"):
            sparse_delayed_linear_step(torch.ones(2, 3), torch.zeros(4, 2, 400), now, synapses)


def test_empty_sequences_batches_and_lists_give_empty_or_silent_currents():
    synapses = synapse_list(torch.ones(3, 4), torch.ones(3, 4), 5)
    none = synapse_list(torch.ones(3, 4), torch.ones(3, 4), 5, torch.zeros(3, 4, dtype=torch.bool))
    for steps, batch in ((0, 2), (5, 0), (5, 2)):
        assert sparse_delayed_linear(torch.ones(steps, batch, 4), synapses, 3, max_delay=5).shape == (steps, batch, 3)
        assert not sparse_delayed_linear(torch.ones(steps, batch, 4), none, 3, max_delay=5).any()
    assert sparse_delayed_linear_step(torch.ones(0, 4), torch.zeros(6, 0, 3), 0, synapses).shape == (0, 3)
