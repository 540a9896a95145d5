"""SpikingJelly's op_counter and checkpoints around our modules: said or refused, never silently wrong."""

from __future__ import annotations

import warnings

import pytest
import torch
from spikingjelly.activation_based import functional, layer, memopt, op_counter
from torch import nn
from torch.utils.checkpoint import checkpoint

from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.kernels import dispatch
from snn_delay_plugins.kernels.linear_neuron import operator as _registered  # noqa: F401
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear, EventPropLI, EventPropLIF

WEIGHT = torch.rand(8, 8)
CASES = {
    "delayed_linear": lambda: DelayedLinear(8, 8, max_delay=3, delay="uniform", step_mode="m"),
    "sparse_delayed_linear": lambda: DelayedLinear(8, 8, max_delay=3, step_mode="m").eval().discretize(),
    "linear_neuron": lambda: AdLIFPlusNode(features=8, step_mode="m"),
    "eventprop_lif": lambda: EventPropLIF(8, 8, max_delay=5.0, weight_init=(2.0, 0.1)),
    "eventprop_li": lambda: EventPropLI(8, 8, max_delay=5.0),
    "sparse_linear": lambda: lambda x: spike_linear(x, WEIGHT),
}
COUNTERS = [op_counter.SynOpCounter, op_counter.FlopCounter, op_counter.MemoryAccessCounter]


@pytest.fixture(autouse=True)
def nothing_told():
    dispatch._warned.cache_clear()


def spikes():
    return (torch.rand(6, 2, 8) < 0.5).float()


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("operator", CASES)
def test_a_strict_counter_refuses_and_names_our_operator(operator, counter):
    net, x = CASES[operator](), spikes()
    with (
        pytest.raises(NotImplementedError, match=f"snn_delay_plugins::{operator} not defined by {counter.__name__}"),
        op_counter.DispatchCounterMode([counter()], strict=True),
    ):
        net(x)


@pytest.mark.parametrize("operator", CASES)
def test_a_counter_that_leaves_our_operator_out_says_so_once(operator):
    net, x = CASES[operator](), spikes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            with op_counter.DispatchCounterMode([op_counter.SynOpCounter()]):
                net(x)
                functional.reset_net(net) if isinstance(net, nn.Module) else None
    told = [str(w.message) for w in caught if "op" in str(w.message) and "counts it as zero" in str(w.message)]
    assert len(told) == 1 and f"snn_delay_plugins::{operator}" in told[0] and "extra_rules" in told[0]


def test_a_counter_with_a_rule_for_our_operator_counts_it():
    rules = {torch.ops.snn_delay_plugins.linear_neuron.default: lambda args, kwargs, out: 7}
    counter = op_counter.SynOpCounter(extra_rules=rules)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with op_counter.DispatchCounterMode([counter]):
            AdLIFPlusNode(features=8, v_threshold=0.2, step_mode="m")(spikes())
    assert counter.get_total() == 7


def test_steps_and_the_plain_form_are_counted_as_ever(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with op_counter.DispatchCounterMode([op_counter.FlopCounter()]):
            AdLIFPlusNode(features=8, v_threshold=0.2)(spikes()[0])
        monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
        counter = op_counter.FlopCounter()
        with op_counter.DispatchCounterMode([counter]):
            AdLIFPlusNode(features=8, v_threshold=0.2, step_mode="m")(spikes())
        assert counter.get_total() > 500


# ---------------------------------------------------------------- a second forward pass in the backward pass


def network(step_mode):
    torch.manual_seed(1)
    return nn.Sequential(
        layer.Linear(8, 8, step_mode=step_mode),
        AdLIFPlusNode(features=8, v_threshold=0.3, step_mode=step_mode),
        DelayedLinear(8, 8, max_delay=3, delay="uniform", step_mode=step_mode),
        AdLIFPlusNode(features=8, v_threshold=0.3, step_mode=step_mode),
    )


def gradient(net, run):
    torch.manual_seed(5)
    out = [run(net, spikes()) for _ in range(2)] if net[0].step_mode == "m" else [run(net, x) for x in spikes()]
    torch.stack(out).sum().backward()
    return net[0].weight.grad


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_memories_that_are_carried_through_a_checkpoint_are_refused(step_mode, use_reentrant):
    def run(net, x):
        return checkpoint(net, x.requires_grad_(), use_reentrant=use_reentrant)

    with pytest.raises(RuntimeError, match=r"torch.utils.checkpoint calls it a second time.*memopt.checkpoint_module"):
        gradient(network(step_mode), run)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_checkpoint_of_spikingjelly_gives_the_gradient_of_the_network(step_mode):
    wrapped, plain = {}, network(step_mode)

    def run(net, x):
        return wrapped.setdefault("net", memopt.checkpoint_module(net))(x)

    expected = gradient(plain, lambda net, x: net(x))
    assert torch.allclose(gradient(network(step_mode), run), expected)
    assert expected.abs().sum() > 0


def test_a_checkpoint_of_a_function_that_resets_gives_the_gradient_of_the_network():
    def from_reset(net, x):
        functional.reset_net(net)
        return net(x)

    gradients = []
    for run in (from_reset, lambda net, x: checkpoint(from_reset, net, x, use_reentrant=False)):
        gradients.append(gradient(network("m"), run))
    assert torch.equal(*gradients) and gradients[0].abs().sum() > 0
