"""What a new user runs into, and what is said then."""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from snn_delay_plugins import EventPropAdLIF, EventPropLIF, SpikeEvents

snntorch = pytest.importorskip("snn_delay_plugins.snntorch")
spikingjelly = pytest.importorskip("snn_delay_plugins.spikingjelly")
functional = pytest.importorskip("spikingjelly.activation_based.functional")


def warned(action) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [warning for warning in caught if issubclass(warning.category, UserWarning)]


DENSE_LAYERS = {
    "AdLIFPlus": lambda: snntorch.AdLIFPlus(),
    "StateAdLIFPlus": lambda: snntorch.StateAdLIFPlus(),
    "AdLIFPlusNode s": lambda: spikingjelly.AdLIFPlusNode(),
    "AdLIFPlusNode m": lambda: spikingjelly.AdLIFPlusNode(step_mode="m"),
    **{
        f"{package.__name__[18:]} {kind} {mode}": partial(getattr(package, kind), 3, 2, *size, max_delay=4, step_mode=mode)
        for package, modes in ((snntorch, (True, False)), (spikingjelly, ("s", "m")))
        for kind, size in (("DelayedLinear", ()), ("DelayedConv2d", (3,)))
        for mode in modes
    },
}


@pytest.mark.parametrize("make", DENSE_LAYERS.values(), ids=DENSE_LAYERS)
def test_events_into_a_layer_for_tensors_name_the_dense_output(make):
    events = SpikeEvents.from_lists([[0.0, 10.0]], [[0, 1]], num_units=3, duration=40.0)
    with pytest.raises((TypeError, AttributeError), match=r'set output="dense" on the EventProp layer before, or call'):
        make()(events)


@pytest.mark.parametrize(
    ("make", "features", "input_", "form"),
    [
        (snntorch.AdLIFPlus, 40, (20, 4, 40), "StateAdLIFPlus"),
        (snntorch.AdLIFPlus, (4, 5), (20, 3, 4, 5), "StateAdLIFPlus"),
        (spikingjelly.AdLIFPlusNode, 3, (20, 4, 3), r"functional\.set_step_mode\(net, 'm'\)"),
    ],
)
def test_a_whole_sequence_given_to_a_neuron_of_single_steps_warns_once(make, features, input_, form):
    neuron = make(features=features).eval()
    (warning,) = warned(lambda: [neuron(torch.rand(input_)) for _ in range(2)])
    assert warning.filename == __file__
    with pytest.warns(UserWarning, match=rf"looks like a sequence \[T, N, \*\].*use {form}"):
        make(features=features).eval()(torch.rand(input_))


def test_a_sequence_after_a_step_that_gave_the_neurons_their_shape_warns_too():
    neuron = snntorch.AdLIFPlus(init_hidden=True).eval()
    assert warned(lambda: neuron(torch.rand(4, 40))) == []
    neuron.reset_mem()
    assert len(warned(lambda: neuron(torch.rand(20, 4, 40)))) == 1


@pytest.mark.parametrize(
    ("features", "alpha", "input_"),
    [
        ((1, 40), None, (20, 4, 40)),
        (1, None, (20, 4, 40)),
        ((4, 1, 1), None, (20, 4, 5, 5)),
        ((4, 40), torch.full((40,), 0.9), (20, 4, 40)),
    ],
)
def test_parameters_that_neurons_share_are_no_sign_of_a_sequence(features, alpha, input_):
    neuron = snntorch.AdLIFPlus(alpha, features=features).eval()
    assert warned(lambda: neuron(torch.rand(input_))) == []
    assert warned(lambda: spikingjelly.AdLIFPlusNode(features=4, step_mode="m").eval()(torch.rand(20, 3, 4))) == []


@pytest.mark.parametrize("kind", ["DelayedLinear", "DelayedConv1d", "discretized"])
@pytest.mark.parametrize("mode", [True, "s", "m"])
def test_another_batch_size_without_a_reset_names_the_call(kind, mode):
    package = snntorch if mode is True else spikingjelly
    size = (3,) if kind == "DelayedConv1d" else ()
    layer = getattr(package, "DelayedLinear" if kind == "discretized" else kind)(3, 2, *size, max_delay=4, step_mode=mode)
    layer = layer.discretize() if kind == "discretized" else layer
    steps, space = ((7,) if mode == "m" else ()), ((8,) if size else ())
    layer(torch.rand(*steps, 5, 3, *space))
    call = r"reset_delay\(\) or .*snntorch\.reset\(net\)" if mode is True else r"functional\.reset_net\(net\)"
    with pytest.raises(ValueError, match=f"of 5 are still on their way but the input is a batch of 4: call .*{call}"):
        layer(torch.rand(*steps, 4, 3, *space))


@pytest.mark.parametrize("kind", ["DelayedLinear", "DelayedConv1d", "discretized"])
@pytest.mark.parametrize("package", [snntorch, spikingjelly], ids=["snnTorch", "SpikingJelly"])
def test_a_sequence_given_to_a_layer_of_single_steps_names_the_mode(kind, package):
    size = (3,) if kind == "DelayedConv1d" else ()
    layer = getattr(package, "DelayedLinear" if kind == "discretized" else kind)(3, 2, *size, max_delay=4)
    layer = layer.discretize() if kind == "discretized" else layer
    mode = "step_mode=False" if package is snntorch else r"functional\.set_step_mode\(net, 'm'\)"
    with pytest.raises(ValueError, match=rf"must be \[N, 3.*\], got shape \(6, 5, 3.*; for a sequence \[T, N, 3.*: {mode}"):
        layer(torch.rand(6, 5, 3, *((8,) if size else ())))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_spikes_that_are_no_floating_point_numbers_name_the_conversion(dtype):
    for mode, shape in ((True, (4, 3)), (False, (5, 4, 3))):
        with pytest.raises(TypeError, match=r"floating point, got .*; convert it, e\.g\. input\.float\(\)"):
            snntorch.DelayedLinear(3, 2, max_delay=4, step_mode=mode)(torch.ones(shape, dtype=dtype))


def test_rows_of_time_and_unit_and_late_spikes_name_the_sample_and_the_remedy():
    rows = [np.array([[1.0, 2.0], [3.0, 1.0]])]
    with pytest.raises(ValueError, match=r"sample 0: times and units must be one-dimensional and of one length.*a\[:, 0\]"):
        SpikeEvents.from_lists(rows, rows, num_units=3, duration=10.0)
    split = [a[:, 0] for a in rows], [a[:, 1].astype(int) for a in rows]
    assert SpikeEvents.from_lists(*split, num_units=3, duration=10.0).units.tolist() == [2, 1]
    late = r"times\[2\] = 1370\.0 is outside \[0, duration = 1000\] \(sample 1, its spike 1\): raise duration, or leave"
    with pytest.raises(ValueError, match=late):
        SpikeEvents.from_lists([[1.0], [2.0, 1370.0]], [[0], [0, 1]], num_units=3, duration=1000)


def test_a_silent_layer_is_told_at_the_users_line():
    net = nn.Sequential(nn.Linear(3, 4), spikingjelly.AdLIFPlusNode(features=4, step_mode="m"))
    steps = nn.Sequential(nn.Linear(3, 4), snntorch.AdLIFPlus(features=4, init_hidden=True))
    for each in (net, steps):
        nn.init.zeros_(each[0].weight)
        nn.init.constant_(each[0].bias, 0.25)
    x = torch.rand(5, 2, 3)
    events = SpikeEvents.from_lists([[10.0]], [[0]], num_units=3, duration=100.0)
    layer = EventPropLIF(3, 4, weight_init=(0.03, 0.0))
    for action in (
        lambda: (net(x), functional.reset_net(net)),
        lambda: ([steps(step) for step in x], snntorch.reset(steps)),
        lambda: layer(events),
    ):
        (warning,) = warned(action)
        assert warning.filename == __file__
    assert "calibrate(net, batch), or set weight_init (mean now 0.03)." in str(warning.message)


def test_times_in_seconds_are_suspected_once_also_where_the_layer_fires():
    events = SpikeEvents.from_lists([[0.1, 0.9]], [[0, 1]], num_units=3, duration=1000.0)
    layer = EventPropLIF(3, 2, weight_init=(5.0, 0.0))
    (warning,) = warned(lambda: [layer(events) for _ in range(2)])
    assert "last input spike comes at 0.9 of samples that last 1000: are their times in seconds?" in str(warning.message)
    short = SpikeEvents.from_lists([[0.1, 0.9]], [[0, 1]], num_units=3, duration=1.0)
    (warning,) = warned(lambda: EventPropLIF(3, 2)(short))
    assert "seconds?" in str(warning.message) and "calibrate" not in str(warning.message)
    fitting = SpikeEvents.from_lists([[100.0, 900.0]], [[0, 1]], num_units=3, duration=1000.0)
    assert warned(lambda: EventPropLIF(3, 2, weight_init=(20.0, 0.0))(fitting)) == []


def test_a_dense_batch_with_time_in_the_second_place_is_suspected():
    (warning,) = warned(lambda: EventPropLIF(3, 2)((torch.rand(2, 100, 3) < 0.3).float()))
    assert "2 bins of dt = 1 are short beside tau_mem = 20: does time come first, [T, N, 3]?" in str(warning.message)
    assert "seconds" not in str(warning.message)


@pytest.mark.parametrize("neuron", [EventPropLIF, EventPropAdLIF])
def test_delays_and_time_constants_in_seconds_are_suspected(neuron):
    events = SpikeEvents.from_lists([[10.0, 90.0]], [[0, 1]], num_units=3, duration=100.0)
    delayed = neuron(3, 2, weight_init=(20.0, 0.0), delay="uniform", max_delay=0.15)
    (warning,) = warned(lambda: [delayed(events) for _ in range(2)])
    assert "max_delay is 0.15 but tau_mem is 20: are its delays in seconds?" in str(warning.message)
    (warning,) = warned(lambda: neuron(3, 2, tau_mem=0.02, tau_syn=0.005, weight_init=(1e-3, 0.0))(events))
    assert "calibrate" in str(warning.message)
    assert "tau_mem is 0.02 but samples last 100: is it in seconds?" in str(warning.message)
    assert warned(lambda: neuron(3, 2, weight_init=(20.0, 0.0), delay="uniform", max_delay=0.5)(events)) == []


def test_a_single_sample_and_units_that_are_no_integers_name_the_remedy():
    times, units = torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"a single sample is from_lists\(\[times\], \[units\]\)"):
        SpikeEvents.from_lists(times, units, num_units=3, duration=10.0)
    with pytest.raises(TypeError, match=r"sample 0: units must be integers, got torch.float32; convert them"):
        SpikeEvents.from_lists([times], [units.float()], num_units=3, duration=10.0)


@pytest.mark.parametrize("make", [snntorch.AdLIFPlus, snntorch.StateALIF, spikingjelly.SiLIFNode])
def test_a_neuron_shows_its_features(make):
    assert "features=5," in repr(make(features=5))
    assert "features=(2, 3)," in repr(make(features=(2, 3)))
    neuron = make()
    assert "features=None," in repr(neuron)
    neuron(torch.rand(4, 1, 6))
    assert "features=(1, 6)," in repr(neuron) or "features=6," in repr(neuron)


def test_neurons_of_another_number_than_the_layer_before_name_features():
    with pytest.raises(ValueError, match=r"alpha of shape \(5,\) does not .* \(2, 6\); features= must be the shape of one"):
        snntorch.AdLIFPlus(features=5)(torch.rand(2, 6))
    with pytest.raises(ValueError, match=r"of a current of shape \(5,\); a step is \[N, \*\], a sequence \[T, N, \*\]"):
        snntorch.AdLIFPlus(features=5)(torch.rand(5))


def test_a_name_that_is_spelt_wrongly_is_corrected_by_python():
    code = "import snn_delay_plugins; snn_delay_plugins.AdLifPlus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "no attribute 'AdLifPlus'. Did you mean: 'AdLIFPlus'?" in done.stderr


def test_constants_that_are_no_interval_and_names_that_are_none_are_refused_with_what_is_meant():
    for value, message in (
        ((10.0, 30.0, 20.0), r"tau_mem must be a number, a tensor or an interval \(low, high\), got \(10.0, 30.0, 20.0\)"),
        ((30.0, 10.0), r"tau_mem must be an interval \(low, high\) with low <= high, got \(30.0, 10.0\)"),
    ):
        with pytest.raises(ValueError, match=message):
            EventPropAdLIF(3, 2, tau_mem=value)
    drawn = EventPropAdLIF(3, 40, tau_mem=[10.0, 30.0]).tau_mem
    assert drawn.shape == (40,) and 10 <= drawn.min() < drawn.max() <= 30
    for learn in (True, None, [1]):
        with pytest.raises(TypeError, match=r'learn must be names of constants, as in learn=\["tau_mem"\], or "all", got'):
            EventPropAdLIF(3, 2, learn=learn)
