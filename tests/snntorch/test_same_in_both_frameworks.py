"""One neuron and one layer, four ways to run each: snnTorch by steps and sequences, SpikingJelly 's' and 'm'."""

from __future__ import annotations

import pytest
import snntorch.surrogate
import spikingjelly.activation_based.surrogate
import torch

from snn_delay_plugins import snntorch as ours_snntorch
from snn_delay_plugins import spikingjelly as ours_spikingjelly
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.parameters import ADLIF_PRESETS

STEPS, BATCH, NEURONS = 40, 3, 6
# variant, reset_mechanism of snnTorch, v_reset of SpikingJelly
RESETS = [
    ("adlif", "subtract", None), ("adlif", "zero", 0.0), ("symplectic", "zero", None), ("symplectic", "zero", 0.0),
]  # fmt: skip


def four_ways(preset, variant, reset_mechanism, v_reset, surrogates=(None, None)):
    """The neurons with equal parameters, and how each turns a current into (spikes, final v, final w)."""
    spike_grad, surrogate_function = surrogates
    of_snntorch = {"preset": preset, "variant": variant, "features": NEURONS, "reset_mechanism": reset_mechanism,
                   "spike_grad": spike_grad}  # fmt: skip
    of_spikingjelly = {"preset": preset, "variant": variant, "features": NEURONS, "v_reset": v_reset,
                       "surrogate_function": surrogate_function}  # fmt: skip

    def explicit(neuron, current):
        w, mem = neuron.reset_mem()
        spikes = []
        for x in current:
            spk, w, mem = neuron(x, w, mem)
            spikes.append(spk)
        return torch.stack(spikes), mem, w

    def hidden(neuron, current):
        neuron.reset_mem()
        return torch.stack([neuron(x) for x in current]), neuron.mem, neuron.w

    def sequence(neuron, current):
        spikes, w, mem = neuron(current)
        return spikes, mem[-1], w[-1]

    def single(node, current):
        return torch.stack([node(x) for x in current]), node.v, node.w

    def multi(node, current):
        return node(current), node.v, node.w

    neurons = {
        "snnTorch, explicit states": (ours_snntorch.AdLIFPlus(**of_snntorch), explicit),
        "snnTorch, init_hidden": (ours_snntorch.AdLIFPlus(init_hidden=True, **of_snntorch), hidden),
        "snnTorch, sequence": (ours_snntorch.StateAdLIFPlus(output=True, **of_snntorch), sequence),
        "SpikingJelly, s": (ours_spikingjelly.AdLIFPlusNode(**of_spikingjelly), single),
        "SpikingJelly, m": (ours_spikingjelly.AdLIFPlusNode(step_mode="m", **of_spikingjelly), multi),
    }
    parameters = dict(ours_spikingjelly.AdLIFPlusNode(preset=preset, features=NEURONS).named_parameters())
    for neuron, _ in neurons.values():
        neuron.double().load_state_dict(parameters, strict=False)
    return neurons, {name: value.detach().double() for name, value in parameters.items()}


def loss_of(spikes, v, w):
    torch.manual_seed(5)
    return sum((value * torch.randn(value.shape, dtype=value.dtype)).sum() for value in (spikes, v, w))


@pytest.mark.parametrize("preset", ADLIF_PRESETS)
@pytest.mark.parametrize(("variant", "reset_mechanism", "v_reset"), RESETS)
def test_all_give_the_spikes_states_and_gradients_of_the_function(preset, variant, reset_mechanism, v_reset):
    neurons, parameters = four_ways(preset, variant, reset_mechanism, v_reset)
    current = (torch.rand(STEPS, BATCH, NEURONS, dtype=torch.float64) * 4).requires_grad_()
    for value in parameters.values():
        value.requires_grad_()
    spikes, state = adlif(current, **parameters, variant=variant, reset=reset_mechanism, method="torch")
    expected = torch.autograd.grad(loss_of(spikes, state.u, state.w), [current, *parameters.values()])
    assert 0.02 < spikes.mean() < 0.95

    for name, (neuron, run) in neurons.items():
        got_spikes, v, w = run(neuron, current)
        assert torch.equal(got_spikes, spikes), name
        for one, two in ((v, state.u), (w, state.w)):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
        got = torch.autograd.grad(loss_of(got_spikes, v, w), [current, *(getattr(neuron, p) for p in parameters)])
        for one, two in zip(got, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(("variant", "reset_mechanism", "v_reset"), RESETS)
def test_the_arc_tangent_of_either_framework_gives_the_same_gradients(variant, reset_mechanism, v_reset):
    surrogates = (snntorch.surrogate.atan(2.0), spikingjelly.activation_based.surrogate.ATan(2.0))
    neurons, parameters = four_ways("adlif+", variant, reset_mechanism, v_reset, surrogates)
    current = (torch.rand(STEPS, BATCH, NEURONS, dtype=torch.float64) * 4).requires_grad_()
    results = {}
    for name, (neuron, run) in neurons.items():
        outputs = run(neuron, current)
        leaves = [current, *(getattr(neuron, p) for p in parameters)]
        results[name] = (outputs[0], torch.autograd.grad(loss_of(*outputs), leaves))
    spikes, expected = results["SpikingJelly, s"]
    boxcar = four_ways("adlif+", variant, reset_mechanism, v_reset)[0]["SpikingJelly, m"]
    boxcar[0].load_state_dict(neurons["SpikingJelly, s"][0].state_dict())
    of_boxcar = torch.autograd.grad(loss_of(*boxcar[1](boxcar[0], current)), current)[0]
    assert not torch.allclose(of_boxcar, expected[0], rtol=1e-2), "the surrogate matters here"
    for name, (got_spikes, got) in results.items():
        assert torch.equal(got_spikes, spikes), name
        for one, two in zip(got, expected, strict=True):  # snnTorch's surrogates return float32
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_float32_gives_the_same_spikes_four_ways_too():
    neurons, _ = four_ways("adlif+", "adlif", "subtract", None)
    current = torch.rand(STEPS, BATCH, NEURONS) * 4
    results = {name: run(neuron.float(), current) for name, (neuron, run) in neurons.items()}
    spikes, v, w = results["SpikingJelly, s"]
    for name, (got_spikes, got_v, got_w) in results.items():
        assert torch.equal(got_spikes, spikes), name
        torch.testing.assert_close(got_v, v, rtol=0, atol=1e-5)
        torch.testing.assert_close(got_w, w, rtol=0, atol=1e-5)


def test_uniform_initial_states_are_the_same_in_evaluation_four_ways():
    neurons, _ = four_ways("adlif+", "adlif", "subtract", None)
    source = ours_spikingjelly.AdLIFPlusNode(features=NEURONS, init_state="uniform")
    current = torch.rand(STEPS, BATCH, NEURONS)
    results = []
    for neuron, run in neurons.values():
        options = {"features": NEURONS, "init_state": "uniform"}
        for option in ("init_hidden", "output", "step_mode"):
            if hasattr(neuron, option):
                options[option] = getattr(neuron, option)
        twin = type(neuron)(**options).eval()
        twin.load_state_dict(source.state_dict(), strict=False)
        results.append(run(twin, current))
    for result in results[1:]:
        for one, two in zip(result, results[0], strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    assert not torch.equal(results[0][1], run_without_initial_state(current, source))


def run_without_initial_state(current, source):
    node = ours_spikingjelly.AdLIFPlusNode(features=NEURONS, step_mode="m").eval()
    node.load_state_dict({name: value for name, value in source.state_dict().items() if not name.startswith("initial")})
    node(current)
    return node.v


@pytest.mark.parametrize("interpolation", ["linear", "round", "floor"])
@pytest.mark.parametrize("delay_type", ["synaptic", "axonal", "dendritic"])
def test_delayed_layers_give_the_currents_and_gradients_of_the_function_four_ways(delay_type, interpolation):
    options = {"max_delay": 7, "delay": "uniform", "delay_type": delay_type, "smoothing": torch.tensor([0.6, 0.4])}
    layers = {
        "snnTorch, steps": ours_snntorch.DelayedLinear(5, 4, kernel=interpolation, **options),
        "snnTorch, sequence": ours_snntorch.DelayedLinear(5, 4, kernel=interpolation, step_mode=False, **options),
        "SpikingJelly, s": ours_spikingjelly.DelayedLinear(5, 4, interpolation=interpolation, **options),
        "SpikingJelly, m": ours_spikingjelly.DelayedLinear(5, 4, interpolation=interpolation, step_mode="m", **options),
    }
    source = layers["snnTorch, steps"].double()
    x = (torch.rand(STEPS, BATCH, 5) < 0.3).double().requires_grad_()
    leaves = [x, source.weight, source.delay, source.bias]
    current = delayed_linear(*leaves, max_delay=7, interpolation=interpolation, smoothing=source.smoothing, method="direct")
    weights = torch.randn(current.shape, dtype=torch.float64)
    expected = torch.autograd.grad((current * weights).sum(), leaves)
    for name, layer in layers.items():
        layer.double().load_state_dict(source.state_dict())
        got = layer(x) if name.endswith(("sequence", "m")) else torch.stack([layer(x_t) for x_t in x])
        torch.testing.assert_close(got, current, rtol=0, atol=1e-12)
        gradients = torch.autograd.grad((got * weights).sum(), [x, layer.weight, layer.delay, layer.bias])
        for one, two in zip(gradients, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-11)
