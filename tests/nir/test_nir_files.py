"""Files and graphs that are damaged, cyclic or of unknown nodes, and networks that no graph says: clear errors."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from torch import nn

nir = pytest.importorskip("nir")
pytest.importorskip("snntorch")
pytest.importorskip("spikingjelly")
from snn_delay_plugins import EventPropLIF  # noqa: E402
from snn_delay_plugins import snntorch as in_snntorch  # noqa: E402
from snn_delay_plugins.nir import NIRError, export_nir, import_nir  # noqa: E402
from snn_delay_plugins.snntorch import DelayedLinear, DelayedRecurrent, StateAdLIFPlus  # noqa: E402


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    delay = torch.tensor([[0.0, 1, 2, 1], [1, 1, 2, 1], [1, 2, 0, 0]])  # two lags of each sender
    synapses = DelayedLinear(4, 3, max_delay=2, delay=delay, kernel="round", step_mode=False)
    net = nn.Sequential(synapses, StateAdLIFPlus(features=3))
    export_nir(net, torch.zeros(2, 1, 4), tmp_path / "net.nir")
    return tmp_path / "net.nir"


# -------------------------------------------------------------------------------------------------------- files


def test_a_file_that_is_not_there_or_none_of_nir_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone\.nir"):
        import_nir(tmp_path / "gone.nir")
    (tmp_path / "text.nir").write_text("not HDF5")
    with pytest.raises(NIRError, match=r"text.nir is damaged or no NIR file"):
        import_nir(tmp_path / "text.nir")
    with h5py.File(tmp_path / "other.nir", "w") as file:
        file["data"] = [1, 2]
    with pytest.raises(NIRError, match=r"other.nir is damaged or no NIR file"):
        import_nir(str(tmp_path / "other.nir"))


def test_a_file_that_ends_early_is_refused(path):
    whole = path.read_bytes()
    for length in (len(whole) // 2, len(whole) - 100, 200, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(NIRError, match="is damaged or no NIR file"):
            import_nir(path)


def change(path, what):
    with h5py.File(path, "r+") as file:
        what(file["node"])


def drop(*place):
    def what(node):
        for name in place[:-1]:
            node = node[name]
        del node[place[-1]]

    return what


def put(value, *place):
    def what(node):
        for name in place[:-1]:
            node = node[name]
        del node[place[-1]]
        node[place[-1]] = value

    return what


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (drop("nodes", "0_0_weight", "weight"), "node '0_0_weight': is a damaged Linear, which has weight"),
        (drop("nodes", "0_0_weight", "type"), "node '0_0_weight', is no node of NIR: it has no type|0_0_weight'.*no type"),
        (put("Quantum", "nodes", "0_0_weight", "type"), "0_0_weight'.*has the type 'Quantum', which neither NIR nor"),
        (put(np.zeros(3), "nodes", "0_0_weight", "weight"), "0_0_weight.*damaged Linear.*at least 2D"),
        (drop("nodes", "0_0_weight"), "no node '0_0_weight'"),
        (drop("edges"), "a graph without nodes or edges"),
        (put([[b"input", b"output"]], "edges"), "its input does not reach"),
        (drop("nodes", "1", "metadata", "snn_delay_plugins", "model"), "has a cycle"),
        (
            put("Nothing", "nodes", "1", "metadata", "snn_delay_plugins", "model"),
            "node '1': the model 'Nothing' is not known",
        ),
        (put(np.ones(5), "nodes", "1", "metadata", "snn_delay_plugins", "parameters", "alpha"), "node '1': .*alpha"),
        (
            put(np.full(3, np.nan), "nodes", "1", "metadata", "snn_delay_plugins", "parameters", "alpha"),
            "node '1': .*alpha",
        ),
        (put("soon", "metadata", "dt"), "its metadata has dt=.*soon"),
        (put(np.nan, "metadata", "dt"), "its metadata has dt=.*nan.*, no positive number of seconds"),
        (put("soon", "edges"), r"its edges are no pairs of nodes but of shape \(\)"),
        (put(np.full((3, 4), np.nan), "nodes", "0_0_weight", "weight"), "node '0_0_weight': weight has a value of nan"),
        (put(np.ones((6, 4)), "nodes", "0_0_weight", "weight"), "takes 3 elements, '0_0_weight' before it gives 6"),
        (put(np.ones(5), "nodes", "0_1_weight", "bias"), r"'0_1_weight': its bias has the shape \(5,\), its weight"),
        (put("soon", "nodes", "0_1_weight", "bias"), "node '0_1_weight': bias must be numbers, got 'soon'"),
        (drop("nodes", "1", "metadata", "snn_delay_plugins", "parameters"), "node '1': its metadata is damaged"),
        (put("soon", "nodes", "1", "metadata", "snn_delay_plugins", "shape"), "node '1': its metadata is damaged"),
        (put(np.full(4, np.nan), "nodes", "0_0_delay", "delay"), "node '0_0_delay': a delay of nan s is no whole number"),
        (
            put(np.full(4, -1e-4), "nodes", "0_0_delay", "delay"),
            "node '0_0_delay': a delay of -0.0001 s is no whole number",
        ),
        (put(np.full(3, 1e-4), "nodes", "0_0_delay", "delay"), "takes 4 elements, '0_0_delay' before it gives 3"),
    ],
)
def test_a_damaged_node_is_named(path, what, said):
    change(path, what)
    with pytest.raises(NIRError, match=said):
        import_nir(path)


# ------------------------------------------------------------------------------------------------------- graphs


def lif(n=2, **values):
    of = {"tau": 1e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, **values}
    return nir.LIF(**{name: np.full(n, value) for name, value in of.items()})


def graph(nodes, edges, size=2):
    ends = {"input": nir.Input({"input": np.array([size])}), "output": nir.Output({"output": np.array([size])})}
    return nir.NIRGraph({**ends, **nodes}, edges, type_check=False)


@pytest.mark.parametrize(
    ("nodes", "edges", "said"),
    [
        ({"a": lif(), "w": nir.Linear(np.eye(2))}, [("input", "a"), ("a", "w"), ("w", "a"), ("a", "output")],
         "has a cycle, .*'a'.*'w'.*: recurrent graphs are read where"),
        ({"a": lif()}, [("input", "a"), ("a", "a"), ("a", "output")], "has a cycle"),
        ({"a": nir.I(np.ones(2))}, [("input", "a"), ("a", "output")], "node 'a': no layer or neuron here is a I"),
        ({"a": lif()}, [("input", "a"), ("a", "b")], "an edge 'a' -> 'b', but no node 'b'"),
        ({"a": lif()}, [("input", "a"), ("input", "a"), ("a", "output")], "the edge 'input' -> 'a' twice"),
        ({"a": lif(), "b": lif()}, [("input", "a"), ("a", "output")], "its input does not reach 'b'"),
        ({"a": lif(), "more": nir.Input({"input": np.array([2])})}, [("input", "a"), ("more", "a"), ("a", "output")],
         "needs one Input node, has 2"),
        ({"a": lif(3)}, [("input", "a"), ("a", "output")], "node 'a': takes 3 elements, 'input' before it gives 2"),
        ({"a": lif(r=np.inf)}, [("input", "a"), ("a", "output")], "node 'a': r has a value of inf"),
        ({"a": lif(tau=1e-4)}, [("input", "a"), ("a", "output")], "'a': tau must be longer than a step of dt=0.0001 s"),
        ({"a": lif(v_reset=0.5)}, [("input", "a"), ("a", "output")], "node 'a': v_reset = 0.5 beside v_leak = 0"),
        ({"a": lif(v_threshold=-1.0)}, [("input", "a"), ("a", "output")], "node 'a': v_threshold must lie above v_leak"),
        ({"w": nir.Affine(np.eye(2), np.ones(2)), "d": nir.Delay(np.full(2, 1e-4))},
         [("input", "w"), ("w", "d"), ("d", "output")], "node 'w': a bias before a Delay begins late"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_a_graph_that_no_layer_runs_is_refused_by_its_node(nodes, edges, said, framework):
    with pytest.raises(NIRError, match=said):
        import_nir(graph(nodes, edges), framework)


def test_arguments_of_import_are_checked():
    right = graph({"a": lif()}, [("input", "a"), ("a", "output")])
    with pytest.raises(ValueError, match="framework must be one of"):
        import_nir(right, "norse")
    for dt in (0, -1.0, "1", True):
        with pytest.raises(ValueError, match="dt must be a positive number of seconds"):
            import_nir(right, dt=dt)
    with pytest.raises(TypeError, match=r"graph must be a nir\.NIRGraph or the path of a file, got LIF"):
        import_nir(lif())


def test_a_foreign_graph_of_nested_parts_and_a_delay_of_its_own_is_read():
    inner = graph({"d": nir.Delay(np.array([0.0, 2e-4])), "a": lif(v_threshold=0.05)},
                  [("input", "d"), ("d", "a"), ("a", "output")])  # fmt: skip
    whole = graph({"part": inner, "w": nir.Linear(np.eye(2))}, [("input", "part"), ("part", "w"), ("w", "output")])
    x = torch.zeros(6, 1, 2)
    x[0] = 1.0
    for framework in ("snntorch", "spikingjelly"):
        assert import_nir(whole, framework)(x)[:, 0].tolist() == [[1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]]


def test_one_long_delay_of_a_file_costs_no_memory_and_one_beyond_what_layers_have_is_refused():
    def with_a_delay_of(steps):
        weights = nir.Linear(np.ones((300, 300)))  # a lag of a million steps for each: 670 GiB
        delays = nir.Delay(np.r_[np.zeros(299), steps * 1e-4])
        return graph({"d": delays, "w": weights}, [("input", "d"), ("d", "w"), ("w", "output")], size=300)

    layer = import_nir(with_a_delay_of(1e6))[0]
    assert layer.max_delay == 10**6
    assert layer.delay[0, 298:].round().tolist() == [0.0, 1e6]
    with pytest.raises(NIRError, match=r"node 'd': a delay of 1e\+09 s is 1e\+13 steps of dt=0\.0001 s.*at most 16777216"):
        import_nir(with_a_delay_of(1e13))


# ----------------------------------------------------------------------------------------------------- networks


class Changed(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.fc, self.lif, self.how = nn.Linear(3, 3), in_snntorch.StateHeterogeneousLIF(features=3), how

    def forward(self, x):
        return self.how(self, x)


NETWORKS = {
    "takes the input after relu": lambda net, x: net.lif(torch.relu(x)),
    "takes 'fc' after mul": lambda net, x: net.lif(net.fc(x) * 2),
    "takes 'fc' after __add__|takes 'fc' after add": lambda net, x: net.lif(net.fc(x) + 1),
    "takes 'lif' after .*getitem": lambda net, x: net.lif(net.fc(x))[5:],
    "takes 'lif' after .*sum": lambda net, x: net.lif(net.fc(x)).sum(0),
    "fc: is called on .* and on .*NIR has no shared weights": lambda net, x: net.fc(net.lif(net.fc(x))),
    "comes from neither the input nor another module": lambda net, x: net.lif(torch.ones(4, 1, 3)),
    "returns nothing that comes from one of its modules": lambda net, x: torch.ones(1),
}  # fmt: skip


@pytest.mark.parametrize("said", NETWORKS)
def test_a_network_that_no_graph_says_is_refused_by_what_it_does(said):
    with pytest.raises(NIRError, match=said):
        export_nir(Changed(NETWORKS[said]), torch.zeros(6, 1, 3))


class Doubled(DelayedLinear):
    def __init__(self, *sizes):
        super().__init__(*sizes, max_delay=2, step_mode=False)

    def forward(self, input_):
        return 2 * super().forward(input_)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: in_snntorch.HeterogeneousLIF(features=3, inhibition=True, init_hidden=True), "inhibition=True"),
        (lambda: in_snntorch.HeterogeneousLIF(features=3, init_state="uniform", init_hidden=True), "init_state='uniform'"),
        (lambda: DelayedLinear(3, 3, max_delay=2, padding="full", step_mode=False), "padding='full' lengthens sequences"),
        (lambda: EventPropLIF(3, 3), "EventPropLIF computes with events"),
        (lambda: DelayedRecurrent(StateAdLIFPlus(features=3, graded_spikes_factor=2.0), max_delay=2), "scale the weights"),
        (lambda: Doubled(3, 3), "NIR has no node for Doubled"),
        (lambda: nn.BatchNorm1d(3), "NIR has no node for BatchNorm1d"),
        (lambda: nn.ReLU(), "NIR has no node for ReLU"),
    ],
)
def test_a_module_that_nir_has_no_word_for_is_refused_by_its_option(module, said):
    made = module()
    sequences = getattr(made, "step_mode", None) is False or getattr(made, "takes_sequences", False)
    steps = torch.zeros(6, 1, 3) if sequences else torch.zeros(6, 3)
    with pytest.raises(NIRError, match=f"0: .*{said}"):
        export_nir(nn.Sequential(made), steps)


def test_what_is_given_to_export_is_checked():
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, got list"):
        export_nir([], torch.zeros(1))
    with pytest.raises(TypeError, match=r"sample must be a tensor.*got list"):
        export_nir(nn.Linear(1, 1), [1.0])
    with pytest.raises(ValueError, match="dt must be a positive number of seconds, got 0"):
        export_nir(nn.Linear(1, 1), torch.zeros(1, 1), dt=0)


def test_spikingjellys_own_exporter_names_ours():
    nir_exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    from snn_delay_plugins.spikingjelly import AdLIFPlusNode
    from snn_delay_plugins.spikingjelly import DelayedLinear as Layer

    for module in (AdLIFPlusNode(features=3), Layer(3, 3, max_delay=2)):
        with pytest.raises(TypeError, match=r"to export to NIR use snn_delay_plugins\.nir\.export_nir"):
            nir_exchange.export_to_nir(nn.Sequential(nn.Linear(3, 3), module), torch.zeros(2, 3))
