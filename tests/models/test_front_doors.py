"""Every model in both frameworks: steps, sequences and the model itself agree, and the classes are whole."""

from __future__ import annotations

import copy
import dataclasses
import doctest
import inspect
import math
import pickle
import warnings

import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import LIFNode
from torch import nn

from snn_delay_plugins import calibrate
from snn_delay_plugins import snntorch as ours_snntorch
from snn_delay_plugins import spikingjelly as ours_spikingjelly
from snn_delay_plugins.functional.linear_neuron import NotFiniteError
from snn_delay_plugins.functional.surrogate import Boxcar
from snn_delay_plugins.models import MODELS, Coefficients, LinearModel, Parameter, StepModel
from snn_delay_plugins.models.run import prepare
from snn_delay_plugins.snntorch.model import SequenceNeuron, StepNeuron

STEPS, BATCH, NEURONS = 30, 3, 4
RESETS = [(name, reset) for name, model in MODELS.items() for reset in model.resets]
COMPILED = [("AdLIFPlus", "subtract"), ("ALIF", "subtract")]  # test_models.py compiles all, which takes its time
NEW = [name for name in MODELS if name != "AdLIFPlus"]
CLASSES = [
    pytest.param(getattr(folder, pattern.format(name)), id=pattern.format(name))
    for name in MODELS
    for folder, pattern in ((ours_snntorch, "{}"), (ours_snntorch, "State{}"), (ours_spikingjelly, "{}Node"))
]


def step_class(name):
    return getattr(ours_snntorch, name)


def sequence_class(name):
    return getattr(ours_snntorch, f"State{name}")


def node_class(name):
    return getattr(ours_spikingjelly, f"{name}Node")


def currents(scale=4.0, dtype=torch.float64, neurons=NEURONS):
    return (torch.randn(STEPS, BATCH, neurons, dtype=dtype) * scale + 1.0).requires_grad_()


def by_steps(neuron, current):
    """Spikes and states with the membrane potential first, as the model has them."""
    states = neuron.reset_mem()
    states = states if isinstance(states, tuple) else (states,)
    outputs = []
    for x in current:
        spk, *states = neuron(x, *states)
        outputs.append((spk, states[-1], *states[:-1]))
    return tuple(torch.stack(values) for values in zip(*outputs, strict=True))


def by_hidden_steps(neuron, current):
    neuron.reset_mem()
    outputs = []
    for x in current:
        spk, *others, mem = neuron(x)
        outputs.append((spk, mem, *others))
    return tuple(torch.stack(values) for values in zip(*outputs, strict=True))


def by_sequence(neuron, current):
    spk, *others, mem = neuron(current)
    return spk, mem, *others


def gradients(outputs, leaves):
    torch.manual_seed(7)
    loss = sum((value * torch.randn(value.shape, dtype=value.dtype)).sum() for value in outputs)
    return torch.autograd.grad(loss, leaves, allow_unused=True)


def assert_close(one, two, tolerance):
    for a, b in zip(one, two, strict=True):
        if a is None or b is None:  # a parameter without effect under this reset
            assert (a is None or not a.any()) and (b is None or not b.any())
        else:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- values and gradients


@pytest.mark.parametrize(("name", "reset"), RESETS)
def test_steps_sequences_and_nodes_are_the_model_in_spikes_states_and_gradients(name, reset, monkeypatch):
    model = MODELS[name]
    if (name, reset) not in COMPILED:
        monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    options = {"features": NEURONS, "reset_mechanism": reset, "threshold": 0.75}
    step = step_class(name)(**options).double()
    parameters = {key: getattr(step, key) for key in model.parameters}
    current = currents()
    leaves = [current, *parameters.values()]

    with monkeypatch.context() as plain:
        plain.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
        run = prepare(model, parameters, 0.75, Boxcar(), reset)
        rest = torch.zeros(BATCH, NEURONS, dtype=torch.float64)
        sequence = run.sequence(current, (rest,) * len(model.states), traces=True)
        expected = (sequence.spikes, *sequence.traces)
        expected_gradients = gradients(expected, leaves)
    assert 0.02 < sequence.spikes.mean() < 0.98

    hidden = step_class(name)(init_hidden=True, output=True, **options).double()
    whole = sequence_class(name)(output=True, **options).double()
    for neuron, run_it in ((step, by_steps), (hidden, by_hidden_steps), (whole, by_sequence)):
        neuron.load_state_dict(step.state_dict())
        outputs = run_it(neuron, current)
        assert torch.equal(outputs[0], expected[0]), run_it.__name__
        assert_close(outputs, expected, 1e-12)
        own = [current, *(getattr(neuron, key) for key in parameters)]
        assert_close(gradients(outputs, own), expected_gradients, 1e-8)

    if reset not in (model.resets[0], "zero"):
        return
    v_reset = None if reset == model.resets[0] else 0.0
    node = node_class(name)(features=NEURONS, v_threshold=0.75, v_reset=v_reset, store_v_seq=True).double()
    node.load_state_dict(step.state_dict(), strict=False)
    for mode in ("s", "m"):
        node.step_mode = mode
        functional.reset_net(node)
        spikes = node(current) if mode == "m" else torch.stack([node(x) for x in current])
        assert torch.equal(spikes, expected[0])
        last = tuple(node._memories.values())
        assert_close((node.v_seq, *last), (expected[1], *(trace[-1] for trace in expected[1:])), 1e-12)


@pytest.mark.parametrize("name", NEW)
def test_a_detached_reset_passes_no_gradient_and_changes_no_spike(name, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    node = node_class(name)(features=NEURONS, detach_reset=True, step_mode="m").double()
    twin = copy.deepcopy(node)
    twin.detach_reset = False
    x, y = currents(), None
    spikes, y = node(x), twin(x)
    assert torch.equal(spikes, y)
    single = copy.deepcopy(node)
    single.step_mode = "s"
    functional.reset_net(single)
    leaves = [x, *node.parameters()]
    of_steps = gradients([torch.stack([single(t) for t in x])], [x, *single.parameters()])
    assert_close(gradients([spikes], leaves), of_steps, 1e-9)
    if name != "BalancedResonateAndFire":  # which has no reset
        assert not torch.allclose(gradients([y], [x])[0], of_steps[0])


@pytest.mark.parametrize("name", ["ResonateAndFire", "BalancedResonateAndFire"])
def test_a_sequence_in_parts_is_the_whole_sequence(name):
    node = node_class(name)(features=NEURONS, step_mode="m")
    x = currents(dtype=torch.float32).detach()
    whole = node(x)
    functional.reset_net(node)
    assert torch.equal(torch.cat([node(x[:7]), node(x[7:8]), node(x[8:])]), whole) and whole.any()


def test_a_current_based_lif_neuron_is_snntorchs_synaptic_behind_its_gain():
    alpha, beta = 0.5, 0.8
    ours, theirs = ours_snntorch.CubaLIF(alpha, beta), snn.Synaptic(alpha, beta)
    states, reference = ours.reset_mem(), theirs.reset_mem()
    fired = 0
    for x in currents(scale=5.0, dtype=torch.float32).detach():
        spk, *states = ours(x, *states)
        spikes, *reference = theirs(x * (1 - alpha) * (1 - beta), *reference)
        torch.testing.assert_close(states[1], reference[1], rtol=0, atol=1e-5)
        torch.testing.assert_close(states[0] * (1 - beta), reference[0], rtol=0, atol=1e-5)
        assert torch.equal(spk, spikes)
        fired += spk.sum()
    assert fired > 0


def test_a_heterogeneous_lif_neuron_with_one_leak_is_snntorchs_leaky_behind_its_gain():
    ours, theirs = ours_snntorch.HeterogeneousLIF(0.9), snn.Leaky(0.9)
    mem, reference = ours.reset_mem(), theirs.reset_mem()
    for x in currents(scale=5.0, dtype=torch.float32).detach():
        spk, mem = ours(x, mem)
        spikes, reference = theirs(0.1 * x, reference)
        torch.testing.assert_close(mem, reference, rtol=0, atol=1e-5)
        assert torch.equal(spk, spikes)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_se_adlif_neuron_is_the_symplectic_adlif_plus_seen_before_its_reset(reset):
    options = {"features": NEURONS, "reset_mechanism": reset}
    ours, older = ours_snntorch.SEAdLIF(**options), ours_snntorch.AdLIFPlus(variant="symplectic", **options)
    older.load_state_dict(ours.state_dict())
    current = currents(scale=8.0, dtype=torch.float32)
    spk, mem, w = by_steps(ours, current)
    spikes, after, adaptation = by_steps(older, current)
    assert torch.equal(spk, spikes) and spk.any()
    torch.testing.assert_close(w, adaptation)
    torch.testing.assert_close(after, mem * (1 - spk) if reset == "zero" else mem - spk)


def test_the_published_draw_of_a_silif_is_a_preset():
    torch.manual_seed(3)
    assert ours_snntorch.CSiLIF(features=2000, preset="published").b.max() > 0.9
    assert ours_snntorch.CSiLIF(features=2000).b.max() <= 0.2


# ---------------------------------------------------------------- the classes


@pytest.mark.parametrize("cls", CLASSES)
def test_the_example_of_every_class_runs(cls, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    tests = doctest.DocTestFinder(recurse=False).find(cls, cls.__name__, globs={cls.__name__: cls})
    assert doctest.DocTestRunner().run(tests[0]).failed == 0 and tests[0].examples


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_says_what_it_is_and_is_found_by_pickle(cls):
    assert pickle.loads(pickle.dumps(cls)) is cls
    described = cls.__doc__ + (StepNeuron.__doc__ or "")
    own = cls.model.equations.splitlines()[0].strip()
    assert own in described or issubclass(cls, ours_snntorch.StateAdLIFPlus)
    assert "&" not in cls.model.equations or "\\\\" in cls.model.equations  # one alone is aligned with nothing
    arguments = inspect.signature(cls).parameters
    for name in cls.model.parameters:
        assert name in arguments
        assert f":param {name}" in described or "AdLIF" in cls.__name__
    line = repr(cls(features=3))
    assert line.startswith(f"{cls.__name__}(") and "preset=" in line


@pytest.mark.parametrize("name", NEW)
def test_signatures_begin_as_those_of_the_frameworks_own_neurons(name):
    parameters = list(MODELS[name].parameters)
    theirs = [key for key in inspect.signature(snn.Synaptic).parameters if key not in ("alpha", "beta")]
    ours = [key for key in inspect.signature(step_class(name)).parameters if key not in parameters]
    learned = [f"learn_{key}" for key in parameters]
    assert list(inspect.signature(step_class(name)).parameters)[: len(parameters)] == parameters
    assert [key for key in ours if key not in learned][: len(theirs) - 2] == [
        key for key in theirs if key not in ("learn_alpha", "learn_beta")
    ]
    theirs = [key for key in inspect.signature(LIFNode).parameters if key not in ("tau", "decay_input")]
    assert list(inspect.signature(node_class(name)).parameters)[: len(theirs)] == theirs


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda neuron: pickle.loads(pickle.dumps(neuron))])
@pytest.mark.parametrize("name", NEW)
def test_copies_after_a_forward_pass_continue_like_the_original(name, copied):
    neuron, node = step_class(name)(init_hidden=True, output=True), node_class(name)()
    x = currents(dtype=torch.float32)
    for t in x[:5]:
        neuron(t), node(t)
    twin, twin_node = copied(neuron), copied(node)
    for t in x[5:12]:
        for one, two in zip(neuron(t), twin(t), strict=True):
            assert torch.equal(one, two)
        assert torch.equal(node(t), twin_node(t)) and torch.equal(node.v, twin_node.v)
    lazy = sequence_class(name)()
    lazy.load_state_dict(neuron.state_dict())
    assert all(torch.equal(value, lazy.state_dict()[key]) for key, value in neuron.state_dict().items())


@pytest.mark.parametrize("name", NEW)
def test_flags_bounds_and_initial_values_reach_every_parameter(name):
    model = MODELS[name]
    for key, parameter in model.parameters.items():
        low, high = parameter.draw
        middle = (low + high) / 2
        neuron = step_class(name)(features=3, **{key: middle, f"learn_{key}": False})
        assert key in dict(neuron.named_buffers()) and torch.allclose(getattr(neuron, key), torch.tensor(middle))
        narrow = node_class(name)(features=500, bounds={key: (middle, high)})
        assert getattr(narrow, key).min() >= middle - 1e-6
        assert narrow.parameter_bounds[key] == (middle, high)
    assert not list(node_class(name)(features=3, learn=False).parameters())
    neuron = step_class(name)(features=NEURONS, init_hidden=True)
    optimizer = torch.optim.SGD(neuron.parameters(), lr=100.0)
    sum(neuron(x).sum() for x in currents(dtype=torch.float32)).backward()
    optimizer.step()
    for key, (low, high) in neuron.parameter_bounds.items():
        value = getattr(neuron, key)
        assert low - 1e-6 <= value.min() and value.max() <= high + 1e-6


@pytest.mark.parametrize("name", NEW)
def test_uniform_initial_states_are_one_fixed_draw_in_evaluation(name):
    step = step_class(name)(features=NEURONS, init_state="uniform", init_hidden=True, output=True).eval()
    whole = sequence_class(name)(features=NEURONS, init_state="uniform", output=True).eval()
    node = node_class(name)(features=NEURONS, init_state="uniform").eval()
    for other in (whole, node):
        other.load_state_dict(step.state_dict(), strict=False)
    x = currents(dtype=torch.float32).detach()
    outputs = by_hidden_steps(step, x)
    assert_close(outputs, by_sequence(whole, x), 1e-4)
    assert torch.equal(torch.stack([node(t) for t in x]), outputs[0])
    zeros = step_class(name)(features=NEURONS, init_hidden=True, output=True).eval()
    zeros.load_state_dict(step.state_dict(), strict=False)
    assert not torch.equal(by_hidden_steps(zeros, x)[1], outputs[1])


@pytest.mark.parametrize("name", NEW)
def test_quantised_states_tell_of_the_spikes_that_are_returned(name):
    def eighths(x):
        return (x * 8).round() / 8

    neuron = step_class(name)(features=NEURONS, state_quant=eighths)
    outputs = by_steps(neuron, currents(dtype=torch.float32))
    for state in outputs[1:]:
        assert torch.equal(state, eighths(state))
    run = neuron._run()
    assert torch.equal(outputs[0][-1], run.spikes(tuple(state[-1] for state in outputs[1:])))
    assert outputs[0].any()


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_inhibition_and_graded_spikes_act_on_what_a_neuron_returns():
    neuron = ours_snntorch.ALIF(features=6, inhibition=True, graded_spikes_factor=3.0)
    spk = by_steps(neuron, currents(scale=9.0, dtype=torch.float32, neurons=6))[0]
    assert spk.sum(-1).max() == 3.0


# ---------------------------------------------------------------- what is refused, and what is said


@pytest.mark.parametrize("name", NEW)
def test_nan_and_diverged_states_are_refused(name):
    for cls in (step_class(name), node_class(name)):
        x = torch.zeros(2, 3)
        x[1, 2] = math.nan
        with pytest.raises(NotFiniteError, match="NaN or infinite"):
            cls(features=3)(x)
    with pytest.raises(ValueError, match="NaN or infinite"):
        sequence_class(name)(features=3)(x.expand(4, 2, 3))


def test_inputs_and_states_that_do_not_fit_are_refused_by_name():
    neuron = ours_snntorch.CubaLIF(features=3)
    with pytest.raises(ValueError, match=r"alpha of shape \(3,\) does not broadcast to the neurons \(4,\)"):
        neuron(torch.rand(2, 4))
    with pytest.raises(TypeError, match=r"convert the module"):
        neuron(torch.rand(2, 3, dtype=torch.float64))
    neuron(torch.rand(2, 3))
    with pytest.raises(ValueError, match=r"mem has shape \(2, 3\) but the input \(5, 3\): call reset_mem"):
        neuron(torch.rand(5, 3))
    with pytest.raises(TypeError, match=r"has 2 states \(syn, mem\), got 3"):
        neuron(torch.rand(2, 3), None, None, None)
    with pytest.raises(TypeError, match="v given twice or not one of them"):
        neuron(torch.rand(2, 3), v=None)
    with pytest.raises(TypeError, match=r"`syn` or `mem` should not be passed"):
        ours_snntorch.CubaLIF(init_hidden=True)(torch.rand(2, 3), torch.zeros(2, 3))
    node = ours_spikingjelly.CubaLIFNode(features=3)
    node(torch.rand(2, 3))
    with pytest.raises(RuntimeError, match=r"v has shape \(2, 3\) .*reset_net"):
        node(torch.rand(5, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ours_snntorch.ALIF(alpha=4), r"alpha is a leak per time step .* lies in \[0, 1\]"),
        (lambda: ours_snntorch.ALIF(bounds={"rho": (0.5, 1.5)}), "rho is a leak per time step"),
        (lambda: ours_snntorch.ALIF(preset="adlif"), r"preset must be one of \['default'\]"),
        (lambda: ours_snntorch.ALIF(reset_delay=False), "reset_delay=False"),
        (lambda: ours_snntorch.StateALIF(init_hidden=True), "not available on sequences; use ALIF"),
        (lambda: ours_snntorch.BalancedResonateAndFire(reset_mechanism="zero"), "reset_mechanism must be one of"),
        (lambda: ours_spikingjelly.BalancedResonateAndFireNode(v_reset=0.0), "has no reset to zero"),
        (lambda: ours_spikingjelly.ALIFNode(v_reset=-1.0), "v_reset must be None"),
    ],
)
def test_options_that_make_no_such_neuron_are_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="ALIF: got an unexpected keyword argument 'tau'"):
        ours_snntorch.ALIF(tau=2.0)


def coefficients(p, theta, reset, detach_reset):
    return Coefficients(theta=theta, A=((0.5,),), B=(0.5,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"threshold": Parameter(0, 1)}}, "'threshold' of Mine is something else"),
        ({"parameters": {"features": Parameter(0, 1)}}, "'features' of Mine is something else"),
        ({"states": ("mem", "training")}, "'training' of Mine is something else"),
        ({"states": ("mem", "mem")}, "need names of their own"),
        ({"presets": {"slow": {"beta": Parameter(0, 1)}}}, "preset 'slow' of Mine changes"),
        ({"resets": ("half",)}, "resets of Mine must be of"),
        ({"name": "my neuron"}, "a model needs a name"),
        ({"states": ("mem", "a", "b")}, "a LinearModel has one or two states"),
    ],
)
def test_models_that_make_no_neuron_are_refused(options, message):
    whole = {"name": "Mine", "states": ("mem",), "parameters": {}, "coefficients": coefficients}
    with pytest.raises(ValueError, match=message):
        ours_snntorch.from_model(LinearModel(**{**whole, **options}))
    with pytest.raises(TypeError, match="model must be a LinearModel or a StepModel"):
        ours_spikingjelly.from_model(LinearModel)


def test_parameters_that_are_none_are_refused():
    whole = {"name": "Mine", "states": ("mem",), "coefficients": coefficients}
    with pytest.raises(TypeError, match=r"alpha of Mine must be a Parameter\(low, high\), got 0.5"):
        LinearModel(**whole, parameters={"alpha": 0.5})
    with pytest.raises(TypeError, match=r"alpha of Mine must be a Parameter\(low, high\), got \(0, 1\)"):
        LinearModel(**whole, parameters={"alpha": Parameter(0, 1)}, presets={"slow": {"alpha": (0, 1)}})
    with pytest.raises(TypeError, match=r"initial of a parameter must be \(low, high\), got 0.5"):
        Parameter(0, 1, 0.5)


def test_resets_that_coefficients_do_not_look_at_are_refused_when_they_are_chosen():
    def subtracted(p, theta, reset, detach_reset):
        return Coefficients(theta=theta, A=((p["alpha"],),), B=(1 - p["alpha"],), r=(-theta,))

    model = LinearModel(name="Mine", states=("mem",), parameters={"alpha": Parameter(0, 1)}, coefficients=subtracted)
    step, _ = ours_snntorch.from_model(model)
    node = ours_spikingjelly.from_model(model)
    step(), node()
    for make in (lambda: step(reset_mechanism="zero"), lambda: node(v_reset=0.0)):
        with pytest.raises(ValueError, match="coefficients of Mine are the same for reset 'zero' as for 'subtract'"):
            make()
    with pytest.raises(ValueError, match="coefficients of Mine do not look at detach_reset"):
        node(detach_reset=True)


def test_equations_that_do_not_fit_their_states_are_refused():
    two = LinearModel(name="Two", states=("mem", "w"), parameters={}, coefficients=coefficients, resets=("none",))
    with pytest.raises(ValueError, match="Coefficients of its 2 states"):
        ours_snntorch.from_model(two)[0]()(torch.rand(2, 3))
    summed = StepModel(
        name="Summed", states=("mem",), parameters={}, step=lambda current, *_: (current.sum(),), resets=("none",)
    )
    with pytest.raises(ValueError, match=r"must return its 1 states of shape \(2, 3\), got \[\(\)\]"):
        ours_spikingjelly.from_model(summed)()(torch.rand(2, 3))
    bare = StepModel(name="Bare", states=("mem",), parameters={}, step=lambda current, *_: current, resets=("none",))
    with pytest.raises(TypeError, match=r"step of Bare must return its states as a tuple, as in `return \(u,\)`"):
        ours_snntorch.from_model(bare)[0]()(torch.rand(1, 3))
    neuron = ours_snntorch.BalancedResonateAndFire()
    neuron.reset_mechanism = "zero"
    with pytest.raises(ValueError, match="BalancedResonateAndFire has no reset 'zero'"):
        neuron(torch.rand(2, 3))


def test_classes_that_are_made_leave_nothing_in_snntorchs_list():
    before = list(snn.SpikingNeuron.instances)
    ours_snntorch.from_model(LinearModel(name="Mine", states=("mem",), parameters={}, coefficients=coefficients))
    assert snn.SpikingNeuron.instances == before
    assert not [neuron for neuron in before if type(neuron) is snn.SpikingNeuron]


def test_a_model_needs_no_parameters():
    model = LinearModel(name="Fixed", states=("mem",), parameters={}, coefficients=coefficients, resets=("none",))
    Fixed, StateFixed = ours_snntorch.from_model(model)
    x = torch.full((3, 1, 2), 4.0)
    assert StateFixed()(x).all() and Fixed()(x[0])[0].all() and ours_spikingjelly.from_model(model)()(x[0]).all()


def test_a_model_that_is_not_linear_says_once_that_it_runs_step_by_step(monkeypatch):
    monkeypatch.delenv("SNN_DELAY_PLUGINS_METHOD", raising=False)
    model = StepModel(
        name="SaidOnce", states=("mem",), parameters={}, resets=("none",),
        step=lambda current, states, spikes, p, theta, reset, detach_reset: (0.5 * states[0] + current,),
    )  # fmt: skip
    _, whole = ours_snntorch.from_model(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            whole()(torch.rand(4, 2, 3)).sum()
    said = [str(warning.message) for warning in caught if "plain PyTorch" in str(warning.message)]
    assert said == ["SaidOnce is not linear and runs in plain PyTorch, step by step: slower than a LinearModel"]


@pytest.mark.parametrize("name", ["ResonateAndFire", "BalancedResonateAndFire"])
def test_neurons_say_that_they_are_silent_and_calibrate_mends_it(name):
    net = nn.Sequential(nn.Linear(20, 30), sequence_class(name)(features=30))
    with torch.no_grad():
        net[0].weight.mul_(0.01)
    x = (torch.rand(60, 4, 20) < 0.3).float()
    with pytest.warns(UserWarning, match=rf"no neuron of layer '1' \(State{name}\(30\)\) fired"):
        net(x)
    rates = calibrate(net, x, rate=0.1)
    assert rates["1"].after == pytest.approx(0.1, rel=0.1)


def test_what_a_model_is_called_does_not_make_its_steps_sequences():
    leak = MODELS["HeterogeneousLIF"]
    step, whole = ours_snntorch.from_model(dataclasses.replace(leak, name="StateSpace"))
    x = torch.rand(50, 6, 4).round()
    for neuron in (step(init_hidden=True), whole()):
        net = nn.Sequential(nn.Linear(4, 3), neuron)
        assert calibrate(net, x, rate=0.2)["1"].after == pytest.approx(0.2, rel=0.3)
        assert neuron.alpha.shape == (3,)
    assert issubclass(step, StepNeuron) and issubclass(whole, SequenceNeuron)


@pytest.mark.parametrize("name", NEW)
def test_compiled_in_one_graph_it_computes_the_same(name):
    torch._dynamo.reset()
    neuron = step_class(name)(features=NEURONS, init_hidden=True)
    compiled = torch.compile(copy.deepcopy(neuron), fullgraph=True, backend="aot_eager")
    current, results = currents(scale=20.0, dtype=torch.float32).detach()[:4], []
    for module in (neuron, compiled):
        spk = torch.stack([module(x) for x in current])
        (spk * torch.arange(spk.numel()).view_as(spk)).sum().backward()
        results.append((spk, *(p.grad for p in module.parameters())))
    assert results[0][0].any()
    assert_close(*results, 1e-4)
