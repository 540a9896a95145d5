"""The options of layers with delays: every layer of every framework has them, by one name, default and description."""

from __future__ import annotations

import inspect
import pydoc
import warnings
from typing import Unpack, get_type_hints

import pytest
import torch

from snn_delay_plugins import delays, frameworks
from snn_delay_plugins.delay_options import ConvolutionOptions, LinearOptions, takes_options, with_defaults

LAYERS = [
    pytest.param(framework, name, kind, args, id=f"{framework.name} {name}")
    for framework in frameworks.installed()
    if framework.step
    for name, kind, args in (
        ("DelayedLinear", LinearOptions, (4, 3)),
        ("DelayedConv1d", ConvolutionOptions, (4, 3, 2)),
        ("DelayedConv2d", ConvolutionOptions, (4, 3, 2)),
    )
]
every_layer = pytest.mark.parametrize(("framework", "name", "kind", "args"), LAYERS)
every_framework = pytest.mark.parametrize(
    "framework", [pytest.param(framework, id=framework.name) for framework in frameworks.installed() if framework.step]
)
SAMPLE = {
    "delay": 1.0, "learn_delay": False, "delay_gradient": "gaussian", "sigma": 0.5, "learn_sigma": True,
    "sigma_type": "synaptic", "bound_mode": "clamp", "delay_type": "axonal", "padding": "full",
    "smoothing": torch.tensor([0.6, 0.4]), "synapses": 2, "density": 0.5, "time_padding": "full",
}  # fmt: skip


@every_layer
def test_signature_and_help_spell_every_option_out_with_its_default(framework, name, kind, args):
    layer = getattr(framework.load(), name)
    parameters = inspect.signature(layer).parameters
    assert parameters["max_delay"].default is inspect.Parameter.empty
    defaults = vars(with_defaults(kind, {"max_delay": 5}))
    assert {option: parameters[option].default for option in defaults if option != "max_delay"} == {
        option: value for option, value in defaults.items() if option != "max_delay"
    }
    assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]
    assert all(p.kind is p.KEYWORD_ONLY for option, p in parameters.items() if option in defaults)
    text = pydoc.plain(pydoc.render_doc(layer))
    assert all(f":param {option}: " in text for option in (*defaults, "step_mode"))


@every_layer
def test_every_option_reaches_the_layer(framework, name, kind, args):
    make = getattr(framework.load(), name)
    for option in vars(with_defaults(kind, {"max_delay": 5})):
        if option in ("max_delay", "density"):
            continue
        more = {"delay_gradient": "gaussian"} if "sigma" in option else {}
        layer = make(*args, max_delay=5, **framework.sequence, **{option: SAMPLE[option], **more})
        if option == "learn_delay":
            assert "delay" in dict(layer.named_buffers())
        elif option == "learn_sigma":
            assert "sigma" in dict(layer.named_parameters())
        elif option == "sigma_type":
            assert layer.sigma.shape == layer.weight.shape
        elif option == "bound_mode":
            assert layer._bound_modes["delay"] == "clamp"
        elif option == "synapses":
            assert layer.mask.sum(1).tolist() == [2] * 3
        else:
            value = getattr(layer, option)
            wanted = SAMPLE[option]
            assert (value == wanted).all() if isinstance(value, torch.Tensor) else value == wanted, option


@every_layer
def test_a_wrong_name_is_a_type_error_with_the_nearest_right_one(framework, name, kind, args):
    make = getattr(framework.load(), name)
    with pytest.raises(TypeError, match=f"{name} has no option 'max_dely': did you mean 'max_delay'"):
        make(*args, max_dely=5)
    with pytest.raises(TypeError, match=f"{name} has no option 'zzz': it has .*max_delay, delay, .*step_mode"):
        make(*args, max_delay=5, zzz=1)
    with pytest.raises(TypeError, match=f"{name} needs max_delay="):
        make(*args)


@every_layer
def test_places_of_arguments_are_as_ever(framework, name, kind, args):
    make = getattr(framework.load(), name)
    if kind is LinearOptions:
        layer = make(4, 3, False, max_delay=2)
        assert layer.bias is None and layer.weight.shape == (3, 4)
        with pytest.raises(TypeError):
            make(4, 3, True, 5)
        return
    layer = make(4, 6, 3, 2, 1, 2, 2, False, max_delay=2)
    assert layer.bias is None and layer.groups == 2
    assert {layer.stride, layer.padding, layer.dilation} == {(2,) * layer.axes, (1,) * layer.axes}
    assert layer.stride == layer.dilation == (2,) * layer.axes


@every_framework
def test_a_layer_of_ones_own_hands_options_on_and_adds_its_own(framework):
    class Doubled(framework.load().DelayedLinear):
        @takes_options(LinearOptions)
        def __init__(self, features: int, *, gain: float = 2.0, **options: Unpack[LinearOptions]) -> None:
            super().__init__(features, features, **options, **framework.sequence)
            self.gain = gain

    assert list(inspect.signature(Doubled).parameters)[:2] == ["features", "max_delay"]
    assert Doubled(3, max_delay=2, gain=3.0).gain == 3.0
    with pytest.raises(TypeError, match="Doubled has no option 'gian': did you mean 'gain'"):
        Doubled(3, max_delay=2, gian=3.0)


def test_options_named_here_are_those_of_the_rules():
    assert set(delays.RULES) == set(get_type_hints(LinearOptions)["delay_gradient"].__args__[0].__args__)


@every_framework
def test_a_step_mode_of_another_framework_is_refused(framework):
    for other in frameworks.known():
        if other.name != framework.name:
            with pytest.raises((TypeError, ValueError)):
                framework.load().DelayedLinear(4, 3, max_delay=2, **other.sequence)


def test_snntorchs_layer_in_a_spikingjelly_network_is_reset_and_its_modes_are_refused():
    if {"snntorch", "spikingjelly"} - {framework.name for framework in frameworks.installed()}:
        pytest.skip("needs both frameworks")
    from spikingjelly.activation_based import functional

    from snn_delay_plugins import DelayedLinear

    net = torch.nn.Sequential(DelayedLinear(4, 3, max_delay=2, delay=1.0))
    x = torch.rand(2, 4)
    first = net(x)
    net(x)
    functional.reset_net(net)
    assert torch.equal(net(x), first)
    functional.set_step_mode(net, "m")
    with pytest.raises(TypeError, match=r"got 'm'; SpikingJelly's layers .* are in snn_delay_plugins\.spikingjelly"):
        net(x[None])


@every_layer
def test_the_warning_of_rounded_delays_points_at_the_line_that_discretises(framework, name, kind, args):
    layer = getattr(framework.load(), name)(*args, max_delay=4, delay=1.5)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        layer.discretize()
    assert [warning.filename for warning in told if "discretize" in str(warning.message)] == [__file__]


@every_layer
def test_a_sequence_for_a_step_is_refused_with_the_way_to_sequences(framework, name, kind, args):
    layer = getattr(framework.load(), name)(*args, max_delay=2, **framework.step)
    axes = {"DelayedLinear": (), "DelayedConv1d": (7,), "DelayedConv2d": (7, 7)}[name]
    with pytest.raises(ValueError, match=r"spikes must be \[N, 4.*; for a sequence \[T, N, 4.*step_mode"):
        layer(torch.rand(5, 2, 4, *axes))
