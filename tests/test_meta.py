"""Tensors without values: shapes pass through every layer on the meta device and in a FakeTensorMode."""

from __future__ import annotations

import warnings
from functools import partial
from importlib.util import find_spec

import pytest
import torch
from torch._subclasses import FakeTensorMode

from snn_delay_plugins import EventPropAdLIF, EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF

T = 7
SEQUENCE, IMAGES = torch.rand(T, 2, 6), torch.rand(T, 2, 3, 8, 8)
SPIKES = (SEQUENCE < 0.3).float()


def eventprop_layers():
    for output in ("dense", "same"):
        for recurrent in (False, True):
            make = partial(EventPropLIF, 6, 5, output=output, recurrent=recurrent, delay="uniform", max_delay=5.0)
            yield f"EventPropLIF {output} {recurrent}", make, SPIKES
    make = partial(EventPropAdLIF, 6, 5, output="dense", tau_mem=(10.0, 30.0), learn="all", recurrent=True)
    yield "EventPropAdLIF", make, SPIKES
    for readout in ("voltage", "integral", "weighted_integral", "maximum"):
        yield f"EventPropLI {readout}", partial(EventPropLI, 6, 5, readout=readout), SPIKES


def delay_layers(framework, parts, step, sequences):
    for gradient in ("slayer", "gaussian"):
        options = {"max_delay": 3, "delay_gradient": gradient}
        for synapses in (None, 2):
            linear = partial(parts.DelayedLinear, 6, 5, synapses=synapses, **options)
            yield f"{framework} DelayedLinear {gradient} {synapses}", partial(linear, step_mode=sequences), SEQUENCE
            yield f"{framework} DelayedLinear step {gradient} {synapses}", partial(linear, step_mode=step), SEQUENCE[0]
        for conv, x in (("DelayedConv1d", IMAGES[..., 0]), ("DelayedConv2d", IMAGES)):
            make = partial(getattr(parts, conv), 3, 5, 3, delay=1.0, **options)
            yield f"{framework} {conv} {gradient}", partial(make, step_mode=sequences), x
            yield f"{framework} {conv} step {gradient}", partial(make, step_mode=step), x[0]


def neurons(kind, name, x, **more):
    for options in ({}, {"variant": "symplectic"}, {"preset": "lif"}, {"init_state": "uniform"}, {"alpha": 0.5}):
        yield f"{name} {options}", partial(kind, features=6, **options, **more), x


def layers():
    yield from eventprop_layers()
    if find_spec("snntorch"):
        from snn_delay_plugins import snntorch as parts

        yield from delay_layers("snntorch", parts, True, False)
        yield from neurons(parts.AdLIFPlus, "AdLIFPlus", SEQUENCE[0])
        yield from neurons(parts.StateAdLIFPlus, "StateAdLIFPlus", SEQUENCE, output=True)
    if find_spec("spikingjelly"):
        from snn_delay_plugins import spikingjelly as parts

        yield from delay_layers("spikingjelly", parts, "s", "m")
        yield from neurons(parts.AdLIFPlusNode, "AdLIFPlusNode", SEQUENCE[0])
        yield from neurons(parts.AdLIFPlusNode, "AdLIFPlusNode m", SEQUENCE, step_mode="m", store_v_seq=True)
        yield "AdLIFPlusNode tau", partial(parts.AdLIFPlusNode, tau=2.0, features=6), SEQUENCE[0]


LAYERS = list(layers())
every_layer = pytest.mark.parametrize(("make", "x"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])


def shapes(output):
    return [tuple(part.shape) for part in output] if isinstance(output, tuple) else [tuple(output.shape)]


def real(make, x, training: bool):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an EventProp layer may be silent
        return shapes(make().train(training)(x))


@every_layer
@pytest.mark.parametrize("training", [True, False])
def test_shapes_pass_on_the_meta_device_without_a_warning(make, x, training):
    wanted = real(make, x, training)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.device("meta"):
            born = make().train(training)
        assert all(value.is_meta for value in born.parameters())
        repr(born)
        assert shapes(born(x.to("meta"))) == wanted
        assert shapes(make().train(training).to("meta")(x.to("meta"))) == wanted


@every_layer
@pytest.mark.parametrize("training", [True, False])
def test_shapes_and_gradients_pass_in_a_fake_tensor_mode(make, x, training):
    wanted = real(make, x, training)
    with FakeTensorMode():
        layer, fake = make().train(training), torch.empty(x.shape, requires_grad=True)
        output = layer(fake)
        assert shapes(output) == wanted
        first = output[0] if isinstance(output, tuple) else output
        if first.requires_grad:
            first.sum().backward()
            assert fake.grad.shape == x.shape
            assert all(p.grad is None or p.grad.shape == p.shape for p in layer.parameters())


@every_layer
def test_a_layer_of_the_meta_device_takes_memory_and_a_state_dict(make, x):
    source = make()
    with torch.device("meta"):
        layer = make()
    layer.to_empty(device="cpu").load_state_dict(source.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        wanted = source.eval()(x)
        torch.manual_seed(1)
        given = layer.eval()(x)
    pairs = zip(*((out if isinstance(out, tuple) else (out,)) for out in (given, wanted)), strict=True)
    assert all(torch.equal(got, want) for got, want in pairs)


def test_eventprops_events_are_refused_where_nothing_can_run():
    for make in (EventPropLIF, partial(EventPropLIF, output="events"), EventPropAdLIF):
        with torch.device("meta"):
            layer = make(6, 5)
        with pytest.raises(RuntimeError, match=r'known by running alone.*output="dense"'):
            layer(SPIKES.to("meta"))
    events = SpikeEvents.from_lists([[1.0, 2.0]], [[0, 1]], num_units=2, duration=10.0).to("meta")
    with pytest.raises(RuntimeError, match="known by running alone"):
        eventprop_lif(events, torch.ones(3, 2, device="meta"))
    with pytest.raises(RuntimeError, match="known by running alone"):
        eventprop_linear(events, torch.ones(3, 2, device="meta"), model=ADLIF)
    for readout, shape in (("voltage", (10, 1, 3)), ("integral", (1, 3)), ("maximum", (1, 3))):
        assert eventprop_li(events, torch.ones(3, 2, device="meta"), readout=readout).shape == shape


def test_functions_pass_shapes_on():
    weight = torch.ones(5, 6, device="meta")
    assert delayed_linear(SEQUENCE.to("meta"), weight, weight, max_delay=2, padding="full").shape == (T + 2, 2, 5)
    with pytest.raises(ValueError, match="give max_delay"):
        delayed_linear(SEQUENCE.to("meta"), weight, weight)
    spikes, state, traces = adlif(SEQUENCE.to("meta"), alpha=torch.tensor(0.5, device="meta"), traces=True)
    assert spikes.shape == traces[0].shape == SEQUENCE.shape and state.u.shape == (2, 6)


@pytest.mark.skipif(not find_spec("snntorch"), reason="snnTorch is not installed")
def test_a_lazy_neuron_stays_lazy_on_its_way_to_the_meta_device():
    from snn_delay_plugins import AdLIFPlus

    neuron = AdLIFPlus(init_state="uniform", learn_b=False).to("meta")
    neuron(SEQUENCE[0].to("meta"))
    assert neuron.alpha.shape == neuron.initial_u.shape == (6,) and neuron.alpha.requires_grad
    assert neuron.alpha.is_meta and not neuron.b.requires_grad
    with FakeTensorMode(), pytest.raises(RuntimeError, match="give features"):
        AdLIFPlus()


@pytest.mark.skipif(not find_spec("snntorch"), reason="snnTorch is not installed")
def test_what_a_fake_run_learned_of_a_surrogate_is_not_kept_for_real_ones():
    import snntorch

    from snn_delay_plugins.kernels import surrogates

    surrogate = snntorch.surrogate.atan()
    for place in (FakeTensorMode(), torch.device("meta")):
        surrogates._probed.clear()
        with place:
            adlif(torch.zeros(3, 2, 4), alpha=torch.tensor(0.5), surrogate=surrogate)
        assert surrogates.surrogate_obstacle(surrogate) is None


@pytest.mark.skipif(not find_spec("snntorch"), reason="snnTorch is not installed")
def test_a_list_of_synapses_is_refused_without_values():
    from snn_delay_plugins.snntorch import DelayedLinear

    with torch.device("meta"):
        layer = DelayedLinear(6, 5, max_delay=3, density=0.5)
    assert "synapses=?" in repr(layer)
    with pytest.raises(RuntimeError, match="load them first"):
        layer.discretize()
