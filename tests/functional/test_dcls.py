"""Gaussian delay kernels against the dcls package, against loops over Eq. 7-10, and in the limit of one tap."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.functional.dcls import (
    SMALLEST_SIGMA,
    delay_from_position,
    gaussian_delayed_linear,
    gaussian_delayed_linear_step,
    gaussian_kernel,
    parameters_from_dcls,
    position_from_delay,
    sigma_from_width,
    width_from_sigma,
)
from snn_delay_plugins.functional.delay import delayed_linear

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def dcls_layer(inputs, out, taps, shape):
    modules = pytest.importorskip("DCLS.construct.modules")
    layer = modules.Dcls1d(inputs, out, 1, dilated_kernel_size=taps, bias=False, version=shape).double()
    with torch.no_grad():
        layer.P.uniform_(-(taps // 2), taps - 1 - taps // 2)
        layer.SIG.uniform_(-2.0, 3.0)
    return layer


def kernel_by_loops(weight, delay, sigma, taps):
    """Eq. 9 and 10 in the paper's index n, of one synapse."""
    bumps = [math.exp(-0.5 * ((n - taps + delay + 1) / sigma) ** 2) for n in range(taps)]
    c = 1e-7 + sum(bumps)
    return [weight / c * bump for bump in bumps]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from(["gauss", "max"]),
    steps=st.integers(1, 12),
    batch=st.integers(1, 3),
    inputs=st.integers(1, 4),
    out=st.integers(1, 4),
    taps=st.integers(1, 13),
    right=st.integers(0, 6),
    method=st.sampled_from(["direct", "fft"]),
    seed=st.integers(0, 1000),
)
def test_value_and_all_gradients_are_those_of_the_dcls_package(shape, steps, batch, inputs, out, taps, right, method, seed):
    torch.manual_seed(seed)
    theirs = dcls_layer(inputs, out, taps, shape)
    weight = theirs.weight.detach()[..., 0].clone().requires_grad_()
    delay = delay_from_position(theirs.P.detach()[0, ..., 0], taps - 1).requires_grad_()
    sigma = sigma_from_width(theirs.SIG.detach()[0, ..., 0], shape).requires_grad_()
    spikes = torch.randn(steps, batch, inputs, dtype=torch.float64)
    x, y = spikes.clone().requires_grad_(), spikes.clone().requires_grad_()
    ours = gaussian_delayed_linear(x, weight, delay, sigma, max_delay=taps - 1, shape=shape, padding=right, method=method)
    reference = theirs(torch.nn.functional.pad(y.permute(1, 2, 0), (taps - 1, right))).permute(2, 0, 1)
    torch.testing.assert_close(ours, reference, **EXACT)
    g = torch.randn_like(ours)
    ours.backward(g)
    reference.backward(g)
    torch.testing.assert_close(x.grad, y.grad, **EXACT)
    torch.testing.assert_close(weight.grad, theirs.weight.grad[..., 0], **EXACT)
    torch.testing.assert_close(delay.grad, -theirs.P.grad[0, ..., 0], **EXACT)  # P points the other way
    torch.testing.assert_close(sigma.grad, theirs.SIG.grad[0, ..., 0] * theirs.SIG.sign()[0, ..., 0], **EXACT)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    steps=st.integers(0, 8), batch=st.integers(0, 2), inputs=st.integers(1, 3), out=st.integers(1, 3),
    max_delay=st.integers(0, 9), right=st.integers(0, 4), shared=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_currents_are_those_of_loops_over_equations_8_to_10(steps, batch, inputs, out, max_delay, right, shared, seed):
    torch.manual_seed(seed)
    taps = max_delay + 1
    weight = torch.randn(out, inputs, dtype=torch.float64)
    delay = torch.rand(out, inputs, dtype=torch.float64) * max_delay
    sigma = torch.full((), 0.7, dtype=torch.float64) if shared else torch.rand_like(delay) * 3 + 0.3
    spikes = torch.randint(0, 3, (steps, batch, inputs)).double()
    expected = torch.zeros(steps + right, batch, out, dtype=torch.float64)
    for i in range(out):
        for j in range(inputs):
            width = sigma.expand_as(delay)[i, j].item()
            kernel = kernel_by_loops(weight[i, j].item(), delay[i, j].item(), width, taps)
            for t in range(steps + right):
                for n, k in enumerate(kernel):  # the padded train at t + n is the spike of step t + n - (T_d - 1)
                    if 0 <= t + n - max_delay < steps:
                        expected[t, :, i] += k * spikes[t + n - max_delay, :, j]
    current = gaussian_delayed_linear(spikes, weight, delay, sigma, max_delay=max_delay, padding=right)
    torch.testing.assert_close(current, expected, **EXACT)


@pytest.mark.parametrize("shape", ["gauss", "max"])
def test_gradients_are_those_of_finite_differences(shape):
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "requires_grad": True}
    weight, sigma = torch.randn(2, 3, **options), torch.full((2, 3), 1.4, **options)
    delay = torch.tensor([[0.3, 1.8, 4.0 - 1e-3], [2.2, 0.1, 3.3]], **options)
    spikes = torch.rand(6, 2, 3, **options)
    bias = torch.randn(2, **options)

    def current(x, w, d, s, b):
        return gaussian_delayed_linear(x, w, d, s, b, max_delay=4, shape=shape, padding=2)

    assert torch.autograd.gradcheck(current, (spikes, weight, delay, sigma, bias))
    assert torch.autograd.gradgradcheck(current, (spikes, weight, delay, sigma, bias))


@pytest.mark.parametrize("kind", [(3, 4), (1, 4), (3, 1)])
def test_axonal_and_dendritic_delays_are_broadcast(kind):
    torch.manual_seed(1)
    weight, delay = torch.randn(3, 4), torch.rand(kind) * 5
    wide = delay.expand(3, 4)
    x = torch.rand(7, 2, 4)
    torch.testing.assert_close(
        gaussian_delayed_linear(x, weight, delay, 1.0, max_delay=5),
        gaussian_delayed_linear(x, weight, wide, 1.0, max_delay=5),
    )


def test_one_step_at_a_time_equals_the_sequence():
    torch.manual_seed(2)
    weight, delay, x = torch.randn(3, 4), torch.rand(3, 4) * 5, torch.rand(9, 2, 4)
    bias, history, steps = torch.randn(3), None, []
    for spikes in x:
        current, history = gaussian_delayed_linear_step(spikes, history, weight, delay, 0.8, bias, max_delay=5)
        steps.append(current)
    torch.testing.assert_close(torch.stack(steps), gaussian_delayed_linear(x, weight, delay, 0.8, bias, max_delay=5))
    later = gaussian_delayed_linear(x[:4], weight, delay, 0.8, bias, max_delay=5, history=history)
    whole = gaussian_delayed_linear(torch.cat([x, x[:4]]), weight, delay, 0.8, bias, max_delay=5)
    torch.testing.assert_close(later, whole[9:])


def test_a_narrow_gaussian_is_the_discrete_kernel():
    torch.manual_seed(3)
    weight = torch.randn(5, 6, dtype=torch.float64)
    whole = torch.randint(0, 10, (5, 6)).double()
    delay = (whole + torch.rand_like(whole) * 0.5 - 0.25).clamp(0, 9)  # a quarter of a step from a whole one at most
    x = torch.rand(20, 2, 6, dtype=torch.float64)
    discrete = delayed_linear(x, weight, delay, max_delay=9, interpolation="round", padding=4)
    distances = []
    for sigma in (1.0, 0.5, 0.25, 0.1):
        current = gaussian_delayed_linear(x, weight, delay, sigma, max_delay=9, padding=4)
        distances.append((current - discrete).abs().max().item())
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-5
    on_the_step = gaussian_delayed_linear(x, weight, whole, 0.1, max_delay=9, padding=4)
    exactly = delayed_linear(x, weight, whole, max_delay=9, interpolation="round", padding=4)
    torch.testing.assert_close(on_the_step, exactly, rtol=1e-6, atol=1e-6)  # eps = 1e-7


def test_a_sigma_at_which_eps_takes_the_weight_away_warns():
    synapse = torch.ones(1, 1), torch.full((1, 1), 1.5)
    with pytest.warns(UserWarning, match="Eq. 10 takes the weight"):
        assert gaussian_kernel(*synapse, 0.05, 3).sum() < 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(gaussian_kernel(*synapse, 0.27, 3).sum(), torch.tensor(1.0), rtol=1e-5, atol=1e-5)


def test_the_taps_of_a_synapse_sum_up_to_its_weight():
    weight, delay = torch.randn(4, 4), torch.rand(4, 4) * 8
    for sigma in (0.3, 1.0, 12.0):
        torch.testing.assert_close(gaussian_kernel(weight, delay, sigma, 8).sum(0), weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("taps", [1, 2, 24, 25])
def test_positions_and_delays_convert_into_each_other(taps):
    position = torch.arange(-(taps // 2), taps - taps // 2).double()
    delay = delay_from_position(position, taps - 1)
    assert sorted(delay.tolist()) == list(range(taps))
    assert torch.equal(position_from_delay(delay, taps - 1), position)
    for shape, smallest in SMALLEST_SIGMA.items():
        width = torch.tensor([0.0, 0.23, 12.0])
        torch.testing.assert_close(width_from_sigma(sigma_from_width(width, shape), shape), width)
        assert sigma_from_width(torch.tensor(-1.0), shape) == 1 + smallest
        with pytest.raises(ValueError, match="dcls has no sigma below"):
            width_from_sigma(torch.tensor([smallest - 0.1]), shape)


def test_a_state_dict_of_dcls_layers_is_converted():
    theirs = torch.nn.Sequential(dcls_layer(3, 2, 5, "gauss"), torch.nn.BatchNorm1d(2))
    ours = parameters_from_dcls(theirs.state_dict(), max_delay=4)
    assert set(ours) == {"0.weight", "0.delay", "0.sigma"} | {f"1.{name}" for name in theirs[1].state_dict()}
    assert ours["0.sigma"].shape == (2, 3)
    x = torch.rand(6, 1, 3, dtype=torch.float64)
    current = gaussian_delayed_linear(x, ours["0.weight"], ours["0.delay"], ours["0.sigma"], max_delay=4)
    reference = theirs[0](torch.nn.functional.pad(x.permute(1, 2, 0), (4, 0))).permute(2, 0, 1)
    torch.testing.assert_close(current, reference, **EXACT)
    torch.nn.init.constant_(theirs[0].SIG, 2.0)
    assert parameters_from_dcls(theirs.state_dict(), max_delay=4)["0.sigma"].shape == ()
    with pytest.raises(ValueError, match=r"0\.P: positions mean delays"):
        parameters_from_dcls(theirs.state_dict(), max_delay=1)
    with pytest.raises(ValueError, match="one kernel element per synapse"):
        parameters_from_dcls({"P": torch.zeros(1, 2, 3, 2), "weight": torch.zeros(2, 3, 2)}, max_delay=4)


def test_half_precision_is_computed_in_single_precision():
    torch.manual_seed(4)
    weight, delay, x = torch.randn(3, 4), torch.rand(3, 4) * 5, torch.randint(0, 2, (9, 2, 4)).float()
    exact = gaussian_delayed_linear(x, weight, delay, 0.8, max_delay=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = gaussian_delayed_linear(x.bfloat16(), weight, delay, 0.8, max_delay=5)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, exact.bfloat16())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "sigma must be a positive number"),
        ({"sigma": -1.0}, "sigma must be a positive number"),
        ({"sigma": float("nan")}, "sigma must be a positive number"),
        ({"sigma": float("inf")}, "sigma must be a positive number"),
        ({"sigma": torch.tensor([[1.0, 0.0, 1.0]])}, "sigma must be a positive number"),
        ({"delay": torch.full((2, 3), -0.1)}, "delays must lie in"),
        ({"delay": torch.full((2, 3), 4.1)}, "delays must lie in"),
        ({"delay": torch.full((2, 3), float("nan"))}, "delays must lie in"),
        ({"delay": torch.zeros(3, 3)}, "delay must be"),
        ({"sigma": torch.ones(3, 2)}, "sigma of shape"),
        ({"shape": "triangle"}, "shape must be one of"),
        ({"padding": -1}, "padding must be one of"),
        ({"padding": "left"}, "padding must be one of"),
        ({"method": "magic"}, "method must be one of"),
        ({"spikes": torch.zeros(5, 1, 4)}, "spikes must be"),
        ({"bias": torch.zeros(3)}, "bias must be"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, message):
    arguments = {
        "spikes": torch.zeros(5, 1, 3), "weight": torch.ones(2, 3), "delay": torch.ones(2, 3), "sigma": 1.0,
        "max_delay": 4,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        gaussian_delayed_linear(**(arguments | change))


def test_dtypes_that_differ_are_refused():
    with pytest.raises(TypeError, match="convert one of them"):
        gaussian_delayed_linear(torch.zeros(5, 1, 3).double(), torch.ones(2, 3), torch.ones(2, 3), 1.0, max_delay=4)


def test_the_function_compiles_in_one_graph():
    torch.manual_seed(5)
    weight, delay = torch.randn(3, 4, requires_grad=True), (torch.rand(3, 4) * 7).requires_grad_()
    x, sigma = torch.rand(9, 2, 4), torch.tensor(1.5)

    def current(w, d, s):
        return gaussian_delayed_linear(x, w, d, s, max_delay=7, padding=3)

    compiled = torch.compile(current, fullgraph=True, backend="aot_eager")
    grads = []
    for run in (current, compiled):
        value = run(weight, delay, sigma)
        grads.append((value, *torch.autograd.grad(value.square().sum(), (weight, delay))))
    for eager, traced in zip(*grads, strict=True):
        torch.testing.assert_close(eager, traced)


@pytest.mark.parametrize("steps", [1, 30, 200])
def test_long_sequences_in_blocks_equal_the_direct_convolution(steps):
    torch.manual_seed(6)
    weight, delay = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64) * 9
    x = torch.randn(steps, 2, 4, dtype=torch.float64)
    by_frequency, direct = (
        gaussian_delayed_linear(x, weight, delay, 1.0, max_delay=9, method=method) for method in ("fft", "direct")
    )
    torch.testing.assert_close(by_frequency, direct, **EXACT)
