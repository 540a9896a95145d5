"""Neurons with delayed recurrent synapses as layers of both frameworks."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("snntorch", reason="snnTorch is missing: pip install 'snn_delay_plugins[snntorch]'")
pytest.importorskip(
    "spikingjelly.activation_based", reason="SpikingJelly is missing: pip install 'snn_delay_plugins[spikingjelly]'"
)

import snntorch as snn
from spikingjelly.activation_based import functional, neuron

from snn_delay_plugins import snntorch, spikingjelly
from snn_delay_plugins.delays import RULES
from snn_delay_plugins.functional import adlif

F = 10
OPTIONS = {"max_delay": 6, "delay": "uniform"}


def node(**options) -> spikingjelly.DelayedRecurrent:
    torch.manual_seed(0)
    layer = spikingjelly.DelayedRecurrent(spikingjelly.AdLIFPlusNode(features=F), **{**OPTIONS, **options}).double()
    with torch.no_grad():
        layer.weight.mul_(5)
    return layer


def currents(steps: int = 40, batch: int = 3) -> torch.Tensor:
    return 3 * torch.rand(steps, batch, F, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def trained(layer, run) -> tuple[torch.Tensor, list[torch.Tensor]]:
    layer.zero_grad()
    functional.reset_net(layer)
    spikes = run(layer)
    (spikes * torch.linspace(-1, 1, spikes.numel(), dtype=torch.float64).view_as(spikes)).sum().backward()
    return spikes.detach(), [parameter.grad.clone() for parameter in layer.parameters()]


def whole(layer):
    functional.set_step_mode(layer, "m")
    return layer(currents())


def in_parts(layer):
    functional.set_step_mode(layer, "m")
    return torch.cat([layer(part) for part in currents().split([7, 1, 0, 32])])


def by_steps(layer):
    functional.set_step_mode(layer, "s")
    return torch.stack([layer(step) for step in currents()])


@pytest.mark.parametrize(
    "options",
    [*({"delay_gradient": rule} for rule in RULES), {"synapses": 3}, {"delay_type": "axonal"}, {"delay_type": "dendritic"}],
    ids=str,
)
def test_steps_parts_and_the_whole_sequence_are_equal_in_value_and_gradient(options):
    layer = node(**options)
    spikes, gradients = trained(layer, whole)
    assert 0.03 < spikes.mean() < 0.7
    for run in (in_parts, by_steps):
        again, others = trained(layer, run)
        assert torch.equal(again, spikes)
        for one, two in zip(gradients, others, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("inner", [neuron.LIFNode, spikingjelly.BalancedResonateAndFireNode])
def test_neurons_that_are_not_linear_or_not_ours_run_step_by_step(inner):
    torch.manual_seed(0)
    layer = spikingjelly.DelayedRecurrent(inner(), F, **OPTIONS).double()
    spikes, gradients = trained(layer, whole)
    again, others = trained(layer, by_steps)
    assert 0 < spikes.mean() < 1
    assert torch.equal(again, spikes)
    for one, two in zip(gradients, others, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)


def test_both_frameworks_and_both_forms_of_snntorch_give_the_same_spikes():
    layer = node()
    x = currents()
    functional.set_step_mode(layer, "m")
    expected = layer(x)
    steps = snntorch.DelayedRecurrent(snntorch.AdLIFPlus(features=F), max_delay=6).double()
    sequences = snntorch.DelayedRecurrent(snntorch.StateAdLIFPlus(features=F, output=True), max_delay=6).double()
    for other in (steps, sequences):
        other.load_state_dict({**other.state_dict(), **layer.state_dict()})
    w, mem = steps.reset_mem()
    emitted = []
    for step in x:
        spk, w, mem = steps(step, w, mem)
        emitted.append(spk)
    assert torch.equal(torch.stack(emitted), expected)
    spikes, w_trace, mem_trace = sequences(x)
    assert torch.equal(spikes, expected)
    assert torch.equal(mem_trace[-1], mem)
    assert torch.equal(w_trace[-1], w)


def test_graded_spikes_reach_the_other_neurons_graded():
    torch.manual_seed(0)
    options = {"features": F, "graded_spikes_factor": 0.5, "learn_graded_spikes_factor": True}
    steps = snntorch.DelayedRecurrent(snntorch.AdLIFPlus(init_hidden=True, **options), **OPTIONS).double()
    sequences = snntorch.DelayedRecurrent(snntorch.StateAdLIFPlus(**options), **OPTIONS).double()
    with torch.no_grad():
        steps.weight.mul_(5)
    sequences.load_state_dict({**sequences.state_dict(), **steps.state_dict()})
    by_step, at_once = torch.stack([steps(x) for x in currents()]), sequences(currents())
    torch.testing.assert_close(by_step, at_once)
    by_step.square().sum().backward()
    at_once.square().sum().backward()
    for one, two in zip(steps.parameters(), sequences.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-9)


def test_snntorchs_own_neurons_take_recurrent_delays():
    layer = snntorch.DelayedRecurrent(snn.Leaky(beta=0.0, init_hidden=True), 1, max_delay=2, delay=2.0)
    with torch.no_grad():
        layer.weight.fill_(5.0)
    spikes = torch.stack([layer(x) for x in 5 * torch.eye(7)[:, :1, None]])
    assert spikes.flatten().tolist() == [1, 0, 0, 1, 0, 0, 1]
    snntorch.reset(layer)
    assert layer.spikes is None
    assert not layer.neuron.mem.any()


def test_a_batch_of_another_size_needs_a_reset():
    layer = node()
    layer(currents()[0])
    with pytest.raises(ValueError, match="batch of 3 are still on their way"):
        layer(currents(batch=2)[0])
    functional.reset_net(layer)
    layer(currents(batch=2)[0])


def test_delays_learn_within_their_bounds_and_sigma_can_be_set():
    layer = node(delay_gradient="triangle")
    functional.set_step_mode(layer, "m")
    optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
    before = layer.delay.detach().clone()
    layer(currents()).sum().backward()
    optimizer.step()
    assert (layer.delay != before).any()
    assert layer.delay.min() >= 0
    assert layer.delay.max() <= 6
    layer.set_sigma(0.5)
    assert layer.sigma.item() == 0.5


def test_a_shorter_max_delay_computes_the_same():
    layer = node(delay=2.3)
    layer.shrink_max_delay(spare=1)
    assert (layer.max_delay, layer.parameter_bounds["delay"]) == (4, (0.0, 4.0))
    assert torch.equal(whole(layer), whole(node(delay=2.3)))
    with pytest.raises(RuntimeError, match="reset the network"):
        by_steps(layer)
        layer.shrink_max_delay()
    quantised = node(delay=20 * torch.rand(F, F), delay_gradient="quantised", max_delay=62)
    with pytest.raises(ValueError, match="depend on max_delay itself"):
        quantised.shrink_max_delay()
    assert quantised.max_delay == 62


@pytest.mark.parametrize(
    "options",
    [{"interpolation": "round"}, {"delay_gradient": "triangle", "synapses": 4}, {"delay_gradient": "gaussian",
     "delay_type": "axonal"}, {"delay_gradient": "quantised", "delay_type": "dendritic"}],
    ids=str,
)  # fmt: skip
def test_the_discrete_form_computes_in_steps_and_sequences_what_evaluation_does(options):
    layer = node(**options).eval()
    expected = whole(layer)  # and states are left behind
    assert expected.any()
    frozen = layer.discretize()
    assert frozen.delay.equal(frozen.delay.round())
    assert not any(p.requires_grad for p in frozen.parameters())
    for run in (whole, in_parts, by_steps):
        functional.reset_net(frozen)
        assert torch.equal(run(frozen), expected)
    assert all(p.requires_grad for p in layer.parameters())


def test_a_discrete_form_says_what_rounding_changes_and_takes_weights_of_few_bits():
    layer = snntorch.DelayedRecurrent(snntorch.StateAdLIFPlus(features=F), max_delay=6, delay=2.4)
    with pytest.warns(UserWarning, match="rounds the delays, but this layer evaluates them with 'linear'"):
        frozen = layer.discretize(weight_bits=4)
    assert (frozen.delay == 2).all()
    assert len(frozen.weight.unique()) <= 16
    assert (layer.delay != 2).all()


def test_a_foreign_neuron_whose_states_hold_a_graph_has_to_be_reset_before_it_is_discretized():
    layer = spikingjelly.DelayedRecurrent(neuron.LIFNode(), F, **{**OPTIONS, "delay": 2.0}).double()
    by_steps(layer)
    with pytest.raises(RuntimeError, match=r"LIFNode cannot be copied .* reset the network before"):
        layer.discretize()
    functional.reset_net(layer)
    frozen = layer.discretize()
    assert torch.equal(by_steps(frozen), by_steps(layer))


def test_a_linear_layer_shrinks_too():
    layer = spikingjelly.DelayedLinear(F, 4, max_delay=60, delay=2.0, synapses=3, step_mode="m")
    spikes = currents().float().round()
    before = layer(spikes)
    functional.reset_net(layer)
    assert layer.shrink_max_delay() == 2
    assert torch.equal(layer(spikes), before)


@pytest.mark.parametrize("wrong", [-1.0, 6.5, float("nan")])
def test_delays_of_a_state_dict_that_do_not_fit_are_refused(wrong):
    layer = node()
    state = copy.deepcopy(layer.state_dict())
    state["delay"][2, 3] = wrong
    layer.load_state_dict(state)
    for run in (whole, by_steps):
        with pytest.raises(ValueError, match=r"delays must lie in \[0, max_delay=6\]"):
            run(layer)
        functional.reset_net(layer)


def test_the_code_of_the_page_runs():
    page = (Path(__file__).resolve().parents[1] / "docs" / "recurrent.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "docs/recurrent.md", "exec"), {})


def test_what_makes_no_layer_is_refused():
    with pytest.raises(ValueError, match="features must be given"):
        spikingjelly.DelayedRecurrent(neuron.LIFNode(), max_delay=3)
    with pytest.raises(ValueError, match="features=4, but AdLIFPlusNode has features=10"):
        spikingjelly.DelayedRecurrent(spikingjelly.AdLIFPlusNode(features=F), 4, max_delay=3)
    with pytest.raises(ValueError, match=r"shape \[features\]"):
        spikingjelly.DelayedRecurrent(spikingjelly.AdLIFPlusNode(features=(2, 5)), max_delay=3)
    with pytest.raises(TypeError, match="neuron must be one of snnTorch"):
        snntorch.DelayedRecurrent(torch.nn.Linear(3, 3), 3, max_delay=3)
    with pytest.raises(TypeError, match="has no option 'padding'"):
        spikingjelly.DelayedRecurrent(neuron.LIFNode(), 3, max_delay=3, padding="full")
    with pytest.raises(ValueError, match=r"the input of DelayedRecurrent must be \[N, 10\]"):
        node()(currents())
    broken = currents()
    broken[3, 0, 0] = float("nan")
    layer = node()
    functional.set_step_mode(layer, "m")
    with pytest.raises(ValueError, match="NaN or infinite"):
        layer(broken)


def test_where_many_fire_kernel_and_plain_form_and_a_sequence_in_two_parts_agree():
    # so many that what arrives late is collected a window at a time, also from the spikes of the part before
    torch.manual_seed(0)
    layer = spikingjelly.DelayedRecurrent(spikingjelly.AdLIFPlusNode(features=40), max_delay=30, delay="uniform").double()
    layer.step_mode = "m"
    x = (6 * torch.randn(70, 3, 40, dtype=torch.float64)).requires_grad_()
    leaks = {name: getattr(layer.neuron, name) for name in ("alpha", "beta", "a", "b")}
    leaves, found = [x, *layer.parameters()], []
    for method in ("torch", "numba"):
        spikes, _ = adlif(x, **leaks, recurrence=layer.recurrence(None), method=method)
        found.append([spikes, *torch.autograd.grad((spikes * x.detach().cos()).sum(), leaves)])
    assert found[0][0].mean() > 0.08
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-10, atol=1e-10)
    layer.reset()
    whole = layer(x)
    layer.reset()
    assert torch.equal(torch.cat([layer(x[:37]), layer(x[37:])]), whole)
