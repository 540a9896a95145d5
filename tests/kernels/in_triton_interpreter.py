"""Triton kernels against the CPU kernels, in the interpreter; test_triton_kernels.py starts it."""

import os

assert os.environ.get("TRITON_INTERPRET") == "1", "run with TRITON_INTERPRET=1"

import pytest  # noqa: E402
import torch  # noqa: E402

from snn_delay_plugins.kernels.delayed_linear import operator as delay  # noqa: E402
from snn_delay_plugins.kernels.delayed_linear import triton as delay_triton  # noqa: E402
from snn_delay_plugins.kernels.device import interpreted  # noqa: E402
from snn_delay_plugins.kernels.sparse_delay import operator as listed  # noqa: E402
from snn_delay_plugins.kernels.sparse_taps import operator as taps_of_lists  # noqa: E402


def draw(*shape, low=0.0, high=1.0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype) * (high - low) + low


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize(
    ("steps", "after", "samples", "inputs", "out", "max_delay", "density"),
    [(20, 0, 2, 3, 4, 6, 0.3), (70, 9, 1, 2, 18, 9, 1.0), (3, 0, 2, 3, 2, 30, 0.5), (1, 0, 1, 1, 1, 0, 1.0),
     (10, 4, 2, 3, 2, 4, 0.0)],
)  # fmt: skip
def test_delayed_linear(width, steps, after, samples, inputs, out, max_delay, density):
    torch.manual_seed(out)
    trains = (draw(steps, samples, inputs) < density) * draw(steps, samples, inputs)
    taps, lags = draw(width, out, inputs, low=-1), torch.randint(0, max_delay + 1, (out, inputs))
    lags[0, 0], lags[-1, -1] = 0, max_delay
    expected = delay.delayed_linear(trains, taps, lags, None, max_delay, steps + after, "shifted")
    actual = delay_triton.forward(trains, taps, lags, steps + after)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(expected)
    for support in (None, draw(steps, samples, inputs) < 0.5):
        expected = delay.delayed_linear_backward(grad, trains, taps, lags, support, max_delay, "shifted", True, True)
        actual = delay_triton.backward(grad, trains, taps, lags, support, True, True)
        for x, y in zip(actual, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("steps", "after", "samples", "inputs", "out", "width", "max_lag", "synapses"),
    [(20, 0, 2, 3, 4, 3, 6, 9), (3, 140, 2, 2, 2, 1, 150, 5), (3, 0, 1, 3, 3, 2, 2**40, 4), (1, 0, 1, 1, 1, 5, 0, 1),
     (4, 1, 2, 2, 5, 2, 3, 0)],
)  # fmt: skip
def test_windows_over_a_list(dtype, steps, after, samples, inputs, out, width, max_lag, synapses):
    torch.manual_seed(steps)
    trains = ((draw(steps, samples, inputs) < 0.5) * draw(steps, samples, inputs)).to(dtype)
    receivers, senders = torch.randint(out, (synapses,)).sort().values, torch.randint(inputs, (synapses,))
    of = (trains, draw(synapses, width, low=-1).to(dtype), torch.randint(max_lag + 1, (synapses,)), senders, receivers)
    grad = torch.randn(steps + after, samples, out, dtype=dtype)

    def results():
        for_both = taps_of_lists.sparse_taps_backward(grad, *of, True, True)
        neither = taps_of_lists.sparse_taps_backward(grad, *of, False, False)
        return taps_of_lists.sparse_taps(*of, out, steps + after), *for_both, *neither

    expected = results()
    with interpreted():
        actual = results()
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12 if dtype == torch.float64 else 1e-5, atol=1e-6)


def drawn_list(inputs, out, synapses, longest):
    senders = torch.randint(inputs, (synapses,)).sort().values
    starts = torch.searchsorted(senders, torch.arange(inputs + 1))
    delays = torch.randint(longest + 1, (synapses,)).int()
    return starts, torch.randint(out, (synapses,)).int(), delays, draw(synapses, low=-1)


@pytest.mark.parametrize(
    ("steps", "more", "out", "longest", "synapses"), [(12, 3, 3, 5, 9), (3, 140, 2, 140, 3), (5, 0, 2, 2, 0)]
)
def test_discrete_delays_over_a_list(steps, more, out, longest, synapses):
    torch.manual_seed(steps)
    spikes, of = (draw(steps, 2, 4) < 0.5).double(), drawn_list(4, out, synapses, longest)

    def results():
        ring, rings = torch.zeros(longest + 1, 2, out, dtype=torch.float64), []
        for t in range(steps):
            listed.sparse_delayed_linear_step(spikes[t], *of, ring, t % (longest + 1))
            rings.append(ring.clone())
        return listed.sparse_delayed_linear(spikes, *of, out, steps + more, longest), torch.stack(rings)

    expected = results()
    with interpreted():
        actual = results()
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_a_list_that_is_changed_is_looked_at_again():
    spikes, of = torch.ones(3, 1, 2, dtype=torch.float64), drawn_list(2, 3, 4, 1)
    with interpreted():
        before = listed.sparse_delayed_linear(spikes, *of, 3, 3, 1)
        of[1].fill_(2)
        after = listed.sparse_delayed_linear(spikes, *of, 3, 3, 1)
        assert not torch.equal(before, after) and not after[..., :2].any()
        of[1].fill_(3)
        with pytest.raises(ValueError, match="targets"):
            listed.sparse_delayed_linear(spikes, *of, 3, 3, 1)
