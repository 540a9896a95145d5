"""Convolutions with a delay per connection, in both frameworks, against sums of shifted ordinary convolutions."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional as sj_functional

from snn_delay_plugins import snntorch as ours_snntorch
from snn_delay_plugins import spikingjelly as ours_spikingjelly
from snn_delay_plugins.functional.dcls import gaussian_kernel
from snn_delay_plugins.functional.delay import delay_kernel, delayed_linear
from snn_delay_plugins.functional.delay_convolution import delayed_convolution

LONGEST = 4
SHAPES = {1: (5,), 2: (4, 5)}
FRAMEWORKS = {
    "snnTorch": (ours_snntorch, {"step_mode": False}, True, ours_snntorch.reset),
    "SpikingJelly": (ours_spikingjelly, {"step_mode": "m"}, "s", sj_functional.reset_net),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def layer_and_input(framework, axes, **options):
    module, mode, _, _ = FRAMEWORKS[framework]
    kind = getattr(module, f"DelayedConv{axes}d")
    options = {"max_delay": LONGEST, "delay": "uniform", "padding": 1} | options
    layer = kind(4, 6, 3, **options, **mode).double()
    return layer, torch.rand(7, 2, 4, *SHAPES[axes], dtype=torch.float64)


def shifted(x, kernel, bias, after=0, **options):
    """The sum over the lags tau of the ordinary convolution of the spikes of tau steps ago."""
    convolve = F.conv1d if kernel.dim() == 4 else F.conv2d
    steps = x.shape[0]
    total = 0.0
    for lag, weight in enumerate(kernel):
        each = torch.stack([convolve(step, weight, None, **options) for step in x])
        padded = torch.cat([torch.zeros_like(each[:1]).expand(lag, *each.shape[1:]), each])
        padded = torch.cat([padded, torch.zeros_like(each[:1]).expand(after, *each.shape[1:])])
        total = total + padded[: steps + after]
    return total + bias.view(-1, *[1] * (x.dim() - 3))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "groups": 2}, {"dilation": 2, "padding": 2}])
@pytest.mark.parametrize("gradient", ["slayer", "gaussian"])
def test_value_and_gradients_are_those_of_a_sum_over_lags(framework, axes, options, gradient):
    layer, x = layer_and_input(framework, axes, delay_gradient=gradient, time_padding=2, **options)
    x.requires_grad_()
    spatial = {"padding": 1} | options
    if gradient == "gaussian":
        kernel = gaussian_kernel(layer.weight, layer.delay, layer.sigma, LONGEST)
    else:
        flat = delay_kernel(layer.weight.flatten(1), layer.delay.flatten(1), LONGEST)
        kernel = flat.view(-1, *layer.weight.shape)
    current, expected = layer(x), shifted(x, kernel, layer.bias, after=2, **spatial)
    torch.testing.assert_close(current, expected, rtol=0, atol=1e-12)
    g, leaves = torch.randn_like(current), (x, layer.weight, layer.delay, layer.bias)
    for one, two in zip(
        torch.autograd.grad((current * g).sum(), leaves), torch.autograd.grad((expected * g).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-11)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("gradient", ["slayer", "gaussian", "quantised"])
def test_torch_is_given_kernels_that_lie_in_a_row(axes, gradient, monkeypatch):
    """In float64 its backward pass may take a view of the kernel, which it could refuse of another layout."""
    layer, x = layer_and_input("snnTorch", axes, delay_gradient=gradient)
    name, given = f"conv{axes + 1}d", []
    convolve = getattr(F, name)

    def seen(trains, kernel, *options):
        given.append(kernel)
        return convolve(trains, kernel, *options)

    monkeypatch.setattr(F, name, seen)
    layer(x)
    (kernel,) = given
    assert kernel.is_contiguous() and kernel.shape[:3] == (6, 4, LONGEST + 1 if gradient == "gaussian" else LONGEST + 2)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_steps_and_sequences_agree(framework, axes, training):
    layer, x = layer_and_input(framework, axes, delay_gradient="gaussian", sigma=0.8)
    _, _, step_mode, reset = FRAMEWORKS[framework]
    layer.train(training)
    whole = layer(x)
    steps = copy.deepcopy(layer)
    steps.step_mode = step_mode
    reset(steps)
    torch.testing.assert_close(torch.stack([steps(step) for step in x]), whole, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="still on their way"):
        steps(x[0, :1])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_evaluation_rounds_the_delays_and_so_does_a_frozen_copy(framework):
    layer, x = layer_and_input(framework, 2, delay_gradient="gaussian", sigma=0.8)
    _, _, _, reset = FRAMEWORKS[framework]
    before = layer.delay.detach().clone()
    frozen = layer.discretize()
    layer.eval()
    expected = delayed_convolution(
        x, layer.weight, layer.delay.round(), layer.bias, max_delay=LONGEST, interpolation="round", padding=1
    )
    torch.testing.assert_close(layer(x), expected)
    for training in (True, False):
        reset(frozen)
        torch.testing.assert_close(frozen.train(training)(x), expected)
    assert torch.equal(layer.delay, before)
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_kernel_of_one_place_is_a_linear_layer_at_every_position(framework):
    module, mode, _, _ = FRAMEWORKS[framework]
    layer = module.DelayedConv1d(4, 6, 1, max_delay=LONGEST, delay="uniform", **mode)
    x = torch.rand(7, 2, 4, 5)
    current = layer(x)
    for place in range(5):
        linear = delayed_linear(
            x[..., place], layer.weight[..., 0], layer.delay[..., 0], layer.bias, max_delay=LONGEST, method="direct"
        )
        torch.testing.assert_close(current[..., place], linear)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_delays_stay_within_their_bounds(framework):
    layer, x = layer_and_input(framework, 1, delay_gradient="gaussian")
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e4)
    layer(x).square().sum().backward()
    optimizer.step()
    assert layer.delay.min() >= 0
    assert layer.delay.max() <= LONGEST
    assert {0.0, float(LONGEST)} <= set(layer.delay.flatten().tolist())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 5.0}, "initial delays must lie in"),
        ({"max_delay": 1.5}, "max_delay must be a whole number"),
        ({"sigma": 1.0}, "sigma belongs to"),
        ({"delay_gradient": "exact"}, "delay_gradient must be one of"),
        ({"delay_gradient": "gaussian", "interpolation": "round"}, "interpolation belongs to"),
        ({"time_padding": "left"}, "padding must be one of"),
    ],
)
def test_options_that_do_not_fit_are_refused(framework, options, message):
    if framework == "snnTorch" and "interpolation" in options:
        options = {"delay_gradient": "gaussian", "kernel": "round"}
    with pytest.raises(ValueError, match=message):
        layer_and_input(framework, 1, **options)


def test_shapes_that_do_not_fit_are_refused():
    x, weight = torch.zeros(3, 1, 2, 5), torch.zeros(4, 2, 3)
    with pytest.raises(ValueError, match="spikes must be"):
        delayed_convolution(x[..., 0], weight, weight, max_delay=1)
    with pytest.raises(ValueError, match="delay must have the shape"):
        delayed_convolution(x, weight, weight[:1], max_delay=1)
    with pytest.raises(ValueError, match="bias must be"):
        delayed_convolution(x, weight, weight, torch.zeros(2), max_delay=1)
    with pytest.raises(TypeError, match="convert one of them"):
        delayed_convolution(x.double(), weight, weight, max_delay=1)
    with pytest.raises(ValueError, match="need one number or 1"):
        delayed_convolution(x, weight, weight, max_delay=1, stride=(1, 2))


@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_a_discretised_convolution_starts_without_spikes_on_their_way(framework):
    door = pytest.importorskip(f"snn_delay_plugins.{framework}")
    layer = door.DelayedConv1d(2, 3, 3, max_delay=4, delay=4.0, delay_gradient="gaussian", bias=False).eval()
    with torch.no_grad():
        for _ in range(4):
            layer(torch.ones(2, 2, 5))
        frozen = layer.discretize()
        assert not frozen(torch.zeros(2, 2, 5)).any() and frozen(torch.zeros(3, 2, 5)[:2]).shape == (2, 3, 3)
        assert layer(torch.zeros(2, 2, 5)).any()  # the layer itself keeps its own
