"""A spiking layer that fires nothing during a whole batch of training says so, once."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from snn_delay_plugins import EventPropLIF, SpikeEvents

snntorch = pytest.importorskip("snn_delay_plugins.snntorch")
spikingjelly = pytest.importorskip("snn_delay_plugins.spikingjelly")
functional = pytest.importorskip("spikingjelly.activation_based.functional")


def said(action) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in caught if "no neuron of" in str(warning.message)]


class Silent(nn.Module):
    """A batch of 0.25 as input current to neurons of threshold 1, in the form of ``kind``."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.fc = nn.Linear(3, 4)
        nn.init.zeros_(self.fc.weight)
        nn.init.constant_(self.fc.bias, 0.25)
        if kind == "step":
            self.neuron = snntorch.AdLIFPlus(features=4, init_hidden=True)
        elif kind == "sequence":
            self.neuron = snntorch.StateAdLIFPlus(features=4)
        else:
            self.neuron = spikingjelly.AdLIFPlusNode(features=4, step_mode=kind)

    def forward(self, x):
        if self.kind in ("sequence", "m"):
            return self.neuron(self.fc(x))
        return torch.stack([self.neuron(self.fc(step)) for step in x])

    def batch(self, x=None):
        self(torch.rand(10, 2, 3) if x is None else x)
        (snntorch.reset if self.kind in ("step", "sequence") else functional.reset_net)(self)


KINDS = pytest.mark.parametrize("kind", ["step", "sequence", "s", "m"])


@KINDS
def test_a_silent_layer_warns_once_with_its_name_numbers_and_the_remedy(kind):
    net = nn.Sequential(Silent(kind))
    messages = said(lambda: [net[0].batch() for _ in range(3)])
    assert len(messages) == 1
    for part in ("'0.neuron'", "current is 0.25", "threshold 1", "snn_delay_plugins.calibrate(net, batch)"):
        assert part in messages[0], messages[0]


@KINDS
def test_a_layer_that_fires_in_one_step_of_the_batch_says_nothing(kind):
    net = Silent(kind)
    x = torch.zeros(10, 2, 3)
    x[7] = 100.0
    nn.init.constant_(net.fc.weight, 1.0)
    assert said(lambda: net.batch(x)) == []


@KINDS
def test_nothing_is_said_in_evaluation_without_input_or_of_fake_tensors(kind):
    assert said(Silent(kind).eval().batch) == []
    quiet = Silent(kind)
    nn.init.zeros_(quiet.fc.bias)
    assert said(lambda: quiet.batch(torch.zeros(10, 2, 3))) == []
    assert said(lambda: Silent(kind).batch(torch.zeros(10, 0, 3))) == []
    if kind in ("sequence", "m"):
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = mode.from_tensor(torch.rand(10, 2, 4))
        assert not Silent(kind).neuron.is_watched(fake)


@KINDS
def test_watching_leaves_state_dicts_and_copies_alone(kind):
    net = Silent(kind)
    before = set(net.state_dict())
    net(torch.rand(10, 2, 3))
    assert set(net.state_dict()) == before
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert said(twin.batch) != [] or kind == "sequence"  # which has said it before


@pytest.mark.parametrize("kind", ["step", "s", "m"])
def test_detached_windows_are_one_batch_until_it_has_become_long(kind):
    net, detach = Silent(kind), snntorch.detach if kind == "step" else functional.detach_net
    assert said(lambda: [(net(torch.rand(5, 2, 3)), detach(net)) for _ in range(3)]) == []
    assert len(said(lambda: [(net(torch.rand(30, 2, 3)), detach(net)) for _ in range(4)])) == 1


@KINDS
def test_nothing_is_said_of_one_step_or_without_gradients(kind):
    net = Silent(kind)
    if kind != "sequence":  # whose call is a batch
        assert said(lambda: net.batch(torch.rand(1, 2, 3))) == []
    with torch.no_grad():
        assert said(net.batch) == []
    with torch.inference_mode():
        assert said(net.batch) == []
    assert len(said(net.batch)) == 1


def test_per_sample_gradients_pass_a_watched_step():
    net = Silent("sequence")

    def loss(x):
        return net.neuron(x[:, None]).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.func.vmap(loss)(torch.rand(3, 5, 4))
        except (RuntimeError, NotImplementedError, ValueError) as error:
            assert "any" not in str(error) and "item" not in str(error)


def test_eventprop_says_how_far_its_membranes_are_from_threshold():
    layer = EventPropLIF(30, 4, weight_init=(1e-3, 1e-4))
    events = SpikeEvents.from_dense((torch.rand(100, 2, 30) < 0.1).float(), 1.0)
    messages = said(lambda: [layer(events) for _ in range(2)])
    assert len(messages) == 1
    for part in ("EventPropLIF(30, 4)", f"{len(events)} input spikes", "membrane potential is", "threshold 1", "calibrate"):
        assert part in messages[0], messages[0]
    assert "seconds" not in messages[0]
    assert said(lambda: EventPropLIF(30, 4, weight_init=(1e-3, 1e-4)).eval()(events)) == []


def test_eventprop_suspects_seconds_in_the_place_of_milliseconds():
    layer = EventPropLIF(30, 4, weight_init=(1e-3, 1e-4))
    events = SpikeEvents.from_lists([torch.rand(20)], [torch.randint(30, (20,))], num_units=30, duration=1.0)
    (message,) = said(lambda: layer(events))
    assert "Samples last 1 but tau_mem is 20: are their times in seconds?" in message
