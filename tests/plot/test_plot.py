"""What the pictures hold: the data of their artists."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from snn_delay_plugins import EventPropConv2d, EventPropLIF, SpikeEvents, calibrate, firing_rates
from snn_delay_plugins.functional.windows import windowed_linear

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is missing: pip install 'snn_delay_plugins[plot]'")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")
plot = pytest.importorskip("snn_delay_plugins.plot")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def layers():
    return pytest.importorskip("snn_delay_plugins.spikingjelly")


def sparse(layer, mask: list[list[int]]):
    layer.mask.copy_(torch.tensor(mask, dtype=torch.bool))
    return layer


def points(collection) -> list[list[float]]:
    return sorted(np.asarray(collection.get_offsets()).tolist())


# ---------------------------------------------------------------------------------------------------- axes


DRAWINGS = {
    "raster": lambda **axes: plot.raster(torch.eye(4), **axes),
    "arrivals": lambda **axes: plot.arrivals(torch.eye(4), EventPropLIF(4, 2), 0, **axes),
    "neuron_trace": lambda **axes: plot.neuron_trace(torch.ones(5), **axes),
    "delay_histogram": lambda **axes: plot.delay_histogram(EventPropLIF(4, 2), **axes),
    "delay_matrix": lambda **axes: plot.delay_matrix(EventPropLIF(4, 2), **axes),
    "kernels_over_training": lambda **axes: plot.kernels_over_training(torch.eye(4), **axes),
    "spikes_per_layer": lambda **axes: plot.spikes_per_layer({"1": 0.1}, **axes),
    "gradient_flow": lambda **axes: plot.gradient_flow(with_gradient(), **axes),
}


def with_gradient() -> nn.Module:
    net = nn.Linear(2, 3)
    net(torch.ones(1, 2)).sum().backward()
    return net


def test_every_function_that_draws_is_tried_here():
    assert set(DRAWINGS) == set(plot.__all__) - {"kernel", "record"}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_picture_goes_into_the_axes_that_are_given_or_into_a_new_figure(draw):
    _, ax = plt.subplots()
    assert draw(ax=ax, title="what", xlabel="x", ylabel="y") is ax
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("what", "x", "y")
    new = draw(figsize=(3.0, 2.0), dpi=50)
    assert new is not ax and new.figure.get_size_inches().tolist() == [3.0, 2.0] and new.figure.dpi == 50
    assert new.get_title() == ""


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_axes_that_are_none_and_sizes_of_a_figure_that_is_there_are_refused(draw):
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes or None, got list"):
        draw(ax=[1])
    with pytest.raises(ValueError, match="figsize and dpi belong to the figure"):
        draw(ax=plt.subplots()[1], figsize=(3.0, 2.0))
    with pytest.raises((TypeError, AttributeError), match=r"(?i)colour"):
        draw(colour="red")


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_no_legend_lies_over_the_axes(draw):
    ax = draw(title="a title")
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    if legend is not None:
        box = legend.get_window_extent()
        assert box.y0 >= ax.get_window_extent().y1 - 1
        assert not box.overlaps(ax.title.get_window_extent())


def test_without_matplotlib_the_error_says_what_to_install():
    program = "import sys; sys.modules['matplotlib'] = None\nfrom snn_delay_plugins import plot"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ImportError: snn_delay_plugins.plot needs matplotlib: pip install 'snn_delay_plugins[plot]'" in run.stderr


# ---------------------------------------------------------------------------------------------------- spikes


def test_a_raster_marks_every_spike_of_one_sample():
    spikes = torch.zeros(6, 2, 3)
    spikes[1, 0, 2] = spikes[4, 1, 0] = spikes[5, 1, 2] = 1
    ax = plot.raster(spikes, sample=1, c="red", s=5)
    assert points(ax.collections[0]) == [[4, 0], [5, 2]]
    assert ax.get_xlim() == (0, 6) and ax.get_ylim() == (-0.5, 2.5)
    assert points(plot.raster(spikes[:, 1].numpy()).collections[0]) == [[4, 0], [5, 2]]
    images = spikes.reshape(6, 2, 3, 1, 1).requires_grad_()
    assert points(plot.raster(images).collections[0]) == [[1, 2]]


def test_a_raster_of_events_is_in_their_time():
    events = SpikeEvents.from_lists([[1.5], [2.25, 7.0]], [[0], [1, 3]], num_units=4, duration=9.0)
    ax = plot.raster(events, sample=1)
    assert points(ax.collections[0]) == [[2.25, 1], [7.0, 3]]
    assert ax.get_xlabel() == "time (ms)" and ax.get_xlim() == (0, 9)
    assert len(points(plot.raster(torch.zeros(3, 2)).collections[0])) == 0


@pytest.mark.parametrize("data, error", [(torch.ones(3), ValueError), ("spikes", TypeError), (None, TypeError)])
def test_a_raster_of_what_are_no_spikes_is_refused(data, error):
    with pytest.raises(error, match=r"expected .*spikes \[T, neurons\]"):
        plot.raster(data)


def test_a_sample_that_is_not_there_is_refused():
    with pytest.raises(IndexError, match="sample 2 of a batch of 2"):
        plot.raster(torch.ones(3, 2, 4), sample=2)


def test_spikes_arrive_after_the_delay_of_their_synapse(layers):
    layer = layers.DelayedLinear(3, 2, max_delay=5, delay=torch.tensor([[0.0, 1.5, 3.0], [5.0, 4.0, 2.0]]))
    layer.weight.data = torch.tensor([[1.0, -3.0, 2.0], [1.0, 1.0, 1.0]])
    spikes = torch.zeros(10, 3)
    spikes[2, 1] = spikes[6, 2] = spikes[7, 1] = 1  # 0 is silent: it takes no row
    ax = plot.arrivals(spikes, layer, neuron=0)
    sent, there = ax.collections[1:]
    assert points(sent) == [[2, 0], [6, 1], [7, 0]]
    assert points(there) == [[3.5, 0], [8.5, 0], [9, 1]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2"]  # the largest weight on top
    colours = dict(zip(map(tuple, np.asarray(there.get_offsets()).tolist()), there.get_facecolors().tolist(), strict=True))
    assert colours[3.5, 0] == colours[8.5, 0] != colours[9, 1]
    only = plot.arrivals(spikes, layer, neuron=0, senders=1)
    assert points(only.collections[1]) == [[2, 0], [7, 0]]


def test_arrivals_of_dense_spikes_at_an_eventprop_layer_are_in_ms():
    layer = EventPropLIF(2, 1, delay=torch.tensor([[4.0, 1.0]]), dt=2.0)
    ax = plot.arrivals(torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), layer, 0)
    assert sorted(x for x, _ in points(ax.collections[2])) == [3.0, 6.0]
    assert ax.get_xlim()[0] == 0 and 6 < ax.get_xlim()[1] < 6.2  # the whole last dot


def test_synapses_that_do_not_exist_bring_nothing(layers):
    layer = sparse(layers.DelayedLinear(2, 1, max_delay=4, delay=2.0, synapses=1), [[1, 0]])
    assert points(plot.arrivals(torch.ones(1, 2), layer, 0).collections[2]) == [[2, 0]]
    assert points(plot.arrivals(torch.ones(1, 2), layer.discretize(), 0).collections[2]) == [[2, 0]]


def test_arrivals_refuse_what_does_not_fit(layers):
    layer = layers.DelayedLinear(3, 2, max_delay=5)
    events = SpikeEvents.from_lists([[1.0]], [[0]], num_units=3, duration=9.0)
    with pytest.raises(ValueError, match="steps: give spikes"):
        plot.arrivals(events, layer, 0)
    with pytest.raises(ValueError, match="has 3 inputs, the data 4"):
        plot.arrivals(torch.ones(5, 4), layer, 0)
    with pytest.raises(IndexError, match="neuron 2 of a layer of 2"):
        plot.arrivals(torch.ones(5, 3), layer, 2)
    with pytest.raises(TypeError, match="expected a layer with delays"):
        plot.arrivals(torch.ones(5, 3), nn.Linear(3, 2), 0)
    with pytest.raises(ValueError, match="linear layers"):
        plot.arrivals(torch.ones(5, 3), layers.DelayedConv2d(1, 1, 3, max_delay=2), 0)
    with pytest.raises(ValueError, match="EventPropLIF has no delays"):
        plot.arrivals(torch.ones(5, 3), EventPropLIF(3, 2, delay=None), 0)


# ---------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize("name", ["AdLIFPlus", "ALIF", "HeterogeneousLIF", "SEAdLIF", "BalancedResonateAndFire"])
@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_what_is_recorded_is_what_the_neuron_does_and_spikes_lie_above_the_threshold(framework, name):
    folder = pytest.importorskip(f"snn_delay_plugins.{framework}")
    torch.manual_seed(0)
    current = 3 * torch.rand(40, 2, 5)
    if framework == "spikingjelly":
        neuron = getattr(folder, f"{name}Node")(features=5, step_mode="m", v_threshold=0.8)
        spikes = neuron(current)
        neuron.reset()
    else:
        neuron = getattr(folder, f"State{name}")(features=5, threshold=0.8)
        spikes = neuron(current)
    seen = plot.record(neuron, current)
    assert torch.equal(seen["spikes"], spikes) and spikes.any()
    assert list(seen) == ["spikes", *neuron.model.states, "threshold"]
    assert torch.equal(seen["mem"] > seen["threshold"], spikes > 0)
    assert seen["threshold"].unique().numel() == 1 or name in ("ALIF", "BalancedResonateAndFire")


def test_recording_leaves_the_neuron_as_it_was(layers):
    neuron = layers.AdLIFPlusNode(features=3)
    neuron(torch.ones(2, 3))
    before = neuron.v.clone(), neuron.w.clone()
    plot.record(neuron, 100 * torch.ones(4, 2, 3))
    assert torch.equal(neuron.v, before[0]) and torch.equal(neuron.w, before[1])


def test_what_has_no_states_is_not_recorded(layers):
    with pytest.raises(TypeError, match="got Linear"):
        plot.record(nn.Linear(2, 3), torch.ones(4, 2, 2))
    with pytest.raises(ValueError, match=r"current must be \[T, N, \*\], got torch.Size\(\[4\]\)"):
        plot.record(layers.AdLIFPlusNode(features=3), torch.ones(4))


def test_a_trace_shows_one_neuron_of_one_sample():
    v, w = torch.rand(7, 2, 3), torch.rand(7, 2, 3)
    s = (v > 0.5).float()
    ax = plot.neuron_trace(v, s, w=w, v_threshold=0.5, neuron=2, sample=1, dt=0.5)
    lines = {line.get_label(): line for line in ax.lines}
    of = v[:, 1, 2].double().numpy()
    assert np.array_equal(lines["membrane potential"].get_ydata(), of)
    assert np.array_equal(lines["membrane potential"].get_xdata(), 0.5 * np.arange(7))
    assert np.array_equal(lines["adaptation"].get_ydata(), w[:, 1, 2].double().numpy())
    assert np.array_equal(lines["threshold"].get_ydata(), np.full(7, 0.5))
    assert np.array_equal(lines["spike"].get_ydata(), of[of > 0.5])
    assert [line.get_label() for line in plot.neuron_trace(v[:, 0], neuron=1).lines] == ["membrane potential"]


def test_traces_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"s must have the shape \(7, 3\) of v, got \(6, 3\)"):
        plot.neuron_trace(torch.ones(7, 3), torch.ones(6, 3))
    with pytest.raises(ValueError, match="v_threshold must have the shape"):
        plot.neuron_trace(torch.ones(7, 3), v_threshold=torch.ones(3))
    with pytest.raises(IndexError, match="neuron 3 of 3"):
        plot.neuron_trace(torch.ones(7, 3), neuron=3)


# ---------------------------------------------------------------------------------------------------- delays


def test_a_histogram_counts_every_delay_that_is_learned_once(layers):
    delays = {"synaptic": torch.tensor([[0.2, 3.0, 3.9], [1.5, 1.6, 2.0]]), "axonal": torch.tensor([[0.2, 3.0, 3.9]]),
              "dendritic": torch.tensor([[0.2], [1.5]])}  # fmt: skip
    heights = {"synaptic": [1, 2, 1, 2], "axonal": [1, 0, 0, 2], "dendritic": [1, 1, 0, 0]}
    for kind, delay in delays.items():
        layer = layers.DelayedLinear(3, 2, max_delay=4, delay=delay, delay_type=kind)
        ax = plot.delay_histogram(layer, bins=4)
        assert [bar.get_height() for bar in ax.patches] == heights[kind], kind
        assert ax.get_xlim() == (0, 4)
    assert ax.get_ylabel() == "dendrites"


def test_a_histogram_leaves_out_synapses_that_do_not_exist(layers):
    layer = sparse(layers.DelayedLinear(3, 1, max_delay=4, delay=3.0, synapses=2), [[1, 0, 1]])
    for one in (layer, layer.discretize()):
        assert [bar.get_height() for bar in plot.delay_histogram(one, bins=4).patches] == [0, 0, 0, 2]


def test_a_matrix_has_the_delays_in_their_place_and_blanks_where_there_is_no_synapse(layers):
    delay = torch.tensor([[0.25, 3.0, 1.0], [2.0, 0.0, 4.0]])
    layer = sparse(layers.DelayedLinear(3, 2, max_delay=4, delay=delay, synapses=2), [[1, 0, 1], [1, 1, 1]])
    image = plot.delay_matrix(layer).images[0]
    assert image.get_array().filled(-1).tolist() == [[0.25, -1.0, 1.0], [2.0, 0.0, 4.0]]
    assert image.get_clim() == (0, 4) and image.colorbar is not None
    assert plot.delay_matrix(layer, plot_colorbar=False).images[0].colorbar is None


def test_recurrent_delays_and_those_of_convolutions_are_drawn():
    layer = EventPropLIF(3, 2, recurrent=True, delay="uniform", max_delay=9.0)
    drawn = plot.delay_matrix(layer, recurrent=True).images[0].get_array()
    assert np.array_equal(drawn, layer.recurrent_delay.detach().numpy())
    assert plot.delay_matrix(EventPropConv2d(2, 4, 3, delay=1.0)).images[0].get_array().shape == (4, 18)
    with pytest.raises(ValueError, match="has no recurrent synapses"):
        plot.delay_histogram(EventPropLIF(3, 2), recurrent=True)


def test_layers_in_whole_steps_are_drawn_in_steps():
    layer = EventPropLIF(3, 2, delay=torch.tensor([[1.0, 2.0, 4.4], [0.0, 3.0, 1.0]]), weight_init=(1.0, 0.1))
    frozen = layer.discretize(dt=0.5)
    assert plot.delay_matrix(frozen).images[0].get_array().tolist() == [[2, 4, 9], [0, 6, 2]]
    assert points(plot.arrivals(torch.eye(3), frozen, 0, senders=1).collections[2])[0][0] in (2, 5, 11)


def test_a_smoothed_layer_has_a_smoothed_kernel(layers):
    layer = layers.DelayedLinear(2, 1, max_delay=3, delay=1.0, delay_type="axonal", smoothing=torch.tensor([0.5, 0.25]))
    layer.weight.data.fill_(2.0)
    assert plot.kernel(layer, (0, 1)).tolist()[:4] == [0.0, 1.0, 0.5, 0.0]


def test_layers_without_values_and_what_is_no_layer_are_refused(layers):
    with pytest.raises(ValueError, match="DelayedLinear is on the meta device"):
        plot.delay_matrix(layers.DelayedLinear(2, 1, max_delay=3).to("meta"))
    with pytest.raises(TypeError, match=r"expected a layer with delays .* got Tensor"):
        plot.delay_histogram(torch.ones(3))
    with pytest.raises(TypeError, match=r"rates must be a mapping .* got list"):
        plot.spikes_per_layer([0.1])


def test_a_kernel_is_what_the_layer_applies(layers):
    torch.manual_seed(0)
    for rule in ("slayer", "gaussian", "triangle"):
        layer = layers.DelayedLinear(2, 3, max_delay=6, delay="uniform", delay_gradient=rule, bias=False)
        spikes = torch.zeros(8, 1, 2)
        spikes[0, 0, 1] = 1
        answer = windowed_linear(
            spikes, layer.weight, layer.delay, rule=layer.active_rule, max_delay=6,
            parameters=layer.rule_values(layer.active_rule),
        )  # fmt: skip
        assert torch.allclose(plot.kernel(layer, (2, 1)), answer[:, 0, 2], atol=1e-6), rule
    with pytest.raises(IndexError, match=r"weight of shape \(3, 2\), got \(3, 0\)"):
        plot.kernel(layer, (3, 0))
    with pytest.raises(TypeError, match="got Linear"):
        plot.kernel(nn.Linear(2, 2), (0, 0))


def test_kernels_stand_beside_each_other_epoch_by_epoch():
    image = plot.kernels_over_training([torch.tensor([0.0, -2.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])]).images[0]
    assert image.get_array().T.tolist() == [[0.0, -2.0, 0.0], [0.0, 0.0, 1.0]]
    assert image.get_clim() == (-2, 2)  # no weight is white
    for bad in ([], [torch.ones(3), torch.ones(4)], torch.ones(3)):
        with pytest.raises(ValueError, match=r"kernels must be \[epochs, lags\]"):
            plot.kernels_over_training(bad)


# ---------------------------------------------------------------------------------------------------- training


def test_bars_are_the_rates_and_a_silent_layer_is_named():
    ax = plot.spikes_per_layer({"hidden": 0.25, "out": 0.0})
    assert [bar.get_height() for bar in ax.patches] == [0.25, 0.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["hidden", "out"]
    assert [(text.get_text(), text.get_position()[0]) for text in ax.texts] == [("silent", 1)]
    with pytest.raises(ValueError, match="layer 'x': a rate must be finite"):
        plot.spikes_per_layer({"x": float("nan")})
    with pytest.raises(ValueError, match="no layers"):
        plot.spikes_per_layer({})


def test_rates_before_and_after_calibration_stand_side_by_side():
    torch.manual_seed(0)
    net = nn.Sequential(EventPropLIF(20, 30), EventPropLIF(30, 10))
    batch = (torch.rand(100, 4, 20) < 0.05).float()
    first = firing_rates(net, batch)
    rates = calibrate(net, batch, spikes_per_sample=3.0)
    assert first == {name: rate.before for name, rate in rates.items()}
    assert firing_rates(net, batch) == {name: rate.after for name, rate in rates.items()}
    bars = [bar.get_height() for bar in plot.spikes_per_layer(rates).patches]
    assert bars == [rate.before for rate in rates.values()] + [rate.after for rate in rates.values()]
    with pytest.raises(ValueError, match="no spiking layer that firing_rates knows"):
        firing_rates(nn.Linear(2, 2), batch)


def test_gradients_are_drawn_and_parameters_without_one_say_so():
    net = nn.ParameterDict({name: nn.Parameter(torch.ones(2)) for name in ("a good", "b none", "c zero", "d nan")})
    net["a good"].grad, net["c zero"].grad = torch.tensor([1.0, -3.0]), torch.zeros(2)
    net["d nan"].grad = torch.tensor([1.0, float("nan")])
    ax = plot.gradient_flow(net)
    assert [bar.get_height() for bar in ax.patches] == [3.0, 2.0]
    assert {text.get_text() for text in ax.texts} == {"no gradient", "zero", "not finite"}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a good", "b none", "c zero", "d nan"]
    with pytest.raises(ValueError, match=r"between loss.backward\(\) and optimizer.zero_grad\(\)"):
        plot.gradient_flow(nn.Linear(2, 2))
