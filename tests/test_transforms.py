"""torch.func, forward-mode AD and double backward: right, through the plain form, or refused with the remedy.

Tangents are held against gradients in reverse mode, <c, J v> = <J^T c, v>, which the compiled operators compute.
"""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from snn_delay_plugins import EventPropAdLIF, EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.functional.eventprop import eventprop_lif
from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.functional.surrogate import Boxcar

STEPS, BATCH, IN, OUT = 6, 2, 4, 3
LINEAR = {"max_delay": 3, "delay": "uniform"}
GAUSSIAN = {"delay_gradient": "gaussian", "sigma": 1.0}


def layers() -> dict:
    made = {}
    try:
        from snn_delay_plugins import snntorch as s

        made |= {
            "StateAdLIFPlus": lambda: s.StateAdLIFPlus(features=IN),
            "StateAdLIFPlus symplectic": lambda: s.StateAdLIFPlus(features=IN, variant="symplectic"),
            "snn DelayedLinear": lambda: s.DelayedLinear(IN, OUT, **LINEAR, step_mode=False),
            "snn DelayedLinear sparse": lambda: s.DelayedLinear(IN, OUT, **LINEAR, synapses=1, step_mode=False),
            "snn DelayedLinear gaussian": lambda: s.DelayedLinear(IN, OUT, **LINEAR, **GAUSSIAN, step_mode=False),
            "snn DelayedLinear sparse gaussian": lambda: s.DelayedLinear(
                IN, OUT, **LINEAR, **GAUSSIAN, synapses=1, step_mode=False
            ),
            "snn DelayedLinear smoothing": lambda: s.DelayedLinear(
                IN, OUT, **LINEAR, step_mode=False, smoothing=torch.tensor([0.7, 0.3])
            ),
            "snn DelayedConv1d": lambda: Conv(s.DelayedConv1d(1, 2, 2, **LINEAR, step_mode=False)),
            "snn DelayedConv1d gaussian": lambda: Conv(s.DelayedConv1d(1, 2, 2, **LINEAR, **GAUSSIAN, step_mode=False)),
            "AdLIFPlus": lambda: Steps(s.AdLIFPlus(features=IN, init_hidden=True), "reset_mem"),
            "snn DelayedLinear steps": lambda: Steps(s.DelayedLinear(IN, OUT, **LINEAR), "reset_mem"),
            "snn DelayedLinear gaussian steps": lambda: Steps(s.DelayedLinear(IN, OUT, **LINEAR, **GAUSSIAN), "reset_mem"),
        }
    except ImportError:
        pass
    try:
        from snn_delay_plugins import spikingjelly as j

        made |= {
            "AdLIFPlusNode": lambda: Whole(j.AdLIFPlusNode(features=IN, step_mode="m")),
            "AdLIFPlusNode steps": lambda: Steps(j.AdLIFPlusNode(features=IN, step_mode="s"), "reset"),
            "sj DelayedLinear": lambda: Whole(j.DelayedLinear(IN, OUT, **LINEAR, step_mode="m")),
            "sj DelayedLinear steps": lambda: Steps(j.DelayedLinear(IN, OUT, **LINEAR, step_mode="s"), "reset"),
        }
    except ImportError:
        pass
    return made


class Whole(torch.nn.Module):
    """A SpikingJelly module that forgets after every sequence."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x):
        self.module.reset()
        try:
            return self.module(x)
        finally:
            self.module.reset()


class Steps(torch.nn.Module):
    """A module that is called step by step and forgets before and after a sequence."""

    def __init__(self, module: torch.nn.Module, reset: str) -> None:
        super().__init__()
        self.module, self.reset = module, reset

    def forward(self, x):
        getattr(self.module, self.reset)()
        try:
            return torch.stack([self.module(step) for step in x.unbind(0)])
        finally:
            getattr(self.module, self.reset)()


class Conv(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x[:, :, None])


LAYERS = layers()
pytestmark = pytest.mark.filterwarnings("ignore:AdLIF runs in its plain", "ignore:delayed_linear runs as a dense")


def twins(name: str):
    """A layer in float64, its parameters, an input that makes neurons fire, and what reverse mode says about them."""
    layer = LAYERS[name]().double()
    x = torch.rand(STEPS, BATCH, IN, dtype=torch.float64) * 4
    leaves = {"x": x.clone().requires_grad_(), **dict(layer.named_parameters())}
    out = layer(leaves["x"])
    c = torch.randn_like(out)
    gradients = dict(zip(leaves, torch.autograd.grad((out * c).sum(), list(leaves.values())), strict=True))
    assert any(g.abs().sum() > 0 for g in gradients.values())
    return layer, x, {name: p.detach() for name, p in layer.named_parameters()}, c, out.detach(), gradients


@pytest.mark.parametrize("name", LAYERS)
def test_tangents_in_forward_mode_are_those_of_reverse_mode(name):
    layer, x, parameters, c, expected, gradients = twins(name)
    directions = {name: torch.randn_like(value) for name, value in {"x": x, **parameters}.items()}
    wanted = sum((directions[name] * gradients[name]).sum() for name in directions)

    def run(leaves):
        given = dict(leaves)
        return functional_call(layer, {k: v for k, v in given.items() if k != "x"}, (given["x"],))

    out, tangent = jvp(run, ({"x": x, **parameters},), (directions,))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close((c * tangent).sum(), wanted)
    with forward_ad.dual_level():
        dual = {k: forward_ad.make_dual(v, directions[k]) for k, v in {"x": x, **parameters}.items()}
        tangent = forward_ad.unpack_dual(run(dual)).tangent
    torch.testing.assert_close((c * tangent).sum(), wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_functional_gradients_are_those_of_backward(name):
    layer, x, parameters, c, _, gradients = twins(name)
    found = grad(lambda p, x: (functional_call(layer, p, (x,)) * c).sum(), argnums=(0, 1))(parameters, x)
    for key, value in {**found[0], "x": found[1]}.items():
        torch.testing.assert_close(value, gradients[key])


@pytest.mark.parametrize("name", LAYERS)
def test_vmap_over_inputs_and_over_parameters_equals_a_loop(name):
    layer, x, parameters, _, expected, _ = twins(name)
    torch.testing.assert_close(vmap(layer)(torch.stack([x, x * 0.5]))[0], expected)
    several = {k: torch.stack([v, v * 0.9]) for k, v in parameters.items()}
    out = vmap(lambda p: functional_call(layer, p, (x,)))(several)
    torch.testing.assert_close(out[0], expected)
    torch.testing.assert_close(out[1], functional_call(layer, {k: v[1] for k, v in several.items()}, (x,)))


@pytest.mark.parametrize("name", ["StateAdLIFPlus", "snn DelayedLinear"])
def test_jacobians_of_both_modes_are_equal(name):
    if name not in LAYERS:
        pytest.skip("its framework is not here")
    layer, x, _, c, _, gradients = twins(name)
    forward, reverse = jacfwd(layer)(x), jacrev(layer)(x)
    torch.testing.assert_close(forward, reverse)
    torch.testing.assert_close(torch.tensordot(c, reverse, 3), gradients["x"])


def test_a_hessian_is_that_of_the_plain_form():
    w, d, s = (torch.rand(*shape, dtype=torch.float64) for shape in ((OUT, IN), (OUT, IN), (STEPS, 1, IN)))
    found = hessian(lambda w: delayed_linear(s, w, d, max_delay=2).pow(3).sum())(w)
    expected = torch.autograd.functional.hessian(
        lambda w: delayed_linear(s, w, d, max_delay=2, method="direct").pow(3).sum(), w
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["StateAdLIFPlus", "snn DelayedLinear", "snn DelayedLinear sparse"])
def test_a_second_backward_through_a_kernel_is_refused_with_the_remedy(name):
    if name not in LAYERS:
        pytest.skip("its framework is not here")
    layer = LAYERS[name]()
    x = (torch.rand(STEPS, BATCH, IN) * 4).requires_grad_()
    (g,) = torch.autograd.grad(layer(x).pow(2).sum(), x, create_graph=True)
    assert g.abs().sum() > 0
    with pytest.raises(RuntimeError, match=r'cannot be differentiated again.*method="torch"'):
        g.pow(2).sum().backward()


def test_a_second_backward_is_refused_for_other_surrogates_and_spike_linear_too():
    x = (torch.rand(STEPS, BATCH, IN) * 4).requires_grad_()

    class Surrogate(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return (v > 0).to(v)

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.sigmoid(ctx.saved_tensors[0])

    alpha = torch.full((IN,), 0.5, requires_grad=True)
    weight = torch.rand(OUT, IN, requires_grad=True)
    for out in (adlif(x, alpha=alpha, surrogate=Surrogate.apply)[0], spike_linear(x, weight)):
        (g,) = torch.autograd.grad(out.pow(2).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            g.pow(2).sum().backward()


@pytest.mark.parametrize("method", ["torch", "direct"])
def test_a_second_backward_works_in_the_plain_form(method, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", method)
    x = (torch.rand(STEPS, 1, IN, dtype=torch.float64)).requires_grad_()
    w, d = (torch.rand(OUT, IN, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradgradcheck(lambda x, w: delayed_linear(x, w, d, max_delay=2).pow(2), (x, w))


EVENT_CALLS = {
    "LIF, dense": EventPropLIF(IN, OUT, output="dense"),
    "LIF, events": lambda x: eventprop_lif(EVENTS, x[0, :1].expand(OUT, IN) * 1.0).times,
    "AdLIF": EventPropAdLIF(IN, OUT, output="dense"),
    "LI": EventPropLI(IN, OUT),
    "to_dense": lambda x: SpikeEvents._trusted(x[0, 0, :2], EVENTS.units, EVENTS.offsets, IN, 9.0).to_dense(1.0),
}
EVENTS = SpikeEvents.from_lists([[1.0, 2.0]], [[0, 1]], num_units=IN, duration=9.0)
TRANSFORMS = {
    "jvp": lambda f, x: jvp(f, (x,), (torch.ones_like(x),)), "grad": lambda f, x: grad(lambda v: f(v).sum())(x),
    "vmap": lambda f, x: vmap(f)(x[None]), "jacfwd": lambda f, x: jacfwd(f)(x), "jacrev": lambda f, x: jacrev(f)(x),
}  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("call", EVENT_CALLS)
def test_eventprop_refuses_transforms_and_names_the_remedy(call, transform):
    x = torch.ones(STEPS, BATCH, IN)
    with pytest.raises(NotImplementedError, match=r"torch\.func\.\w+: its derivatives exist in reverse mode alone"):
        TRANSFORMS[transform](EVENT_CALLS[call], x)


@pytest.mark.parametrize("kind", [EventPropLIF, EventPropAdLIF])
def test_eventprop_refuses_forward_mode_and_a_second_backward(kind):
    layer = kind(IN, OUT, weight_init=(3.0, 0.5))
    x = torch.ones(STEPS, BATCH, IN)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="cannot pass through forward-mode AD"):
        layer(forward_ad.make_dual(x, x))
    (g,) = torch.autograd.grad(layer(x).times.pow(2).sum(), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="EventProp layer is compiled and cannot be differentiated again"):
        g.sum().backward()


def test_a_frozen_discrete_layer_refuses_derivatives_and_passes_vmap():
    front = pytest.importorskip("snn_delay_plugins.snntorch")
    layer = front.DelayedLinear(IN, OUT, **LINEAR, kernel="round", step_mode=False).discretize()
    x = torch.rand(STEPS, BATCH, IN)
    torch.testing.assert_close(vmap(layer)(x[None])[0], layer(x))
    for name in ("jvp", "grad", "jacfwd"):
        with pytest.raises(NotImplementedError, match="differentiate the DelayedLinear"):
            TRANSFORMS[name](layer, x)
    with pytest.raises(NotImplementedError, match="differentiate the DelayedLinear"):
        grad(lambda v: vmap(layer)(v[None]).sum())(x)


@pytest.mark.parametrize("name", [name for name in LAYERS if isinstance(LAYERS[name](), Steps)])
def test_a_state_left_behind_by_vmap_is_refused_with_the_remedy(name):
    steps = LAYERS[name]()
    module, reset = steps.module, getattr(steps.module, steps.reset)
    x = torch.rand(BATCH, IN) * 4
    expected = module(x)
    reset()
    vmap(module)(x[None])
    with pytest.raises(RuntimeError, match=r"left behind by torch\.func\.vmap, which has ended: reset the network"):
        module(x)
    reset()
    torch.testing.assert_close(module(x), expected)


def test_the_plain_form_that_a_transform_takes_is_said_once_with_its_cost():
    from snn_delay_plugins.kernels import dispatch

    dispatch._warned.cache_clear()
    w, d, s = torch.rand(OUT, IN), torch.rand(OUT, IN), torch.rand(STEPS, 1, IN)
    with pytest.warns(UserWarning, match=r"dense convolution, slow over long delays: .*torch\.func\.jvp"):
        jvp(lambda w: delayed_linear(s, w, d, max_delay=2), (w,), (w,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jvp(lambda w: delayed_linear(s, w, d, max_delay=2), (w,), (w,))
    with pytest.raises(ValueError, match=r"not possible here: compiled code has no rule for torch\.func\.jvp"):
        jvp(lambda w: delayed_linear(s, w, d, max_delay=2, method="numba"), (w,), (w,))


def test_without_a_transform_the_kernels_run():
    from snn_delay_plugins.kernels import dispatch

    x = torch.rand(STEPS, BATCH, IN)
    assert dispatch.delay_method(x, x.dtype) == "auto"
    assert dispatch.neuron_method(x, x.dtype, Boxcar()) == "numba"
