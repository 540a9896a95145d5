"""The spectral convolution against the direct one and against loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.functional import convolution
from snn_delay_plugins.functional.convolution import causal_convolution
from snn_delay_plugins.kernels.frequencies import transforms


def by_loops(trains, kernel, after):
    steps, batch, _ = trains.shape
    out = trains.new_zeros(steps + after, batch, kernel.shape[1])
    for t in range(steps + after):
        for lag in range(kernel.shape[0]):
            if 0 <= t - lag < steps:
                out[t] += trains[t - lag] @ kernel[lag].T
    return out


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    steps=st.integers(0, 40),
    taps=st.integers(1, 14),
    after=st.integers(0, 20),
    batch=st.integers(0, 2),
    inputs=st.integers(1, 3),
    out=st.integers(1, 3),
    blocks=st.sampled_from([None, 8, 13]),
    method=st.sampled_from(["direct", "fft", None]),
    seed=st.integers(0, 1000),
)
def test_value_and_gradients_are_those_of_loops(steps, taps, after, batch, inputs, out, blocks, method, seed):
    torch.manual_seed(seed)
    trains = torch.randn(steps, batch, inputs, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(taps, out, inputs, dtype=torch.float64, requires_grad=True)
    chosen = convolution._block_length
    if blocks is not None:
        convolution._block_length = lambda steps, taps, *sizes: max(1, min(steps, max(taps - 1, blocks)))
    try:
        current = causal_convolution(trains, kernel, method, after)
    finally:
        convolution._block_length = chosen
    expected = by_loops(trains, kernel, after)
    torch.testing.assert_close(current, expected, rtol=1e-11, atol=1e-11)
    g = torch.randn_like(expected)
    ours = torch.autograd.grad((current * g).sum(), (trains, kernel))
    expected = expected + 0 * (trains.sum() + kernel.sum())  # has a graph even where nothing is convolved
    reference = torch.autograd.grad((expected * g).sum(), (trains, kernel))
    for one, two in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_single_precision_is_as_exact_as_the_direct_form():
    torch.manual_seed(0)
    trains, kernel = torch.rand(300, 4, 50), torch.randn(40, 30, 50)
    exact = causal_convolution(trains.double(), kernel.double(), "direct")
    scale = exact.abs().mean()
    for method in ("direct", "fft"):
        error = (causal_convolution(trains, kernel, method) - exact).abs().max() / scale
        assert error < 2e-5, method


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_the_three_transforms_make_a_circular_convolution(length):
    torch.manual_seed(length)
    per_frequency = transforms(length, like=torch.zeros((), dtype=torch.float64))
    signal, kernel = torch.randn(2, length, 1, dtype=torch.float64)
    circular = torch.stack([sum(kernel[k] * signal[(t - k) % length] for k in range(length)) for t in range(length)])
    products = per_frequency.of_trains(signal) * per_frequency.of_kernel(kernel)
    torch.testing.assert_close(per_frequency.back(products, 0, length), circular)
    assert len(products) == (3 * length - 1) // 2 if length % 2 else 3 * length // 2 - 1


def test_the_gradient_can_be_differentiated_again():
    torch.manual_seed(0)
    trains = torch.randn(9, 1, 2, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(7, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, k: causal_convolution(x, k, "fft", 2), (trains, kernel))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method must be one of"):
        causal_convolution(torch.zeros(3, 1, 1), torch.zeros(2, 1, 1), "magic")
