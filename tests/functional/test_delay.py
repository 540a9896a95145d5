"""Delayed linear layers against triple loops over Eq. 7 and the SLAYER rule."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.functional.delay import delay_kernel, delayed_linear, delayed_linear_step, history_after

KINDS = {"synaptic": lambda o, i: (o, i), "axonal": lambda o, i: (1, i), "dendritic": lambda o, i: (o, 1)}


def smoothed(spikes, smoothing):
    """a_j = eps_d * s_j by loops, all T + taps - 1 steps."""
    steps, batch, inputs = spikes.shape
    out = torch.zeros(steps + len(smoothing) - 1, batch, inputs, dtype=spikes.dtype)
    for t in range(steps):
        for lag, weight in enumerate(smoothing):
            out[t + lag] += weight * spikes[t]
    return out


def at(train, t):
    return train[t].item() if 0 <= t < len(train) else 0.0


def by_loops(spikes, weight, delay, bias, max_delay, interpolation, padding, smoothing, grad):
    """Value, and the gradients for an incoming gradient ``grad(t, n, i)``, of Eq. 7 and Eq. 9, synapse by synapse."""
    eps = [1.0] if smoothing is None else smoothing.tolist()
    trains = smoothed(spikes, eps)
    steps, batch, inputs = spikes.shape
    out = weight.shape[0]
    length = steps + (max_delay + len(eps) - 1 if padding == "full" else 0)
    full_delay = delay.expand(out, inputs)
    current = torch.zeros(length, batch, out, dtype=spikes.dtype)
    g = grad(current.shape)
    d_weight, d_delay, d_spikes = torch.zeros_like(weight), torch.zeros_like(full_delay), torch.zeros_like(spikes)
    for i in range(out):
        for j in range(inputs):
            d = full_delay[i, j].item()
            k = {"linear": math.floor, "floor": math.floor, "round": round}[interpolation](d)
            f = d - k if interpolation == "linear" else 0.0
            for n in range(batch):
                a = trains[:, n, j]
                for t in range(length):
                    delayed = (1 - f) * at(a, t - k) + f * at(a, t - k - 1)
                    current[t, n, i] += weight[i, j] * delayed
                    d_weight[i, j] += g[t, n, i] * delayed
                    d_delay[i, j] -= weight[i, j] * g[t, n, i] * (at(a, t - k) - at(a, t - k - 1))
                    for share, tap in ((1 - f, k), (f, k + 1)):
                        for lag, e in enumerate(eps):
                            if 0 <= t - tap - lag < steps:
                                d_spikes[t - tap - lag, n, j] += g[t, n, i] * weight[i, j] * share * e
    for axis in range(2):
        if delay.shape[axis] == 1:
            d_delay = d_delay.sum(axis, keepdim=True)
    return current + bias, g, (d_spikes, d_weight, d_delay, g.sum((0, 1)))


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    interpolation=st.sampled_from(["linear", "round", "floor"]),
    padding=st.sampled_from(["same", "full"]),
    taps=st.sampled_from([0, 1, 3]),
    method=st.sampled_from(["direct", "fft", None]),
    steps=st.integers(0, 9),
    batch=st.integers(1, 2),
    inputs=st.integers(1, 3),
    out=st.integers(1, 3),
    max_delay=st.integers(0, 12),
    whole=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_values_and_gradients_equal_a_triple_loop(
    kind, interpolation, padding, taps, method, steps, batch, inputs, out, max_delay, whole, seed
):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    spikes = (draw(steps, batch, inputs) < 0.4).double() * (1 + draw(steps, batch, inputs))  # graded spikes too
    weight, bias = draw(out, inputs) - 0.5, draw(out)
    delay = draw(*KINDS[kind](out, inputs)) * max_delay
    if whole:
        delay = delay.round()  # includes 0 and the cap
    smoothing = draw(taps) if taps else None

    def grad(shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    expected, g, gradients = by_loops(spikes, weight, delay, bias, max_delay, interpolation, padding, smoothing, grad)
    leaves = [x.clone().requires_grad_() for x in (spikes, weight, delay, bias)]
    current = delayed_linear(
        *leaves, max_delay=max_delay, interpolation=interpolation, padding=padding, smoothing=smoothing, method=method
    )
    torch.testing.assert_close(current, expected, rtol=1e-12, atol=1e-12)
    for actual, wanted in zip(torch.autograd.grad(current, leaves, g), gradients, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_delay_gradient_equals_finite_differences_between_whole_delays(method, kind):
    torch.manual_seed(0)
    spikes = (torch.rand(15, 2, 3) < 0.4).double()
    weight = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    delay = (torch.randint(0, 6, KINDS[kind](2, 3)) + 0.2 + 0.6 * torch.rand(KINDS[kind](2, 3))).double()
    assert torch.autograd.gradcheck(
        lambda s, w, d: delayed_linear(s, w, d, max_delay=7, method=method),
        (spikes.requires_grad_(), weight, delay.requires_grad_()),
    )


def test_at_a_whole_delay_the_gradient_is_the_derivative_towards_longer_delays():
    spikes = torch.tensor([0.0, 1, 0, 0, 0, 0]).double().reshape(6, 1, 1)
    g = torch.arange(6).double().reshape(6, 1, 1) ** 2
    weight = torch.tensor([[1.5]]).double()
    for d in (0.0, 2.0, 3.0):
        delay = torch.tensor([[d]], dtype=torch.float64, requires_grad=True)
        value = (delayed_linear(spikes, weight, delay, max_delay=3) * g).sum()
        (slope,) = torch.autograd.grad(value, delay)
        step = (delayed_linear(spikes, weight, delay + 1e-6, max_delay=4) * g).sum()
        assert slope.item() == pytest.approx((step - value).item() / 1e-6, rel=1e-4)


def test_full_padding_loses_no_spike_and_same_padding_those_past_the_end():
    torch.manual_seed(0)
    spikes, weight = torch.ones(5, 1, 1), torch.ones(1, 1)
    for d in (0.0, 2.5, 5.0, 40.0):
        delay = torch.full((1, 1), d)
        full = delayed_linear(spikes, weight, delay, max_delay=40, padding="full")
        same = delayed_linear(spikes, weight, delay, max_delay=40)
        assert full.shape[0] == 45 and same.shape[0] == 5
        assert full.sum().item() == pytest.approx(5.0, abs=1e-4)
        assert same.sum().item() == pytest.approx(max(0.0, 5.0 - d), abs=1e-4)


@pytest.mark.parametrize("smoothing", [None, torch.tensor([0.5, 0.3, 0.2])])
@pytest.mark.parametrize("interpolation", ["linear", "round", "floor"])
def test_steps_and_parts_of_a_sequence_equal_the_whole(smoothing, interpolation):
    torch.manual_seed(1)
    spikes = (torch.rand(20, 2, 4) < 0.4).double()
    weight, delay = torch.randn(3, 4).double(), torch.rand(3, 4).double() * 6
    options = {"max_delay": 6, "interpolation": interpolation, "smoothing": smoothing}
    whole = delayed_linear(spikes, weight, delay, **options)
    history, steps = None, []
    for spikes_t in spikes:
        current, history = delayed_linear_step(spikes_t, history, weight, delay, **options)
        steps.append(current)
    torch.testing.assert_close(torch.stack(steps), whole, rtol=1e-12, atol=1e-12)

    history, parts = None, []
    for part in spikes.split([3, 1, 9, 7]):
        parts.append(delayed_linear(part, weight, delay, history=history, **options))
        history = history_after(part, history, 6, smoothing)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)


def test_methods_agree_in_float32_over_long_delays():
    torch.manual_seed(2)
    spikes = (torch.rand(200, 3, 20) < 0.1).float()
    weight, delay = torch.randn(10, 20), torch.rand(10, 20) * 150
    direct, fft = (delayed_linear(spikes, weight, delay, max_delay=150, method=m) for m in ("direct", "fft"))
    torch.testing.assert_close(fft, direct, rtol=0, atol=1e-5)


def test_zero_delays_make_a_linear_layer():
    spikes, weight, bias = torch.rand(7, 2, 3), torch.randn(4, 3), torch.randn(4)
    current = delayed_linear(spikes, weight, torch.zeros(4, 3), bias, max_delay=0)
    torch.testing.assert_close(current, torch.nn.functional.linear(spikes, weight, bias))


def test_half_precision_is_computed_in_float32():
    spikes, weight, delay = torch.ones(300, 1, 1).bfloat16(), torch.ones(1, 1).bfloat16(), torch.zeros(1, 1)
    assert delayed_linear(spikes, weight, delay.bfloat16(), max_delay=20).dtype == torch.bfloat16


W, D, S = torch.ones(2, 3), torch.ones(2, 3), torch.zeros(5, 1, 3)


@pytest.mark.parametrize(
    ("error", "message", "arguments", "options"),
    [
        (ValueError, r"\[0, max_delay=4\], got -1", (S, W, -D), {"max_delay": 4}),
        (ValueError, r"max_delay=4\], got 5", (S, W, 5 * D), {"max_delay": 4}),
        (ValueError, "nan", (S, W, D * float("nan")), {"max_delay": 4}),
        (ValueError, "finite", (S, W, D * float("inf")), {}),
        (ValueError, "whole number", (S, W, D), {"max_delay": 2.5}),
        (ValueError, r"\[2, 3\] \(synaptic\)", (S, W, torch.ones(3, 2)), {}),
        (ValueError, "weight must be", (S, torch.ones(3), D), {}),
        (ValueError, r"spikes must be \[T, N, 3\]", (torch.zeros(5, 1, 4), W, D), {}),
        (ValueError, r"bias must be \[2\]", (S, W, D, torch.zeros(3)), {}),
        (TypeError, "floating point", (S.long(), W, D), {}),
        (TypeError, "float64 but weight is", (S.double(), W, D), {}),
        (ValueError, "interpolation", (S, W, D), {"interpolation": "cubic"}),
        (ValueError, "padding", (S, W, D), {"padding": "valid"}),
        (ValueError, "method", (S, W, D), {"method": "magic"}),
        (ValueError, "smoothing", (S, W, D), {"smoothing": torch.ones(2, 2)}),
    ],
)
def test_what_does_not_fit_is_refused_clearly(error, message, arguments, options):
    with pytest.raises(error, match=message):
        delayed_linear(*arguments, **options)


def test_a_history_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="history must have shape"):
        delayed_linear_step(S[0], torch.zeros(2, 1, 3), W, D, max_delay=4)


def test_the_kernel_holds_the_two_taps_of_each_delay():
    kernel = delay_kernel(torch.tensor([[2.0, 3.0]]), torch.tensor([[1.25, 4.0]]), max_delay=4)
    assert kernel[:, 0, 0].tolist() == [0.0, 1.5, 0.5, 0.0, 0.0, 0.0]
    assert kernel[:, 0, 1].tolist() == [0.0, 0.0, 0.0, 0.0, 3.0, 0.0]
