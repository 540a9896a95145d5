"""Networks as snnTorch's tutorials write them for ``snn.Synaptic``, run with only the neuron's name changed."""

from __future__ import annotations

import warnings

import pytest
import snntorch as snn
import torch
from snntorch import functional as SF
from snntorch import surrogate, utils
from torch import nn

import snn_delay_plugins

STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 10, 8, 12, 10, 3
NEURONS = ["Synaptic", "AdLIFPlus"]


@pytest.fixture(autouse=True)
def registered():
    snn_delay_plugins.register()
    with warnings.catch_warnings():  # beta=0.8 of the tutorials lies outside the bounds of AdLIF+ and is clipped
        warnings.filterwarnings("ignore", "beta=0.8 lies outside", UserWarning)
        yield
    snn_delay_plugins.unregister()


def batch():
    labels = torch.arange(BATCH) % CLASSES
    prototypes = torch.rand(CLASSES, INPUTS) * 3
    return prototypes[labels] + 0.1 * torch.rand(BATCH, INPUTS), labels


def check_training(net, losses):
    assert all(torch.tensor(losses).isfinite())
    assert losses[-1] < losses[0]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


class Net(nn.Module):
    """Tutorial 5 with a second-order neuron: explicit states, a loop over time inside forward."""

    def __init__(self, neuron):
        super().__init__()
        spike_grad = surrogate.fast_sigmoid()
        Neuron = getattr(snn, neuron)
        self.fc1 = nn.Linear(INPUTS, HIDDEN)
        self.lif1 = Neuron(alpha=0.9, beta=0.8, spike_grad=spike_grad)
        self.fc2 = nn.Linear(HIDDEN, CLASSES)
        self.lif2 = Neuron(alpha=0.9, beta=0.8, spike_grad=spike_grad)

    def forward(self, x, init="reset_mem"):
        syn1, mem1 = getattr(self.lif1, init)()
        syn2, mem2 = getattr(self.lif2, init)()
        spk2_rec, mem2_rec = [], []
        for _ in range(STEPS):
            cur1 = self.fc1(x)
            spk1, syn1, mem1 = self.lif1(cur1, syn1, mem1)
            cur2 = self.fc2(spk1)
            spk2, syn2, mem2 = self.lif2(cur2, syn2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


@pytest.mark.parametrize("init", ["reset_mem", "init_synaptic"])
@pytest.mark.parametrize("neuron", NEURONS)
def test_a_network_with_explicit_states_trains(neuron, init):
    net = Net(neuron)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-2, betas=(0.9, 0.999))
    loss_fn, losses = nn.CrossEntropyLoss(), []
    data, targets = batch()
    for _ in range(8):
        net.train()
        spk_rec, mem_rec = net(data, init)
        assert spk_rec.shape == mem_rec.shape == (STEPS, BATCH, CLASSES)
        loss = sum(loss_fn(mem, targets) for mem in mem_rec)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    check_training(net, losses)
    with torch.no_grad():
        net.eval()
        spk_rec, _ = net(data[:5])  # the tutorials' last batch is smaller
    assert SF.accuracy_rate(spk_rec, targets[:5]) >= 0


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_network_that_hides_its_states_in_a_sequential_trains(neuron):
    Neuron = getattr(snn, neuron)
    spike_grad = surrogate.fast_sigmoid(slope=25)
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(INPUTS, HIDDEN),
        Neuron(alpha=0.9, beta=0.8, spike_grad=spike_grad, init_hidden=True),
        nn.Linear(HIDDEN, CLASSES),
        Neuron(alpha=0.9, beta=0.8, spike_grad=spike_grad, init_hidden=True, output=True),
    )

    def forward_pass(net, data):
        spk_rec, mem_rec = [], []
        utils.reset(net)
        for _ in range(STEPS):
            spk_out, _syn_out, mem_out = net(data)
            spk_rec.append(spk_out)
            mem_rec.append(mem_out)
        return torch.stack(spk_rec), torch.stack(mem_rec)

    optimizer = torch.optim.Adam(net.parameters(), lr=5e-2)
    loss_fn, losses = SF.ce_rate_loss(), []
    data, targets = batch()
    for _ in range(12):
        spk_rec, _ = forward_pass(net, data)
        loss = loss_fn(spk_rec, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    check_training(net, losses)
    first, second = (forward_pass(net, data)[1] for _ in range(2))
    assert torch.equal(first, second), "utils.reset forgets the states"
    with torch.no_grad():
        assert forward_pass(net, data[:3])[0].shape == (STEPS, 3, CLASSES)


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_convolutional_network_runs_and_gets_gradients(neuron):
    Neuron = getattr(snn, neuron)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.MaxPool2d(2),
        Neuron(alpha=0.9, beta=0.8, spike_grad=surrogate.atan(), init_hidden=True),
        nn.Flatten(),
        nn.Linear(4 * 3 * 3, CLASSES),
        Neuron(alpha=0.9, beta=0.8, spike_grad=surrogate.atan(), init_hidden=True, output=True),
    )
    utils.reset(net)
    images = torch.rand(2, 1, 8, 8) * 3
    sum(net(images)[2].sum() for _ in range(STEPS)).backward()
    assert net[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_neuron_takes_every_argument_of_synaptic_by_position(neuron):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lif = getattr(snn, neuron)(
            0.9, 0.8, 1.0, surrogate.atan(), False, False, False, True, True, True, "zero", False, False, True
        )
    x = torch.rand(2, 3)
    spk, syn, mem = lif(x, *lif.reset_mem())
    assert spk.shape == syn.shape == mem.shape == (2, 3)
    assert {"alpha", "beta", "threshold"} <= set(dict(lif.named_parameters()))
    assert lif.reset_mechanism == "zero"


def test_the_sequence_class_stands_in_the_place_of_stateleaky():
    theirs = nn.Sequential(nn.Linear(INPUTS, HIDDEN), snn.StateLeaky(beta=0.9, channels=HIDDEN, output=True))
    ours = nn.Sequential(nn.Linear(INPUTS, HIDDEN), snn.StateAdLIFPlus(output=True))
    x = torch.rand(STEPS, BATCH, INPUTS)
    for net in (theirs, ours):
        spk, *states = net(x)
        assert spk.shape == states[-1].shape == (STEPS, BATCH, HIDDEN)
        states[-1].sum().backward()
        assert net[0].weight.grad.abs().sum() > 0
