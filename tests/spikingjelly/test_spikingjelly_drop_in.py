"""Networks as SpikingJelly's tutorials write them for ``neuron.LIFNode``, run with only the neuron's name changed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate
from torch import nn

import snn_delay_plugins

STEPS, BATCH, CLASSES = 8, 6, 3
NEURONS = pytest.mark.parametrize("name", ["LIFNode", "AdLIFPlusNode"])


@pytest.fixture(autouse=True)
def registered():
    snn_delay_plugins.register()
    yield
    snn_delay_plugins.unregister()


def images():
    labels = torch.arange(BATCH) % CLASSES
    return (torch.rand(CLASSES, 1, 8, 8).round()[labels] * 0.9 + 0.05), labels


def train(net, forward, epochs, lr=2e-2):
    """The tutorials' loop; the optimizer exists before the first forward pass."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    img, label = images()
    label_onehot = F.one_hot(label, CLASSES).float()
    losses = []
    net.train()
    for _ in range(epochs):
        optimizer.zero_grad()
        out_fr = forward(net, img)
        assert out_fr.shape == (BATCH, CLASSES)
        loss = F.mse_loss(out_fr, label_onehot)
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    assert torch.tensor(losses).isfinite().all()
    assert losses[-1] < losses[0]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    net.eval()
    with torch.no_grad():
        forward(net, img[:2])  # a smaller last batch after reset_net
    functional.reset_net(net)


@NEURONS
def test_the_single_layer_network_of_the_first_tutorial_trains(name):
    Node = getattr(neuron, name)
    net = nn.Sequential(
        layer.Flatten(), layer.Linear(64, CLASSES, bias=False), Node(tau=2.0, surrogate_function=surrogate.ATan())
    )
    encoder = encoding.PoissonEncoder()

    def forward(net, img):
        if len(img) < BATCH:
            return sum(net(encoder(img)) for _ in range(STEPS))
        out_fr = 0.0
        for _ in range(STEPS):
            out_fr += net(encoder(img))
        return out_fr / STEPS

    train(net, forward, epochs=12)


@NEURONS
@pytest.mark.parametrize("arguments", [
    {},
    {"tau": 2.0, "decay_input": True, "detach_reset": True},
    {"tau": 2.0, "v_threshold": 0.5, "v_reset": 0.0, "surrogate_function": surrogate.Sigmoid()},
    {"tau": 4.0, "v_reset": None, "surrogate_function": surrogate.ATan()},
])  # fmt: skip
def test_the_convolutional_network_trains_in_multi_step_mode(name, arguments):
    Node = getattr(neuron, name)
    net = nn.Sequential(
        layer.Conv2d(1, 4, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        Node(**arguments),
        layer.MaxPool2d(2, 2),
        layer.Flatten(),
        layer.Linear(4 * 4 * 4, CLASSES, bias=False),
        Node(**arguments),
    )
    functional.set_step_mode(net, step_mode="m")
    with torch.no_grad():  # the output neurons start within reach of their threshold
        net[5].weight.abs_().mul_(2.0)

    def forward(net, img):
        x_seq = img.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)
        fr = net(x_seq).mean(0)
        return fr if len(img) == BATCH else fr.sum(0)

    train(net, forward, epochs=15, lr=5e-2)


@NEURONS
def test_every_argument_of_lifnode_can_be_given_by_position(name):
    node = getattr(neuron, name)(2.0, True, 1.0, 0.0, surrogate.ATan(), True, "m", True)
    x = torch.rand(STEPS, BATCH, CLASSES) * 3
    assert node(x).shape == x.shape
    assert node.v_seq.shape == x.shape
    assert node.v.shape == x.shape[1:]
    assert node.step_mode == "m" and node.detach_reset is True and node.v_threshold == 1.0


@NEURONS
@pytest.mark.parametrize("container", ["multi step", "step mode", "linear recurrent", "element-wise recurrent"])
def test_containers_hold_the_node(name, container):
    Node = getattr(neuron, name)
    x = (torch.rand(STEPS, BATCH, 5) * 3).requires_grad_()
    if container == "multi step":
        net = nn.Sequential(layer.SeqToANNContainer(nn.Linear(5, 4)), layer.MultiStepContainer(Node(tau=2.0)))
    elif container == "step mode":
        net = nn.Sequential(layer.Linear(5, 4, step_mode="m"), layer.StepModeContainer(True, "m", Node(tau=2.0)))
    elif container == "linear recurrent":
        net = nn.Sequential(layer.LinearRecurrentContainer(Node(tau=2.0), in_features=5, out_features=5, bias=True))
        functional.set_step_mode(net, "m")
    else:
        net = nn.Sequential(layer.ElementWiseRecurrentContainer(Node(tau=2.0), element_wise_function=torch.add))
        functional.set_step_mode(net, "m")
    out = net(x)
    assert out.shape[:2] == (STEPS, BATCH)
    out.sum().backward()
    functional.reset_net(net)
    assert torch.equal(net(x), out)
    assert x.grad.abs().sum() > 0


@NEURONS
def test_truncated_backpropagation_with_detach_net_trains(name):
    net = nn.Sequential(layer.Linear(5, 4), getattr(neuron, name)(tau=2.0, surrogate_function=surrogate.ATan()))
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for x in torch.rand(4, STEPS, BATCH, 5) * 3:
        optimizer.zero_grad()
        (net(x).mean() - 0.5).pow(2).backward()
        optimizer.step()
        functional.detach_net(net)
    assert net[0].weight.grad.isfinite().all()


def test_an_argument_of_lifnode_that_eq_1_does_not_have_is_refused_and_not_ignored():
    with pytest.raises(ValueError, match="decay_input=False"):
        neuron.AdLIFPlusNode(tau=2.0, decay_input=False)
    with pytest.raises(ValueError, match="v_reset"):
        neuron.AdLIFPlusNode(tau=2.0, v_reset=-1.0)


def test_a_delayed_layer_stands_in_the_place_of_linear():
    net = nn.Sequential(
        layer.Flatten(), layer.DelayedLinear(64, 10, max_delay=3, delay="uniform"), neuron.AdLIFPlusNode(),
        layer.DelayedLinear(10, CLASSES, max_delay=3, bias=False), neuron.AdLIFPlusNode(),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        net[3].weight.abs_().mul_(3.0)

    def forward(net, img):
        fr = net(img.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1) * 3).mean(0)
        return fr if len(img) == BATCH else fr.sum(0)

    train(net, forward, epochs=15, lr=5e-2)
