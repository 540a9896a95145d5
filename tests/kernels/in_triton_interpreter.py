"""Triton kernels against the CPU kernels, in the interpreter; test_triton_kernels.py starts it."""

import os

assert os.environ.get("TRITON_INTERPRET") == "1", "run with TRITON_INTERPRET=1"

import pytest  # noqa: E402
import torch  # noqa: E402

from snn_delay_plugins.kernels import adlif_numba, adlif_triton  # noqa: E402
from snn_delay_plugins.kernels.delayed_linear import operator as delay  # noqa: E402
from snn_delay_plugins.kernels.delayed_linear import triton as delay_triton  # noqa: E402


def draw(*shape, low=0.0, high=1.0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype) * (high - low) + low


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("symplectic", [False, True])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize(("steps", "samples", "features"), [(7, 2, 3), (1, 1, 70)])
def test_adlif(adaptive, reset, symplectic, detach_reset, steps, samples, features):
    torch.manual_seed(steps)
    columns = samples * features
    current = torch.randn(steps, columns, dtype=torch.float64) * 3 + 1
    state = (draw(columns), draw(columns), draw(columns).round())
    parameters = (draw(features, low=0.4, high=0.9), draw(features, low=0.9), draw(features), draw(features),
                  draw(features, low=0.7, high=1.1))  # fmt: skip
    options = (adaptive, symplectic, reset)
    expected = adlif_numba.forward(current, state, parameters, *options)
    actual = adlif_triton.forward(current, state, parameters, *options)
    assert steps == 1 or 0 < expected[0].mean() < 1
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)

    traces = torch.randn(3, steps, columns, dtype=torch.float64)
    finals = torch.randn(3, columns, dtype=torch.float64)
    phi = torch.rand(steps, columns, dtype=torch.float64)
    for gradients, slope in (((*traces, *finals), None), ((traces[0], *5 * [None]), None), ((*traces, *finals), phi)):
        arguments = (gradients, slope, (0.5, 0.5), current, expected[1:3], state, parameters, *options, detach_reset)
        for x, y in zip(adlif_triton.backward(*arguments), adlif_numba.backward(*arguments), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


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
