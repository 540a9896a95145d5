"""Linear layers on spikes against the product of matrices: values and gradients, edge cases, threads, operator."""

import logging
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.kernels.spike_linear.operator import sparse_linear as operator
from snn_delay_plugins.kernels.spike_linear.operator import sparse_linear_backward


def problem(shape, inputs, out, density, dtype=torch.float64, bias=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(*shape, inputs, generator=g) < density) * (0.5 + torch.rand(*shape, inputs, generator=g))
    leaves = [spikes, torch.randn(out, inputs, generator=g)] + ([torch.randn(out, generator=g)] if bias else [])
    return [x.to(dtype).requires_grad_() for x in leaves]


def value_and_gradients(leaves, **options):
    currents = spike_linear(*leaves, **options)
    g = torch.randn(currents.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(currents.dtype)
    return currents, *torch.autograd.grad(currents, leaves, g)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from([(), (1,), (7,), (5, 3), (2, 3, 4)]),
    inputs=st.integers(1, 70),
    out=st.integers(1, 150),
    density=st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    support=st.sampled_from([None, 0.0, 0.1, 1.0]),
    bias=st.booleans(),
    method=st.sampled_from(["events", "numba", None]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_equal_the_product(shape, inputs, out, density, support, bias, method, dtype, seed):
    leaves = problem(shape, inputs, out, density, dtype, bias, seed)
    chosen = None if support is None else torch.rand(leaves[0].shape) < support
    expected = value_and_gradients(leaves, support=chosen, method="torch")
    tolerance = 1e-11 if dtype == torch.float64 else 2e-5
    for wanted, actual in zip(expected, value_and_gradients(leaves, support=chosen, method=method), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance * max(1.0, wanted.abs().max().item()))


def test_the_reference_is_the_product_and_the_support_hides_gradients():
    leaves = problem((6, 2), 5, 3, 0.4)
    assert torch.equal(spike_linear(*leaves, method="torch"), linear(*leaves))
    support = torch.rand(6, 2, 5) < 0.5
    for method in ("torch", "events"):
        g_spikes = value_and_gradients(leaves, support=support, method=method)[1]
        whole = value_and_gradients(leaves, method=method)[1]
        torch.testing.assert_close(g_spikes, whole * support)
        assert g_spikes.abs().sum() < whole.abs().sum()


@pytest.mark.parametrize("method", ["torch", None])
def test_an_empty_batch(method):
    leaves = problem((0, 4), 5, 3, 0.5)
    currents, g_spikes, g_weight, g_bias = value_and_gradients(leaves, method=method)
    assert currents.shape == (0, 4, 3) and g_spikes.shape == (0, 4, 5)
    assert not g_weight.any() and not g_bias.any()


def test_strided_input_and_frozen_parameters():
    spikes, weight, bias = (x.detach() for x in problem((6, 4), 5, 3, 0.4))
    strided = spikes.transpose(0, 1)
    assert not strided.is_contiguous()
    torch.testing.assert_close(spike_linear(strided, weight, bias, method="events"), linear(strided, weight, bias))
    leaf = spikes.clone().requires_grad_()
    (g,) = torch.autograd.grad(spike_linear(leaf, weight, bias, method="events").sum(), leaf)
    torch.testing.assert_close(g, weight.sum(0).expand_as(g))


def test_results_are_bit_equal_on_one_and_two_threads():
    leaves, before, runs = problem((40, 3), 60, 200, 0.1, torch.float32), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            runs.append(value_and_gradients(leaves, support=leaves[0] > 0, method="events"))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one, two)


def test_density_decides_and_debug_messages_say_so(caplog, monkeypatch):
    monkeypatch.delenv("SNN_DELAY_PLUGINS_METHOD", raising=False)
    for density, form in ((0.02, "events"), (0.9, "dense")):
        leaves = problem((30, 4), 50, 20, density)
        with caplog.at_level(logging.DEBUG, "snn_delay_plugins"):
            caplog.clear()
            value_and_gradients(leaves, support=leaves[0] > 0)
        assert sum(f": {form} (" in r.getMessage() for r in caplog.records) == 3  # forward, weights, inputs
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    assert torch.equal(spike_linear(*leaves), linear(*leaves))


def test_what_is_not_possible_is_refused():
    spikes, weight, _ = problem((6, 2), 5, 3, 0.4)
    with pytest.raises(ValueError, match="method must be one of"):
        spike_linear(spikes, weight, method="fast")
    with pytest.raises(ValueError, match="float16"):
        spike_linear(spikes.half(), weight.half(), method="events")
    with pytest.raises(ValueError, match="different dtypes"):
        spike_linear(spikes.float(), weight, method="numba")
    with pytest.raises(ValueError, match=r"spikes must be \[\*, in\]"):
        spike_linear(spikes[..., :4], weight)
    with pytest.raises(ValueError, match="support must have the shape"):
        spike_linear(spikes, weight, support=torch.ones(6, 5, dtype=torch.bool))


@pytest.mark.parametrize("support", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_opcheck(support, bias):
    spikes, weight, *rest = problem((7,), 4, 3, 0.4, bias=bias)
    mask = torch.rand(spikes.shape) < 0.5 if support else None
    torch.library.opcheck(operator, (spikes, weight, rest[0] if bias else None, mask, "events"))
    inputs = (torch.randn(7, 3, dtype=torch.float64), spikes.detach(), weight.detach(), mask, "events")
    for wanted in product((False, True), repeat=3):
        torch.library.opcheck(sparse_linear_backward, (*inputs, *wanted))


def test_compile_and_autocast_pass_through():
    leaves = problem((7, 2), 4, 3, 0.4, torch.float32)
    compiled = torch.compile(lambda *x: spike_linear(*x).relu(), fullgraph=True, backend="aot_eager")(*leaves)
    assert torch.equal(compiled, spike_linear(*leaves).relu())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spike_linear(*leaves), linear(*leaves)) and spike_linear(*leaves).dtype == torch.bfloat16


def test_a_bias_of_another_shape_is_broadcast_or_refused_as_torch_does():
    x, weight = torch.eye(4, 64), torch.randn(200, 64)
    for bias in (torch.ones(1), torch.tensor(2.0), torch.randn(4, 200), torch.randn(4, 1)):
        assert torch.equal(spike_linear(x, weight, bias), linear(x, weight, bias))
        with pytest.raises(ValueError, match=r"the bias must be \[200\] for the kernel"):
            spike_linear(x, weight, bias, method="events")
    for bias in (torch.ones(2), torch.ones(0), torch.ones(201), torch.ones(3, 200)):
        with pytest.raises(RuntimeError) as expected:
            linear(x, weight, bias)
        with pytest.raises(RuntimeError) as error:
            spike_linear(x, weight, bias)
        assert str(error.value) == str(expected.value)
