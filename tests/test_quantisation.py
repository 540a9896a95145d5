"""Weights of a few bits: what they stand for, what they cost, and the frozen layers that hold them."""

from __future__ import annotations

import pickle
from importlib.util import find_spec

import pytest
import torch

from snn_delay_plugins.delays.quantised import quantised_delays
from snn_delay_plugins.quantisation import quantise_weight

FRAMEWORKS = [name for name in ("snntorch", "spikingjelly") if find_spec(name)]
LAYERS = {"DelayedLinear": (4,), "DelayedConv1d": (4, 5), "DelayedConv2d": (4, 4, 5)}


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_multiples_of_one_step_in_so_many_bits_and_the_error_is_that_which_is_said(bits, dtype):
    weight = torch.randn(30, 20, dtype=dtype)
    quantised = quantise_weight(weight, bits)
    assert quantised.levels.abs().max() <= 2 ** (bits - 1) - 1 and quantised.levels.unique().numel() > min(bits, 4)
    assert torch.equal((quantised.weight / quantised.scale).round().int(), quantised.levels)
    assert quantised.weight.dtype == dtype
    error = (quantised.weight - weight).double().norm() / weight.double().norm()
    assert quantised.error == pytest.approx(error.item(), rel=1e-5)
    assert 0 < quantised.error < 1.2 / 2 ** (bits - 1)


def test_the_step_is_no_worse_than_that_which_clips_nothing():
    weight = torch.randn(1000)
    for bits in (2, 3, 4):
        step = weight.abs().max() / (2 ** (bits - 1) - 1)
        unclipped = ((weight / step).round() * step - weight).norm() / weight.norm()
        assert quantise_weight(weight, bits).error < 0.8 * unclipped


def test_weights_that_are_multiples_already_stay_as_they_are():
    weight = torch.tensor([[-7.0, 3.0, 0.0, 7.0]]) / 8
    quantised = quantise_weight(weight, 4)
    assert torch.equal(quantised.weight, weight) and quantised.error == 0.0


@pytest.mark.parametrize("weight", [torch.zeros(3), torch.zeros(0)])
def test_weights_of_zero_stay_zero(weight):
    quantised = quantise_weight(weight, 4)
    assert torch.equal(quantised.weight, weight) and quantised.error == 0.0


@pytest.mark.parametrize(
    ("weight", "bits", "error", "message"),
    [
        (torch.ones(2), 1, ValueError, "weight_bits must be a whole number >= 2"),
        (torch.ones(2), 17, ValueError, "weight_bits"),
        (torch.ones(2), "4", TypeError, "weight_bits"),
        (torch.tensor([1.0, float("nan")]), 4, ValueError, "weights must be finite"),
        (torch.ones(2, device="meta"), 4, RuntimeError, "load them first"),
    ],
)
def test_what_cannot_be_quantised_is_refused(weight, bits, error, message):
    with pytest.raises(error, match=message):
        quantise_weight(weight, bits)


def layer_of(framework: str, kind: str) -> torch.nn.Module:
    package = __import__(f"snn_delay_plugins.{framework}", fromlist=[kind])
    sizes = (4, 5) if kind == "DelayedLinear" else (4, 5, 2)
    options = {"max_delay": 6, "delay": "uniform", "delay_gradient": quantised_delays(bits=2)}
    return getattr(package, kind)(*sizes, **options, step_mode=False if framework == "snntorch" else "m").eval()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_discretized_layer_has_quantised_weights_says_their_error_and_survives_a_round_trip(framework, kind):
    layer, spikes = layer_of(framework, kind), (torch.rand(12, 3, *LAYERS[kind]) < 0.3).float()
    frozen, plain = layer.discretize(weight_bits=3), layer.discretize()
    name = "weights" if kind == "DelayedLinear" else "weight"
    quantised = quantise_weight(getattr(plain, name), 3)
    assert torch.equal(getattr(frozen, name), quantised.weight) and torch.equal(frozen.weight_scale, quantised.scale)
    assert (frozen.weight_bits, frozen.weight_error) == (3, quantised.error) and plain.weight_bits is None
    assert "weight_bits=3, weight_error=" in repr(frozen) and "weight_bits" not in repr(plain)

    with torch.no_grad():
        before, there = layer(spikes), layer.weight.clone()
        layer.weight.copy_(quantise_weight(layer.weight, 3).weight)
        if hasattr(layer, "reset"):
            layer.reset()
        expected = layer(spikes)
        layer.weight.copy_(there)
    torch.testing.assert_close(frozen(spikes), expected)
    assert not torch.allclose(expected, before)

    other = layer_of(framework, kind).discretize(weight_bits=3)
    other.load_state_dict(frozen.state_dict())
    again = pickle.loads(pickle.dumps(frozen))
    for copied in (other, again):
        assert torch.equal(getattr(copied, name), quantised.weight)
        assert torch.equal((getattr(copied, name) / copied.weight_scale).round().int(), quantised.levels)
        if hasattr(copied, "reset"):
            copied.reset()
        torch.testing.assert_close(copied(spikes), expected)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_refuse_other_numbers_of_bits(framework, kind):
    with pytest.raises(ValueError, match="weight_bits must be a whole number >= 2, got 1"):
        layer_of(framework, kind).discretize(weight_bits=1)
