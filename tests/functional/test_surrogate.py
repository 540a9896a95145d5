"""Surrogate gradients of the spike."""

import pytest
import torch

from snn_delay_plugins.functional.surrogate import Boxcar, derivative, fire


def test_the_boxcar_is_eq_6_with_its_edges_inside():
    x = torch.tensor([-0.51, -0.5, 0.0, 0.5, 0.51], requires_grad=True)
    spikes = Boxcar()(x)
    spikes.sum().backward()
    assert spikes.tolist() == [0, 0, 1, 1, 1]
    assert x.grad.tolist() == [0, 0.5, 0.5, 0.5, 0]


@pytest.mark.parametrize("width, height", [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_an_empty_box_is_refused(width, height):
    with pytest.raises(ValueError, match="positive"):
        Boxcar(width, height)


def framework_surrogates():
    found = []
    try:
        from snntorch import surrogate

        found += [surrogate.atan(), surrogate.fast_sigmoid(), surrogate.sigmoid(), surrogate.triangular()]
    except ImportError:
        pass
    try:
        from spikingjelly.activation_based import surrogate

        found += [surrogate.ATan(), surrogate.Sigmoid(), surrogate.PiecewiseLeakyReLU()]
    except ImportError:
        pass
    return found


@pytest.mark.parametrize("surrogate", [*framework_surrogates(), Boxcar()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_surrogate_fires_on_the_threshold_and_keeps_dtype_and_gradient(surrogate, dtype):
    x = torch.tensor([-1.0, -0.25, 0.0, 0.25, 1.0], dtype=dtype, requires_grad=True)
    spikes = fire(x, surrogate)
    assert spikes.dtype == dtype and spikes.tolist() == [0, 0, 1, 1, 1]
    spikes.sum().backward()
    leaf = x.detach().clone().requires_grad_()
    surrogate(leaf).sum().backward()
    assert torch.equal(x.grad, leaf.grad)
    torch.testing.assert_close(derivative(x, surrogate), leaf.grad)


def test_a_smooth_spike_function_passes_unchanged():
    x = torch.linspace(-1, 1, 5)
    assert torch.equal(fire(x, torch.sigmoid), torch.sigmoid(x))


def test_a_surrogate_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        fire(torch.zeros(3), lambda x: x.sum())
