"""Layers that learn delays through a Gaussian, sparse connections and frozen layers, in both frameworks."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from spikingjelly.activation_based import functional as sj_functional

from snn_delay_plugins import snntorch as ours_snntorch
from snn_delay_plugins import spikingjelly as ours_spikingjelly
from snn_delay_plugins.functional.dcls import gaussian_delayed_linear
from snn_delay_plugins.functional.delay import delayed_linear

IN, OUT, STEPS, BATCH, LONGEST = 5, 4, 13, 2, 6


class SnnTorch:
    @staticmethod
    def layer(**options):
        steps = options.pop("steps", False)
        return ours_snntorch.DelayedLinear(IN, OUT, **OPTIONS | options, step_mode=steps)

    reset = staticmethod(ours_snntorch.reset)


class SpikingJelly:
    @staticmethod
    def layer(**options):
        steps = options.pop("steps", False)
        return ours_spikingjelly.DelayedLinear(IN, OUT, **OPTIONS | options, step_mode="s" if steps else "m")

    reset = staticmethod(sj_functional.reset_net)


OPTIONS = {"max_delay": LONGEST, "delay": "uniform", "delay_gradient": "gaussian", "sigma": 1.3}
both = pytest.mark.parametrize("framework", [SnnTorch, SpikingJelly])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def spikes(dtype=torch.float32):
    return (torch.rand(STEPS, BATCH, IN) < 0.4).to(dtype)


def by_steps(framework, layer, x):
    framework.reset(layer)
    return torch.stack([layer(step) for step in x])


def with_steps(framework, layer):
    twin = copy.deepcopy(layer)
    twin.step_mode = True if framework is SnnTorch else "s"
    return twin


@both
def test_training_sees_the_gaussian_and_evaluation_the_rounded_delay(framework):
    layer, x = framework.layer(), spikes()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    synapses = layer.weight, layer.delay
    expected = gaussian_delayed_linear(x, *synapses, 1.3, layer.bias, max_delay=LONGEST)
    torch.testing.assert_close(layer(x), expected)
    framework.reset(layer)
    layer.eval()
    discrete = delayed_linear(x, layer.weight, layer.delay.round(), layer.bias, max_delay=LONGEST)
    torch.testing.assert_close(layer(x), discrete)
    assert not torch.allclose(expected, discrete)
    layer.train()
    framework.reset(layer)
    torch.testing.assert_close(layer(x), expected)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@both
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graph", [True, False])
def test_steps_and_sequences_agree(framework, training, graph):
    layer = framework.layer().double().train(training)
    x = spikes(torch.float64)
    with torch.set_grad_enabled(graph):
        whole = layer(x)
        torch.testing.assert_close(by_steps(framework, with_steps(framework, layer), x), whole, rtol=0, atol=1e-12)


def test_spikingjelly_feeds_a_sequence_in_parts_of_either_mode_with_and_without_graph():
    layer = SpikingJelly.layer().eval()
    x = spikes()
    whole = layer(x)
    sj_functional.reset_net(layer)
    parts = []
    plan = [("s", 3, False), ("m", 2, False), ("s", 2, True), ("s", 3, False), ("m", 3, True)]
    start = 0
    for mode, steps, graph in plan:
        layer.step_mode = mode
        with torch.set_grad_enabled(graph):
            part = x[start : start + steps]
            parts.append(layer(part) if mode == "m" else torch.stack([layer(step) for step in part]))
        start += steps
    assert start == STEPS
    torch.testing.assert_close(torch.cat(parts), whole)


@both
@pytest.mark.parametrize("padding", ["same", 3, "full"])
@pytest.mark.parametrize("sparse", [{}, {"synapses": 2}, {"density": 0.4}])
def test_a_frozen_layer_gives_what_evaluation_gives(framework, padding, sparse):
    layer, x = framework.layer(padding=padding, **sparse).eval(), spikes()
    frozen = layer.discretize()
    torch.testing.assert_close(frozen(x), layer(x))
    assert not list(frozen.parameters())
    assert frozen.weights.numel() == (2 * OUT if sparse else IN * OUT)
    assert frozen.delays.dtype == torch.int32
    expected = delayed_linear(
        x, layer.effective_weight(), layer.delay.round(), layer.bias, max_delay=LONGEST, padding=padding
    )
    torch.testing.assert_close(layer.train().discretize()(x), expected)
    again = copy.deepcopy(frozen)
    again.load_state_dict(frozen.state_dict())
    framework.reset(again)
    torch.testing.assert_close(again(x), expected)


@both
def test_a_frozen_layer_runs_step_by_step_over_a_ring_buffer(framework):
    layer, x = framework.layer(synapses=3).eval(), torch.cat([spikes(), spikes()])
    frozen = layer.discretize()
    whole = frozen(x)
    steps = with_steps(framework, frozen)
    for _ in range(2):  # the second time after a reset
        torch.testing.assert_close(by_steps(framework, steps, x), whole)
    with pytest.raises(ValueError, match="still on their way"):
        steps(torch.zeros(BATCH + 1, IN))


def test_a_frozen_spikingjelly_layer_takes_a_sequence_in_parts():
    frozen = SpikingJelly.layer().eval().discretize()
    x = spikes()
    whole = frozen(x)
    sj_functional.reset_net(frozen)
    first, second = frozen(x[:2]), frozen(x[2:7])
    frozen.step_mode = "s"
    third = torch.stack([frozen(step) for step in x[7:9]])
    frozen.step_mode = "m"
    torch.testing.assert_close(torch.cat([first, second, third, frozen(x[9:])]), whole)


@both
@pytest.mark.parametrize("delay_type", ["synaptic", "axonal", "dendritic"])
def test_delays_move_towards_the_spikes_that_are_needed_and_stay_in_bounds(framework, delay_type):
    layer = framework.layer(delay_type=delay_type, delay=1.0, sigma=3.0, bias=False)
    torch.manual_seed(0)
    torch.nn.init.xavier_uniform_(layer.weight)
    x = torch.zeros(STEPS, 1, IN)
    x[0] = 1.0
    target = torch.zeros(STEPS, 1, OUT)
    target[4] = layer.weight.detach().sum(1)
    optimizer = torch.optim.Adam([layer.delay], lr=0.3)
    for _ in range(100):
        framework.reset(layer)
        optimizer.zero_grad()
        (layer(x) - target).square().sum().backward()
        optimizer.step()
        assert layer.delay.min() >= 0
        assert layer.delay.max() <= LONGEST
    assert layer.delay.mean() > 2.5


@both
def test_connections_that_do_not_exist_stay_away_through_training(framework):
    layer = framework.layer(synapses=2)
    assert layer.mask.sum(1).tolist() == [2] * OUT
    before = layer.weight.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        framework.reset(layer)
        optimizer.zero_grad()
        layer(spikes()).square().sum().backward()
        optimizer.step()
    assert torch.equal(layer.weight == 0, ~layer.mask)
    assert (layer.weight != before)[layer.mask].all()
    other = framework.layer(synapses=2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.mask, layer.mask)
    layer.weight.data.fill_(1.0)  # even weights that were written there
    framework.reset(layer)
    x = spikes()
    full = gaussian_delayed_linear(x, layer.mask.float(), layer.delay, 1.3, layer.bias, max_delay=LONGEST)
    torch.testing.assert_close(layer(x), full)


@both
@pytest.mark.parametrize("sigma_type", ["shared", "synaptic"])
def test_sigma_can_be_learned_within_its_bounds(framework, sigma_type):
    layer = framework.layer(learn_sigma=True, sigma_type=sigma_type)
    assert layer.sigma.shape == (() if sigma_type == "shared" else (OUT, IN))
    layer(spikes()).square().sum().backward()
    assert (layer.sigma.grad != 0).all()
    torch.optim.SGD([layer.sigma], lr=1e6).step()
    assert layer.sigma.min() >= 0.27
    assert layer.sigma.max() <= LONGEST + 1


@both
def test_sigma_is_part_of_the_state_and_starts_where_the_published_annealing_starts(framework):
    layer = framework.layer(sigma=None, max_delay=24)
    assert layer.sigma.item() == pytest.approx(12.27)
    layer.set_sigma(0.5)
    other = framework.layer(sigma=None, max_delay=24)
    other.load_state_dict(layer.state_dict())
    assert other.sigma.item() == 0.5
    with pytest.raises(ValueError, match="sigma must be a positive number"):
        layer.set_sigma(0.0)
    with pytest.raises(ValueError, match="have a sigma"):
        framework.layer(delay_gradient="slayer", sigma=None).set_sigma(0.5)


@both
@pytest.mark.parametrize("training", [True, False])
def test_copies_pickles_and_other_precisions(framework, training):
    layer = framework.layer(synapses=3).train(training)
    x = spikes()
    expected = layer(x)
    framework.reset(layer)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(copy.deepcopy(layer).double()(x.double()).float(), expected)
    framework.reset(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x.bfloat16()).float(), expected, rtol=1e-2, atol=1e-2)


@both
@pytest.mark.parametrize("options", [{}, {"delay_gradient": "slayer", "sigma": None}])
def test_a_layer_that_was_pickled_when_its_rule_was_a_name_alone_is_taken_up(framework, options):
    layer = framework.layer(**options)
    state = {name: value for name, value in layer.__dict__.items() if name != "delay_rule"}
    former = type(layer).__new__(type(layer))
    former.__setstate__(copy.deepcopy(state) | {"delay_gradient": layer.delay_gradient})
    assert former.delay_rule is layer.delay_rule and former.delay_gradient == layer.delay_gradient
    x = spikes()
    torch.testing.assert_close(former(x), layer(x))


@both
@pytest.mark.parametrize("training", [True, False])
def test_the_layer_compiles_in_one_graph(framework, training):
    layer = framework.layer().train(training)
    x = spikes()
    expected = layer(x)
    framework.reset(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay_gradient": "exact"}, "delay_gradient must be one of"),
        ({"sigma": -1.0}, "sigma must be a positive number"),
        ({"sigma": float("nan")}, "sigma must be a positive number"),
        ({"sigma_type": "axonal"}, "sigma_type must be one of"),
        ({"delay_gradient": "slayer"}, "sigma belongs to"),
        ({"smoothing": torch.ones(2)}, "smoothing and interpolation belong to"),
        ({"synapses": IN + 1}, "synapses must be a whole number"),
        ({"synapses": 0}, "synapses must be a whole number"),
        ({"density": 0.0}, "density must lie in"),
        ({"density": 0.5, "synapses": 1}, "not both"),
        ({"padding": -1}, "padding must be one of"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_construction(framework, options, message):
    with pytest.raises(ValueError, match=message):
        framework.layer(**options)


@both
def test_a_layer_with_a_smoothing_kernel_has_no_discrete_form(framework):
    layer = framework.layer(delay_gradient="slayer", sigma=None, smoothing=torch.ones(2))
    with pytest.raises(ValueError, match="no discrete form"):
        layer.discretize()
