"""Fresh layers fire: rates of every layer at the start, without any help of the user."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from snn_delay_plugins.initial_weights import GAIN, INHIBITION, SPREAD, firing_weight_
from snn_delay_plugins.models import MODELS

snntorch = pytest.importorskip("snn_delay_plugins.snntorch")
SequenceNeuron = pytest.importorskip("snn_delay_plugins.snntorch.model").SequenceNeuron
LOWEST, HIGHEST = 0.005, 0.30


def inputs(density: float | None, *shape: int, steps: int = 80, batch: int = 4) -> torch.Tensor:
    """Spikes of a density; None: README's former torch.rand."""
    drawn = torch.rand(steps, batch, *shape)
    return drawn if density is None else (drawn < density).float()


def rates(net: nn.Sequential, x: torch.Tensor) -> list[float]:
    found = []
    with torch.no_grad():
        for module in net:
            x = module(x)
            if isinstance(module, SequenceNeuron):
                found.append(x.mean().item())
    return found


def linear(*widths: int, neuron: dict | None = None, cls: type | None = None, **options) -> nn.Sequential:
    options = {"max_delay": 25, "step_mode": False} | options
    return nn.Sequential(*(
        part
        for before, after in pairwise(widths)
        for part in (snntorch.DelayedLinear(before, after, **options), (cls or snntorch.StateAdLIFPlus)(**(neuron or {})))
    ))  # fmt: skip


def convolutions(*channels: int, **options) -> nn.Sequential:
    options = {"max_delay": 5, "step_mode": False, "padding": 1} | options
    return nn.Sequential(*(
        part
        for before, after in pairwise(channels)
        for part in (snntorch.DelayedConv2d(before, after, 3, **options), snntorch.StateAdLIFPlus())
    ))  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("density", [0.02, 0.5, None])
@pytest.mark.parametrize("widths", [(700, 128, 20), (300, 128, 128, 128, 20), (20, 40, 40)])
def test_every_linear_layer_fires_at_the_start(widths, density, seed):
    torch.manual_seed(seed)
    found = rates(linear(*widths), inputs(density, widths[0]))
    assert all(LOWEST < rate < HIGHEST for rate in found), found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("density", [0.02, 0.5])
@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
@pytest.mark.parametrize("preset", ["adlif+", "lif"])
def test_every_kind_of_neuron_fires_at_the_start(preset, variant, density, seed):
    torch.manual_seed(seed)
    found = rates(linear(300, 128, 128, 128, neuron={"preset": preset, "variant": variant}), inputs(density, 300))
    assert all(LOWEST < rate < HIGHEST for rate in found), found


@pytest.mark.parametrize("model", MODELS)
def test_the_neurons_of_every_model_fire_at_the_start(model, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")  # a kernel takes longer to compile than these runs
    neuron = getattr(snntorch, f"State{model}")
    for widths in ((300, 128, 128, 128, 20), (20, 40, 40)):
        for density in (0.02, 0.5, None):
            torch.manual_seed(0)
            found = rates(linear(*widths, cls=neuron), inputs(density, widths[0]))
            assert len(found) == len(widths) - 1
            assert all(LOWEST < rate < HIGHEST for rate in found), (widths, density, found)


@pytest.mark.parametrize("density", [0.02, 0.5])
@pytest.mark.parametrize(
    "options",
    [{"max_delay": 0}, {"delay": "uniform"}, {"synapses": 20}, {"density": 0.2, "delay": "uniform"},
     {"delay_gradient": "gaussian", "max_delay": 10}, {"delay_gradient": "gaussian", "max_delay": 25, "delay": "uniform"}],
    ids=str,
)  # fmt: skip
def test_every_kind_of_delay_lets_its_layer_fire(options, density):
    for seed in range(2):
        torch.manual_seed(seed)
        found = rates(linear(140, 64, 64, **options), inputs(density, 140))
        assert all(LOWEST < rate < HIGHEST for rate in found), found


@pytest.mark.parametrize("density", [0.02, 0.5, None])
@pytest.mark.parametrize("options", [{}, {"delay": "uniform"}, {"delay_gradient": "gaussian"}], ids=str)
def test_every_convolution_fires_at_the_start(options, density):
    for seed in range(2):
        torch.manual_seed(seed)
        found = rates(convolutions(2, 8, 8, 16, **options), inputs(density, 2, 12, 12, steps=40, batch=2))
        assert all(LOWEST < rate < HIGHEST for rate in found), found


def test_both_frameworks_start_from_the_same_weights():
    spikingjelly = pytest.importorskip("snn_delay_plugins.spikingjelly")
    for name, sizes in (("DelayedLinear", (30, 20)), ("DelayedConv2d", (2, 8, 3)), ("DelayedConv1d", (2, 8, 3))):
        torch.manual_seed(1)
        ours = getattr(snntorch, name)(*sizes, max_delay=5).weight
        torch.manual_seed(1)
        assert torch.equal(ours, getattr(spikingjelly, name)(*sizes, max_delay=5).weight)


def test_the_sums_of_a_neurons_weights_follow_the_derivation_whatever_the_fan_in():
    for fan_in in (20, 100, 1000):
        weight = firing_weight_(torch.empty(4000, fan_in).uniform_(-1, 1))
        assert (fan_in * weight.var()).sqrt().item() == pytest.approx(GAIN, rel=0.03)
        sums = weight.sum(1)
        assert sums.mean().item() == pytest.approx(-INHIBITION * GAIN * (1 - 1 / fan_in), rel=0.05)
        assert sums.std().item() == pytest.approx(SPREAD * GAIN, rel=0.05)


def test_weights_of_synapses_that_do_not_exist_are_zero_and_count_for_nothing():
    mask = torch.zeros(4000, 200, dtype=torch.bool)
    mask[:, ::10] = True
    draw = torch.empty(4000, 200).uniform_(-1, 1)
    dense = firing_weight_(draw[:, ::10].clone())
    sparse = firing_weight_(draw, mask)
    assert not sparse[~mask].any()
    torch.testing.assert_close(sparse[:, ::10], dense)


def test_a_single_synapse_excites_half_of_the_neurons():
    weight = firing_weight_(torch.empty(2000, 1).uniform_(-1, 1))
    assert 0.45 < (weight > 0).float().mean().item() < 0.55


def test_a_kernel_that_spreads_spikes_makes_the_weights_grow_by_what_the_membrane_loses():
    draw = torch.empty(50, 30).uniform_(-1, 1)
    plain = firing_weight_(draw.clone())
    torch.testing.assert_close(firing_weight_(draw.clone(), kernel=torch.tensor([0.0, 0.0, 1.0])), plain)
    torch.testing.assert_close(firing_weight_(draw.clone(), kernel=torch.tensor([0.5])), 2 * plain)
    flat = firing_weight_(draw.clone(), kernel=torch.full((50,), 1 / 50)) / plain
    assert flat.min().item() > 2 and flat.std().item() < 1e-4


def test_the_linear_layer_of_torch_hardly_fires_adlif_plus():  # why the remedy is calibrate
    found = rates(nn.Sequential(nn.Linear(300, 128), snntorch.StateAdLIFPlus().eval()), inputs(0.5, 300))
    assert found[0] < 1e-3
