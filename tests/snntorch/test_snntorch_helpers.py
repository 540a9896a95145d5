"""snnTorch's utils.reset and backprop over networks of our modules: what they train is what a loop by hand trains."""

from __future__ import annotations

import copy
import sys
import threading
import warnings

import pytest
import snntorch as snn
import torch
from snntorch import functional as SF
from snntorch import utils
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    backprop = pytest.importorskip("snntorch.backprop")

import snn_delay_plugins
from snn_delay_plugins.snntorch import AdLIFPlus, DelayedLinear, DiscreteDelayedLinear, StateAdLIFPlus, detach

# imported before register(), as a script does
from snntorch.backprop import BPTT, RTRL, TBPTT  # isort: skip
from snntorch.utils import reset  # isort: skip

STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 10, 4, 6, 8, 3


@pytest.fixture(autouse=True)
def registered():
    before = dict(vars(backprop)), dict(vars(utils))
    snn_delay_plugins.register()
    yield
    snn_delay_plugins.unregister()
    flags = {name for name in vars(utils) if name.startswith("is_")}
    assert vars(backprop) == before[0]
    assert {k: v for k, v in vars(utils).items() if k not in flags} == {
        k: v for k, v in before[1].items() if k not in flags
    }


def ours(**options):
    return AdLIFPlus(alpha=0.6, beta=0.97, a=0.5, b=0.5, threshold=0.5, init_hidden=True, **options)


def leaky(**options):
    return snn.Leaky(beta=0.8, threshold=0.5, init_hidden=True, **options)


def network(first, last, delayed=False):
    torch.manual_seed(1)
    layer = DelayedLinear(HIDDEN, CLASSES, max_delay=3, delay="uniform") if delayed else nn.Linear(HIDDEN, CLASSES)
    net = nn.Sequential(nn.Linear(INPUTS, HIDDEN), first(), nn.Sequential(layer), last(output=True))
    with torch.no_grad():
        net[0].weight.mul_(3), net[2][0].weight.mul_(3)
    return net


def batches():
    torch.manual_seed(2)
    return [(torch.rand(BATCH, INPUTS), torch.arange(BATCH) % CLASSES) for _ in range(2)]


def train_by_hand(net, data, chunk):
    """Truncated backpropagation as snnTorch's documentation describes it: an update after every ``chunk`` steps."""
    optimizer, loss_fn = torch.optim.SGD(net.parameters(), lr=0.1), SF.ce_rate_loss()
    for x, targets in data:
        utils.reset(net)
        for start in range(0, STEPS, chunk):
            spikes = torch.stack([net(x)[0] for _ in range(min(chunk, STEPS - start))])
            optimizer.zero_grad()
            loss_fn(spikes, targets).backward()
            optimizer.step()
            detach(net)
            snn.Leaky.detach_hidden()
    return net


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(("first", "last"), [(ours, ours), (ours, leaky), (leaky, ours)])
@pytest.mark.parametrize(("run", "chunk", "options"), [
    (BPTT, STEPS, {}), (TBPTT, 5, {"K": 5}), (TBPTT, 4, {"K": 4}), (RTRL, 1, {}),
    (lambda *a, **k: backprop.TBPTT(*a, **k), 5, {"K": 5}),
])  # fmt: skip
def test_the_training_of_snntorch_gives_the_weights_of_a_loop_by_hand(run, chunk, options, first, last, delayed):
    by_hand = train_by_hand(network(first, last, delayed), batches(), chunk)
    net = network(first, last, delayed)
    start = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    run(net, batches(), optimizer, SF.ce_rate_loss(), num_steps=STEPS, time_var=False, **options)
    for name, value in by_hand.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    assert not torch.equal(start["0.weight"], net[0].weight)
    assert not torch.equal(start["2.0.weight"], net[2][0].weight)


def test_data_that_vary_in_time_reach_our_neurons_too():
    sequences = [(torch.rand(STEPS, BATCH, INPUTS), torch.arange(BATCH) % CLASSES)]
    net = network(ours, ours)
    before = net[0].weight.detach().clone()
    BPTT(net, sequences, torch.optim.SGD(net.parameters(), lr=0.1), SF.ce_rate_loss())
    assert not torch.equal(net[0].weight, before)


def test_the_last_neuron_is_found_at_any_depth():
    net = nn.Sequential(nn.Linear(INPUTS, CLASSES), nn.Sequential(nn.Sequential(ours(output=True))))
    BPTT(net, batches(), torch.optim.SGD(net.parameters(), lr=0.1), SF.ce_rate_loss(), num_steps=STEPS, time_var=False)


@pytest.mark.parametrize("last", [ours, StateAdLIFPlus, lambda: DelayedLinear(INPUTS, CLASSES, max_delay=2)])
def test_a_network_that_does_not_end_with_spikes_and_states_is_refused_with_the_remedy(last):
    net = nn.Sequential(nn.Linear(INPUTS, INPUTS), last())
    with pytest.raises(ValueError, match=r"end the network with AdLIFPlus\(init_hidden=True, output=True\)"):
        BPTT(net, batches(), torch.optim.SGD(net.parameters(), lr=0.1), SF.ce_rate_loss(), num_steps=STEPS,
             time_var=False)  # fmt: skip


def test_networks_of_snntorch_alone_train_as_without_register():
    results = []
    for act in (snn_delay_plugins.register, snn_delay_plugins.unregister):
        act()
        net = network(leaky, leaky)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        TBPTT(net, batches(), optimizer, SF.ce_rate_loss(), num_steps=STEPS, time_var=False, K=5)
        results.append(net[0].weight.detach())
    assert torch.equal(*results)


def test_other_networks_keep_their_graph_while_one_is_trained():
    other = ours()
    other(torch.rand(2, 3, requires_grad=True))
    net = network(ours, ours)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    TBPTT(net, batches(), optimizer, SF.ce_rate_loss(), num_steps=STEPS, time_var=False, K=5)
    assert other.mem.grad_fn is not None


def test_a_reset_that_was_imported_before_register_reaches_ours():
    net = nn.Sequential(DelayedLinear(INPUTS, HIDDEN, max_delay=3), nn.Sequential(ours()))
    net(torch.rand(BATCH, INPUTS))
    reset(net)
    assert net[0].history is None and net[1][0].mem.numel() == 0
    snn_delay_plugins.unregister()
    net(torch.rand(BATCH, INPUTS))
    reset(net)
    assert net[1][0].mem.shape == (BATCH, HIDDEN), "unregister() gives the old function back"


def test_a_reset_that_checks_no_layers_is_replaced_itself(monkeypatch):
    """The coming snnTorch goes over net.modules() for its own neurons."""
    snn_delay_plugins.unregister()

    def coming(net):
        for module in net.modules():
            if isinstance(module, snn.SpikingNeuron):
                module.reset_mem()

    monkeypatch.setattr(utils, "reset", coming)
    net = nn.Sequential(DelayedLinear(INPUTS, HIDDEN, max_delay=3), ours(output=True), nn.Identity())
    net(torch.rand(BATCH, INPUTS))
    utils.reset(net)
    assert net[1].mem.numel() == 0 and net[0].history is not None
    snn_delay_plugins.register()
    utils.reset(net)
    assert net[0].history is None
    snn_delay_plugins.unregister()
    assert utils.reset is coming


def test_every_module_of_ours_answers_to_reset_mem_as_the_coming_snntorch_calls_it():
    delayed = DelayedLinear(INPUTS, HIDDEN, max_delay=3)
    for module in (AdLIFPlus(), StateAdLIFPlus(), delayed, DiscreteDelayedLinear(delayed)):
        module.reset_mem()


def test_register_does_not_pass_on_the_announcement_that_backprop_will_go(monkeypatch):
    snn_delay_plugins.unregister()
    monkeypatch.delitem(sys.modules, "snntorch.backprop")
    monkeypatch.delattr(snn, "backprop")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snn_delay_plugins.register()
    snn_delay_plugins.unregister()


def test_two_threads_train_two_networks_at_once():
    expected = train_by_hand(network(ours, ours), batches(), 5)[0].weight
    got = {}

    def train(k):
        got[k] = nets[k]
        optimizer = torch.optim.SGD(nets[k].parameters(), lr=0.1)
        TBPTT(nets[k], batches_of[k], optimizer, SF.ce_rate_loss(), num_steps=STEPS, time_var=False, K=5)

    nets, batches_of = [network(ours, ours) for _ in range(2)], [batches() for _ in range(2)]
    threads = [threading.Thread(target=train, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net in got.values():
        assert torch.equal(net[0].weight, expected)
