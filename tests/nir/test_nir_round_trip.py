"""Networks to NIR and back, and in nirtorch's interpreter: the same spikes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")
snn = pytest.importorskip("snntorch")
pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import layer, neuron  # noqa: E402

from snn_delay_plugins import snntorch as in_snntorch  # noqa: E402
from snn_delay_plugins import spikingjelly as in_spikingjelly  # noqa: E402
from snn_delay_plugins.models import MODELS  # noqa: E402
from snn_delay_plugins.nir import NIRError, export_nir, import_nir  # noqa: E402
from snn_delay_plugins.snntorch import (  # noqa: E402
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    StateAdLIFPlus,
    StateCubaLIF,
    StateHeterogeneousLIF,
)

_spec = importlib.util.spec_from_file_location("euler", Path(__file__).with_name("euler.py"))
assert _spec is not None and _spec.loader is not None
euler = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(euler)

IN, OUT, STEPS, BATCH = 12, 6, 50, 2
FRAMEWORKS = ("snntorch", "spikingjelly")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(3)


def spikes(*shape: int, rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(STEPS, BATCH, *(shape or (IN,))) < rate).float()


def delayed(**options) -> DelayedLinear:
    kernel = {} if "delay_gradient" in options else {"kernel": "round"}
    made = DelayedLinear(IN, OUT, **{"max_delay": 4, "delay": "uniform", "step_mode": False, **kernel, **options})
    with torch.no_grad():
        made.weight.mul_(3)
    return made


def by_steps(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([net(step) for step in x])


# ------------------------------------------------------------------------------------------------------ neurons


LINEAR = [(name, reset) for name, model in MODELS.items() for reset in model.resets if name != "BalancedResonateAndFire"]
SAID = [  # in NIR's words; of the others a factor of the reset or a coupling to a membrane that is reset is none of these
    case for case in LINEAR if case[1] != "zero" or case[0] in ("HeterogeneousLIF", "CubaLIF")
]
UNSAID = [*(case for case in LINEAR if case not in SAID), ("BalancedResonateAndFire", "none")]
WORDS = {"AdLIFPlus": "a couples", "SEAdLIF": "a couples", "ALIF": "beta moves", "SiLIF": "reset 'zero'",
         "ResonateAndFire": "omega couples", "CSiLIF": "omega couples",
         "BalancedResonateAndFire": "is not linear"}  # fmt: skip


def network(name: str, reset: str) -> nn.Sequential:
    neurons = getattr(in_snntorch, f"State{name}")(features=OUT, reset_mechanism=reset, threshold=0.3)
    return nn.Sequential(delayed(), neurons).eval()


@pytest.mark.parametrize(("name", "reset"), SAID)
def test_a_neuron_gives_the_same_spikes_in_nirtorch_and_back_in_both_frameworks(name, reset, tmp_path):
    net, x = network(name, reset), spikes()
    wanted = net(x)
    assert wanted.sum() > 20
    export_nir(net, x, tmp_path / "net.nir")
    assert torch.equal(euler.simulate(nir.read(tmp_path / "net.nir"), x), wanted)
    assert torch.equal(import_nir(tmp_path / "net.nir")(x), wanted)
    assert torch.equal(by_steps(import_nir(tmp_path / "net.nir", sequences=False), x), wanted)
    if reset in (MODELS[name].resets[0], "zero"):
        assert torch.equal(import_nir(tmp_path / "net.nir", "spikingjelly")(x), wanted)
        assert torch.equal(by_steps(import_nir(tmp_path / "net.nir", "spikingjelly", sequences=False), x), wanted)
    else:
        with pytest.raises(NIRError, match=f"has no reset {reset!r}: framework='snntorch'"):
            import_nir(tmp_path / "net.nir", "spikingjelly")


@pytest.mark.parametrize(("name", "reset"), UNSAID)
def test_what_nir_cannot_say_is_refused_by_its_parameter_and_written_as_a_node_of_ours(name, reset, tmp_path):
    net, x = network(name, reset), spikes()
    with pytest.raises(NIRError, match=f"1: .*{WORDS[name]}.*custom_nodes=True"):
        export_nir(net, x)
    export_nir(net, x, tmp_path / "net.nir", custom_nodes=True)
    with pytest.raises(AssertionError):  # other readers do not take it for something else
        nir.read(tmp_path / "net.nir")
    wanted = net(x)
    assert wanted.sum() > 20
    assert torch.equal(import_nir(tmp_path / "net.nir", "spikingjelly")(x), wanted)
    assert torch.equal(import_nir(tmp_path / "net.nir")(x), wanted)


def test_an_adaptation_that_spikes_alone_drive_stands_beside_a_membrane_that_is_reset():
    neurons = StateAdLIFPlus(a=0.0, learn_a=False, features=OUT, reset_mechanism="zero", threshold=0.3)
    net, x = nn.Sequential(delayed(), neurons).eval(), spikes()
    graph = export_nir(net, x)
    assert any(isinstance(node, nir.LIF) for node in graph.nodes["1"].nodes.values())
    assert torch.equal(euler.simulate(graph, x), net(x)) and torch.equal(import_nir(graph)(x), net(x))


@pytest.mark.parametrize("options", [{"preset": "lif"}, {"preset": "adlif"},
                                     {"variant": "symplectic", "reset_mechanism": "subtract"},
                                     {"threshold": torch.linspace(0.2, 0.5, OUT)}, {"graded_spikes_factor": 2.0},
                                     {"bound_mode": "clamp"}])  # fmt: skip
def test_options_of_adlif_plus_are_said(options):
    net, x = nn.Sequential(delayed(), StateAdLIFPlus(**{"features": OUT, "threshold": 0.3, **options})).eval(), spikes()
    graph, wanted = export_nir(net, x), net(x)
    assert wanted.sum() > 20
    assert torch.equal(euler.simulate(graph, x), wanted) and torch.equal(import_nir(graph)(x), wanted)


def test_a_readout_without_reset_is_a_leaky_integrator_and_comes_back_as_one():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.delayed = delayed(step_mode=True)
            self.out = in_snntorch.HeterogeneousLIF(reset_mechanism="none", features=OUT)

        def forward(self, x):
            mem, potentials = None, []
            for step in x:
                _, mem = self.out(self.delayed(step), mem)
                potentials.append(mem)
            return torch.stack(potentials)

    net, x = Net().eval(), spikes()
    graph = export_nir(net, x)
    assert isinstance(graph.nodes["out"], nir.LI)
    wanted = net(x)
    for framework in FRAMEWORKS:
        again = import_nir(graph, framework)
        torch.testing.assert_close(again(x), wanted)
        torch.testing.assert_close(by_steps(import_nir(graph, framework, sequences=False), x), wanted)
        assert isinstance(export_nir(again, x).nodes["out"], nir.LI)


# ------------------------------------------------------------------------------------------- neurons of frameworks


def loop(weights, lif):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = weights, lif

        def forward(self, x):
            states, out = self.lif.reset_mem(), []
            states = states if isinstance(states, tuple) else (states,)
            for step in x:
                spk, *states = self.lif(self.fc(step), *states)
                out.append(spk)
            return torch.stack(out), states[-1]

    return Net()


SNNTORCH = {
    "Leaky subtract": lambda: snn.Leaky(beta=torch.linspace(0.5, 0.9, OUT)),
    "Leaky zero": lambda: snn.Leaky(beta=torch.linspace(0.5, 0.9, OUT), reset_mechanism="zero"),
    "Leaky none": lambda: snn.Leaky(beta=0.7, reset_mechanism="none"),
    "Synaptic subtract": lambda: snn.Synaptic(alpha=0.6, beta=0.8, threshold=2.0),
    "Synaptic zero": lambda: snn.Synaptic(alpha=0.6, beta=0.8, threshold=2.0, reset_mechanism="zero", reset_delay=False),
}  # fmt: skip


@pytest.mark.parametrize("name", SNNTORCH)
def test_snntorchs_own_neurons_in_a_loop_over_time_are_said(name):
    net, x = loop(nn.Linear(IN, OUT), SNNTORCH[name]()).eval(), spikes()
    with torch.no_grad():
        net.fc.weight.mul_(4)
    wanted = net(x)[0]
    graph = export_nir(net, x)
    assert wanted.sum() > 20
    assert torch.equal(euler.simulate(graph, x), wanted)
    if "zero" in name:  # its own is the node of NIR that ours is too
        assert torch.equal(import_nir(graph, "spikingjelly")(x), wanted)


SPIKINGJELLY = {
    "LIFNode": lambda: neuron.LIFNode(tau=3.0, v_threshold=0.4),
    "LIFNode soft": lambda: neuron.LIFNode(tau=3.0, v_threshold=0.4, v_reset=None),
    "LIFNode without decay of the input": lambda: neuron.LIFNode(tau=3.0, decay_input=False),
    "LIFNode resting elsewhere": lambda: neuron.LIFNode(tau=3.0, v_threshold=0.4, v_reset=-0.2),
    "ParametricLIFNode": lambda: neuron.ParametricLIFNode(init_tau=2.5, v_threshold=0.4),
    "CUBALIFNode": lambda: neuron.CUBALIFNode(c_decay=0.4, v_decay=0.6, v_reset=0.0),
    "CUBALIFNode soft": lambda: neuron.CUBALIFNode(c_decay=0.4, v_decay=0.6, v_reset=None),
}  # fmt: skip


@pytest.mark.parametrize("name", SPIKINGJELLY)
def test_spikingjellys_own_neurons_are_said(name):
    net, x = nn.Sequential(layer.Linear(IN, OUT), SPIKINGJELLY[name]()).eval(), spikes()
    with torch.no_grad():
        net[0].weight.mul_(4)
    for module in net:
        module.step_mode = "m"
    graph = export_nir(net, x)
    wanted = net(x)
    assert wanted.sum() > 20
    if "resting" in name:
        assert torch.equal(
            import_nir(graph)(x), wanted
        )  # the interpreter begins at 0, as NIR says, the node where it rests
    else:
        assert torch.equal(euler.simulate(graph, x), wanted)
    if "soft" not in name:
        assert torch.equal(import_nir(graph, "spikingjelly")(x), wanted)


def test_an_if_node_comes_back_in_spikingjelly_alone():
    net, x = nn.Sequential(layer.Linear(IN, OUT, step_mode="m"), neuron.IFNode(step_mode="m")).eval(), spikes()
    graph, wanted = export_nir(net, x), net(x)
    assert isinstance(graph.nodes["1"], nir.IF) and wanted.sum() > 20
    assert torch.equal(import_nir(graph, "spikingjelly")(x), wanted)
    with pytest.raises(NIRError, match=r"node '1'.*is an IF.*framework='spikingjelly'"):
        import_nir(graph)


# ------------------------------------------------------------------------------------------------------- layers


LAYERS = {
    "axonal": ({"delay_type": "axonal"}, 2),
    "dendritic": ({"delay_type": "dendritic", "bias": False}, 2),
    "synaptic": ({}, None),
    "between two steps": ({"kernel": "linear"}, None),
    "gaussian": ({"delay_gradient": "gaussian"}, None),
    "few synapses": ({"synapses": 3}, None),
    "no delay": ({"delay": "zeros"}, 1),
    "one delay": ({"delay": 3.0}, 2),
    "smoothed": ({"smoothing": torch.tensor([0.5, 0.3, 0.2])}, None),
}  # fmt: skip


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_delays_gives_the_same_currents(name, discrete):
    if discrete and name in ("smoothed", "between two steps"):
        pytest.skip("has no discrete form")
    options, nodes = LAYERS[name]
    made = delayed(**options).eval()
    net, x = nn.Sequential(made.discretize() if discrete else made), spikes()
    graph, wanted = export_nir(net, x), net(x)
    if nodes is not None:
        assert len(graph.nodes) == nodes + 2
    elif len(graph.nodes) > 4:
        assert [source for source, target in graph.edges if target == "output"] == ["output_sum"]
    torch.testing.assert_close(euler.simulate(graph, x), wanted)
    for framework in FRAMEWORKS:
        again = import_nir(graph, framework)
        torch.testing.assert_close(again(x), wanted)
        torch.testing.assert_close(import_nir(export_nir(again, x), framework)(x), wanted)


def test_a_layer_needs_as_many_branches_as_one_sender_or_receiver_has_lags():
    by_sender = torch.tensor([[0.0, 4.0, 1.0], [2.0, 4.0, 1.0], [2.0, 3.0, 1.0]])  # {0, 2}, {3, 4}, {1}: five lags in all
    for delay, names in (
        (by_sender, ["0_0_delay", "0_0_weight", "0_1_delay", "0_1_weight"]),
        (by_sender.T.contiguous(), ["0_0_weight", "0_0_weight_delay", "0_1_weight", "0_1_weight_delay"]),
    ):
        made = DelayedLinear(3, 3, bias=False, max_delay=4, delay=delay, kernel="round", step_mode=False)
        graph = export_nir(nn.Sequential(made), torch.zeros(2, 1, 3))
        assert sorted(set(graph.nodes) - {"input", "output", "output_sum"}) == names
        assert torch.equal(import_nir(graph)[0].delay, delay)


def test_delays_are_in_seconds_of_the_step_that_is_given():
    made = DelayedLinear(2, 1, max_delay=4, delay=torch.tensor([[1.0, 3.0]]), bias=False, kernel="round")
    graph = export_nir(nn.Sequential(made), torch.zeros(1, 2), dt=2e-3)
    assert graph.nodes["0_delay"].delay.tolist() == [0.002, 0.006]
    assert import_nir(graph)[0].delay.tolist() == [[1.0, 3.0]]  # the graph says its dt
    assert import_nir(graph, dt=1e-3)[0].delay.tolist() == [[2.0, 6.0]]
    with pytest.raises(NIRError, match=r"0_delay.*0\.002 s is no whole number of steps of dt=0.0015 s"):
        import_nir(graph, dt=1.5e-3)


CONVOLUTIONS = {
    "2d": lambda: (DelayedConv2d(2, 4, 3, stride=2, padding=1, max_delay=3, delay="uniform", kernel="round",
                                 step_mode=False), (2, 6, 5)),
    "2d in groups, dilated": lambda: (DelayedConv2d(4, 4, 2, dilation=2, groups=2, bias=False, max_delay=3, delay="uniform",
                                                    delay_gradient="gaussian", step_mode=False), (4, 6, 5)),
    "1d": lambda: (DelayedConv1d(2, 3, 3, padding=1, max_delay=3, delay="uniform", step_mode=False), (2, 7)),
    "without delays, in groups": lambda: (layer.Conv2d(4, 2, 3, groups=2, step_mode="m"), (4, 6, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_with_delays_comes_back(name):
    made, shape = CONVOLUTIONS[name]()
    net, x = nn.Sequential(made).eval(), spikes(*shape)
    graph, wanted = export_nir(net, x), net(x)
    for framework in FRAMEWORKS:
        torch.testing.assert_close(import_nir(graph, framework)(x), wanted)
        torch.testing.assert_close(by_steps(import_nir(graph, framework, sequences=False), x), wanted)


def test_a_network_of_images_comes_back():
    net = nn.Sequential(
        in_spikingjelly.DelayedConv2d(2, 3, 3, max_delay=2, delay="uniform", interpolation="round"),
        neuron.LIFNode(v_threshold=0.1), layer.AvgPool2d(2), layer.Dropout(0.5), layer.Flatten(), layer.Linear(12, OUT),
        in_spikingjelly.AdLIFPlusNode(v_threshold=0.03, features=OUT),
    ).eval()  # fmt: skip
    for module in net:
        module.step_mode = "m"
    x = spikes(2, 6, 6)
    graph, wanted = export_nir(net, x), net(x)
    assert wanted.sum() > 20
    assert [name for name, node in graph.nodes.items() if type(node) is nir.Flatten] == ["4"]
    for framework in FRAMEWORKS:
        again = import_nir(graph, framework)
        assert torch.equal(again(x), wanted)
        in_snntorch.reset(again) if framework == "snntorch" else None
        assert torch.equal(import_nir(export_nir(again, x))(x), wanted)


# -------------------------------------------------------------------------------------------------------- wiring


class Branches(nn.Module):
    """Two layers of one input, a sum past a layer, and a loop over time in the user's hands."""

    def __init__(self):
        super().__init__()
        self.left, self.right = delayed(step_mode=True), delayed(step_mode=True, delay_type="axonal")
        self.hidden = in_snntorch.HeterogeneousLIF(features=OUT, threshold=0.3, reset_mechanism="zero")
        self.last = nn.Linear(OUT, OUT)
        self.out = snn.Leaky(0.8, threshold=0.4)

    def forward(self, x):
        mem, potential, out = None, None, []
        potential = self.out.reset_mem()
        for t in range(x.shape[0]):
            spk, mem = self.hidden(self.left(x[t]) + self.right(x[t]), mem)
            spk, potential = self.out(self.last(spk) + spk, potential)
            out.append(spk)
        return torch.stack(out)


def test_sums_and_branches_are_edges_and_come_back():
    net, x = Branches().eval(), spikes()
    graph = export_nir(net, x)
    assert {("hidden", "last"), ("hidden", "out"), ("last", "out")} <= set(graph.edges)
    wanted = net(x)
    assert wanted.sum() > 20
    assert torch.equal(euler.simulate(graph, x), wanted)


def test_states_of_the_network_are_those_of_the_start_afterwards_and_its_mode_is_as_before():
    net = nn.Sequential(delayed(step_mode=True), in_snntorch.AdLIFPlus(features=OUT, init_hidden=True)).train()
    net(spikes()[0])
    export_nir(net, spikes()[0])
    assert net.training and net[0].history is None and not net[1].mem.numel()


def test_imported_networks_can_be_trained():
    again = import_nir(export_nir(nn.Sequential(delayed(), StateCubaLIF(features=OUT)), spikes()))
    again(spikes()).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in again.parameters())
    assert again[0].delay.grad.abs().sum() > 0


def test_a_model_of_ones_own_comes_back_if_it_is_given():
    from snn_delay_plugins.models import Coefficients, LinearModel, Parameter, membrane_reset

    def coefficients(p, theta, reset, detach_reset):
        jump = membrane_reset(reset, theta, (p["leak"],), detach_reset)
        return Coefficients(theta=theta, A=((p["leak"],),), B=(0.5,), **jump)

    own = LinearModel(name="Own", states=("mem",), parameters={"leak": Parameter(0.4, 0.9)}, coefficients=coefficients)
    net, x = nn.Sequential(delayed(), in_snntorch.from_model(own)[1](features=OUT)).eval(), spikes()
    graph = export_nir(net, x)
    assert torch.equal(euler.simulate(graph, x), net(x))
    with pytest.raises(NIRError, match="the model 'Own' is not known; give it with models="):
        import_nir(graph)
    for framework in FRAMEWORKS:
        assert torch.equal(import_nir(graph, framework, models=[own])(x), net(x))


def test_heterogeneous_thresholds_are_scaled_into_one_where_the_framework_has_one():
    thresholds = torch.linspace(0.2, 0.5, OUT)
    net = nn.Sequential(delayed(), StateHeterogeneousLIF(features=OUT, threshold=thresholds, reset_mechanism="zero")).eval()
    graph, x = export_nir(net, spikes()), spikes()
    assert torch.equal(import_nir(graph)(x), net(x)) and torch.equal(import_nir(graph, "spikingjelly")(x), net(x))


def documented() -> dict[str, tuple[int, str, str]]:
    """By neuron, its row in the table of docs/nir.md: its place there, and what it becomes by reset."""
    lines = (
        (Path(__file__).resolve().parents[2] / "docs" / "nir.md").read_text().partition("| neuron |")[2].splitlines()[2:]
    )
    found = {}
    for line in lines[: lines.index("")]:
        neurons, kept, zero = (cell.strip() for cell in line.split("|")[1:4])
        found |= {name: (place, kept, zero) for place, name in enumerate(neurons.split(", "))}
    return found


@pytest.mark.parametrize("name", MODELS)
def test_neurons_become_what_the_table_of_the_docs_says(name):
    place, kept, zero = documented()[name]

    def node(reset, **options):
        made = getattr(in_snntorch, f"State{name}")(features=OUT, reset_mechanism=reset)
        return export_nir(nn.Sequential(made), spikes(OUT), **options).nodes["0"]

    counts = re.findall(r"(\d+) \((\d+)", kept)
    if counts:
        subtracted, none = counts[min(place, len(counts) - 1)]
        assert [len(node(reset).nodes) - 2 for reset in ("subtract", "none")] == [int(subtracted), int(none)]
    for reset, said in (("zero", zero), *(() if counts else [(MODELS[name].resets[0], kept)])):
        if said.startswith("custom"):
            with pytest.raises(NIRError, match=r"^0: "):
                node(reset)
            assert type(node(reset, custom_nodes=True)).__name__ == "CustomNeuron"
        elif said:
            assert f"`{type(node(reset)).__name__}`" == said


RECURRENT = {
    "AdLIFPlus": lambda: StateAdLIFPlus(features=OUT, threshold=0.3),
    "LIF that is reset to zero": lambda: StateHeterogeneousLIF(features=OUT, threshold=0.3, reset_mechanism="zero"),
}


@pytest.mark.parametrize(
    "options", [{"delay": "uniform"}, {"delay": "uniform", "synapses": 3}, {"delay_type": "axonal"}, {}]
)
@pytest.mark.parametrize("name", RECURRENT)
def test_delayed_recurrent_neurons_come_back_and_run_in_nirtorch(name, options, tmp_path):
    layer_ = in_snntorch.DelayedRecurrent(RECURRENT[name](), max_delay=3, kernel="round", **options)
    with torch.no_grad():
        layer_.weight.mul_(3)
    net, x = nn.Sequential(delayed(), layer_).eval(), spikes()
    wanted = net(x)
    without = net[1].neuron(net[0](x))
    assert wanted.sum() > 20 and not torch.equal(wanted, without)
    export_nir(net, x, tmp_path / "net.nir")
    for framework in FRAMEWORKS:
        assert torch.equal(import_nir(tmp_path / "net.nir", framework)(x), wanted)
        assert torch.equal(by_steps(import_nir(tmp_path / "net.nir", framework, sequences=False), x), wanted)
    assert torch.equal(euler.simulate(nir.read(tmp_path / "net.nir"), x), wanted)
