"""Products per frequency, by matrices and fast transforms, against the plain convolution; memory grows with the taps."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snn_delay_plugins.functional.convolution import causal_convolution
from snn_delay_plugins.initial_weights import _loss
from snn_delay_plugins.kernels.delay_line.spectral import SpectralSynapses, SpectralTape
from snn_delay_plugins.kernels.frequencies import LONGEST_MATRIX, Transforms, transforms

LONG = LONGEST_MATRIX + 70


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Largest(TorchDispatchMode):
    """The most numbers that a tensor made inside holds."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return out


def test_long_signals_take_fast_transforms():
    assert type(transforms(LONGEST_MATRIX, drawn(1))) is Transforms
    assert type(transforms(LONGEST_MATRIX + 1, drawn(1))) is not Transforms


@pytest.mark.parametrize("length", [7, 12, LONG])
def test_transforms_are_a_bilinear_form_with_its_adjoints(length):
    """I = K * s, and by the adjoint of the outputs dK = s * g, both summed in loops over lags."""
    per_frequency, taps, steps = transforms(length, drawn(1)), length // 3, length - length // 3 + 1
    kernel, trains, grads = drawn(taps, 1, seed=1), drawn(steps, 1, seed=2), drawn(taps + steps - 1, 1, seed=3)
    products = per_frequency.of_trains(trains) * per_frequency.of_kernel(kernel)
    out = sum(torch.nn.functional.pad(kernel[k] * trains[:, 0], (k, taps - 1 - k)) for k in range(taps))
    torch.testing.assert_close(per_frequency.back(products, 2, taps + steps - 1)[:, 0], out[2:], rtol=0, atol=1e-10)
    met = per_frequency.of_trains(trains) * per_frequency.of_gradients(grads)
    of_taps = torch.stack([trains[:, 0] @ grads[k : k + steps, 0] for k in range(taps)])
    torch.testing.assert_close(per_frequency.of_taps(met, taps)[:, 0], of_taps, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("steps", "taps", "after"), [(40, LONG, 5), (LONG, 9, 0), (LONG, 1500, 30), (3, LONG, LONG)])
def test_a_long_convolution_per_frequency_equals_the_direct_one(steps, taps, after):
    trains, kernel = drawn(steps, 2, 3, seed=1).requires_grad_(), drawn(taps, 2, 3, seed=2).requires_grad_()
    found, expected = (causal_convolution(trains, kernel, method, after) for method in ("fft", "direct"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    towards = drawn(*expected.shape, seed=3)
    for one, two in zip(*(torch.autograd.grad(each, (trains, kernel), towards) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


@pytest.mark.parametrize("taps", [30, LONGEST_MATRIX // 2 + 60, LONG])  # matrices; fast in the tape alone; fast everywhere
def test_spectral_synapses_alone_equal_the_plain_convolution_forward_and_backward(taps):
    steps, samples = taps + 90, 2
    kernel = drawn(taps, 2, 3, seed=1).requires_grad_()
    trains = (torch.rand(steps, samples, 3, generator=torch.Generator().manual_seed(2)) < 0.1).double().requires_grad_()
    expected, towards = causal_convolution(trains, kernel, "direct"), drawn(steps, samples, 2, seed=4)
    synapses = SpectralSynapses(kernel)
    stream, kept, currents = synapses.silence(trains[0]), [], []
    for now in range(steps):
        current, left = synapses.arrive(trains[now], stream, now, None)
        currents.append(current)
        kept.append(synapses.keep(left))
    torch.testing.assert_close(torch.stack(currents), expected, rtol=0, atol=1e-9)
    tape = SpectralTape(synapses, samples, to_spikes=True)
    back = [tape.retreat(towards[now], kept[now], True) for now in reversed(range(steps))]
    of_trains, of_kernel = torch.autograd.grad(expected, (trains, kernel), towards)
    torch.testing.assert_close(torch.stack(back[::-1]), of_trains, rtol=0, atol=1e-9)
    of_taps, of_bias = tape.sums()
    torch.testing.assert_close(of_taps, of_kernel, rtol=0, atol=1e-9)
    torch.testing.assert_close(of_bias, towards.sum((0, 1)))


def test_a_layer_of_very_long_windows_takes_memory_by_its_taps_and_not_their_square():
    spikingjelly = pytest.importorskip("snn_delay_plugins.spikingjelly")
    taps = 10_000
    with Largest() as largest:
        layer = spikingjelly.DelayedLinear(2, 1, max_delay=taps, delay_gradient="gaussian", delay=5.0)
        for _ in range(3):
            layer(torch.ones(1, 2)).sum().backward()
        layer.reset()
        layer.step_mode = "m"
        layer(torch.ones(taps, 1, 2)).sum().backward()
    assert 2 * taps <= largest.numbers < 30 * taps


def test_what_a_kernel_over_time_takes_from_fluctuations_is_the_norm_of_the_smoothed_membrane():
    taps, response = drawn(5).abs(), 0.2 * 0.8 ** torch.arange(200.0, dtype=torch.float64)
    smoothed = torch.zeros_like(response)
    for k, tap in enumerate(taps / taps.sum()):
        smoothed[k:] += tap * response[: len(response) - k]
    expected = float((response.norm() / smoothed.norm()) ** 1.6 / taps.sum())
    assert _loss(taps) == pytest.approx(expected, rel=1e-9)
