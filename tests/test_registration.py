"""Our names in the frameworks' namespaces: set, found again, and all taken back."""

from __future__ import annotations

import importlib

import pytest
import snntorch as snn
import torch
from snntorch import utils
from spikingjelly.activation_based import layer, neuron
from torch import nn

import snn_delay_plugins
from snn_delay_plugins import frameworks
from snn_delay_plugins.models import MODELS

NEW_MODELS = [name for name in MODELS if name != "AdLIFPlus"]
PLACES = [
    (snn, "AdLIFPlus"),
    (snn, "StateAdLIFPlus"),
    *((snn, name.format(model)) for model in NEW_MODELS for name in ("{}", "State{}")),
    (snn, "DelayedConv1d"),
    (snn, "DelayedConv2d"),
    (snn, "DelayedLinear"),
    (snn, "EventPropLI"),
    (snn, "EventPropLIF"),
    (neuron, "AdLIFPlusNode"),
    *((neuron, f"{model}Node") for model in NEW_MODELS),
    (layer, "DelayedConv1d"),
    (layer, "DelayedConv2d"),
    (layer, "DelayedLinear"),
    (layer, "EventPropLI"),
    (layer, "EventPropLIF"),
]
ORIGINAL_RESET = utils.reset


@pytest.fixture(autouse=True)
def nothing_stays_registered():
    snn_delay_plugins.unregister()
    yield
    snn_delay_plugins.unregister()
    assert not any(hasattr(module, name) for module, name in PLACES)
    assert utils.reset is ORIGINAL_RESET


def test_register_puts_our_classes_where_the_frameworks_keep_theirs():
    names = snn_delay_plugins.register()
    assert {f"{module.__name__}.{name}" for module, name in PLACES} <= set(names)
    assert len(names) == len(set(names))
    for framework in frameworks.installed():
        assert {*framework.places(), *framework.unplaced} == set(framework.classes())
        for name, (place, ours) in framework.places().items():
            assert f"{place}.{name}" in names
            assert getattr(importlib.import_module(place), name) is ours
    assert snn.AdLIFPlus is snn_delay_plugins.snntorch.AdLIFPlus
    assert snn.DelayedLinear is snn_delay_plugins.snntorch.DelayedLinear
    assert neuron.AdLIFPlusNode is snn_delay_plugins.spikingjelly.AdLIFPlusNode
    assert layer.DelayedLinear is snn_delay_plugins.spikingjelly.DelayedLinear


def test_register_twice_is_register_once():
    first = snn_delay_plugins.register()
    extended = utils.reset
    assert snn_delay_plugins.register() == first
    assert utils.reset is extended
    snn_delay_plugins.unregister()
    assert utils.reset is ORIGINAL_RESET
    assert not any(hasattr(module, name) for module, name in PLACES)


def test_unregister_without_register_changes_nothing():
    before = dict(vars(snn))
    snn_delay_plugins.unregister()
    assert vars(snn) == before


@pytest.mark.parametrize(("module", "name"), PLACES)
def test_a_foreign_name_is_refused_and_then_nothing_is_changed(module, name, monkeypatch):
    foreign = type(name, (), {})
    monkeypatch.setattr(module, name, foreign, raising=False)
    with pytest.raises(RuntimeError, match=rf"{module.__name__}\.{name} exists already and is not ours"):
        snn_delay_plugins.register()
    assert getattr(module, name) is foreign
    assert [n for m, n in PLACES if (m, n) != (module, name) and hasattr(m, n)] == []
    assert utils.reset is ORIGINAL_RESET
    snn_delay_plugins.unregister()
    assert getattr(module, name) is foreign
    monkeypatch.undo()


def test_a_name_that_was_replaced_after_register_is_left_to_its_owner(monkeypatch):
    snn_delay_plugins.register()
    monkeypatch.setattr(snn, "AdLIFPlus", "theirs")
    snn_delay_plugins.unregister()
    assert snn.AdLIFPlus == "theirs"
    monkeypatch.undo()
    del snn.AdLIFPlus  # undo put our class back


def test_a_reset_that_somebody_wrapped_after_us_is_left_to_them(monkeypatch):
    snn_delay_plugins.register()
    ours = utils.reset
    theirs = lambda net: ours(net)  # noqa: E731
    utils.reset = theirs
    snn_delay_plugins.unregister()
    assert utils.reset is theirs
    utils.reset = ORIGINAL_RESET


def test_utils_reset_reaches_our_modules_at_any_depth_and_snntorchs_own_as_before():
    snn_delay_plugins.register()
    ours = snn.AdLIFPlus(init_hidden=True)
    delayed = snn.DelayedLinear(2, 2, max_delay=3)
    leaky = snn.Leaky(beta=0.9, init_hidden=True)
    net = nn.Sequential(leaky, nn.Sequential(nn.Sequential(delayed, ours)))
    x = torch.rand(4, 2)
    first = net(x).detach()
    assert ours.mem.numel() and delayed.history is not None and leaky.mem.abs().sum() > 0
    utils.reset(net)
    assert ours.mem.numel() == 0 and ours.w.numel() == 0
    assert delayed.history is None
    assert leaky.mem.abs().sum() == 0
    assert torch.equal(net(x), first)


def test_utils_reset_leaves_our_modules_of_other_networks_alone():
    snn_delay_plugins.register()
    net, other = (nn.Sequential(snn.AdLIFPlus(init_hidden=True)) for _ in range(2))
    for n in (net, other):
        n(torch.rand(4, 2))
    utils.reset(net)
    assert net[0].mem.numel() == 0
    assert other[0].mem.shape == (4, 2)


def test_without_register_our_own_reset_does_the_same():
    net = nn.Sequential(nn.Sequential(snn_delay_plugins.AdLIFPlus(init_hidden=True)))
    net(torch.rand(4, 2))
    snn_delay_plugins.snntorch.reset(net)
    assert net[0][0].mem.numel() == 0


def test_the_reset_keeps_the_name_and_documentation_of_snntorchs():
    snn_delay_plugins.register()
    assert utils.reset.__name__ == "reset"
    assert utils.reset.__doc__ == ORIGINAL_RESET.__doc__
