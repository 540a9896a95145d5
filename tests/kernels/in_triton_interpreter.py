"""Triton kernels against the CPU kernels, in the interpreter; test_triton_kernels.py starts it."""

import os

assert os.environ.get("TRITON_INTERPRET") == "1", "run with TRITON_INTERPRET=1"

import pytest  # noqa: E402
import torch  # noqa: E402

from snn_delay_plugins.kernels.delayed_linear import operator as delay  # noqa: E402
from snn_delay_plugins.kernels.delayed_linear import triton as delay_triton  # noqa: E402


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
