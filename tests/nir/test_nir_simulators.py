"""Exported graphs in the readers of others, which have NIR's primitives; and trained networks, whose accuracy stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

nir = pytest.importorskip("nir")
pytest.importorskip("snntorch")
pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import functional, layer  # noqa: E402

from snn_delay_plugins import calibrate  # noqa: E402
from snn_delay_plugins import snntorch as in_snntorch  # noqa: E402
from snn_delay_plugins import spikingjelly as in_spikingjelly  # noqa: E402
from snn_delay_plugins.nir import export_nir, import_nir  # noqa: E402

IN, HIDDEN, OUT, STEPS = 12, 8, 6, 60


@pytest.fixture
def spikes():
    torch.manual_seed(1)
    return (torch.rand(STEPS, 2, IN) < 0.4).float()


def network(alpha: float | None, kind: str = "HeterogeneousLIF") -> nn.Sequential:
    neurons = getattr(in_snntorch, f"State{kind}")
    options = {} if alpha is None else {"alpha": alpha}
    net = nn.Sequential(
        nn.Linear(IN, HIDDEN), neurons(features=HIDDEN, reset_mechanism="zero", threshold=0.3, **options),
        nn.Linear(HIDDEN, OUT),
        in_snntorch.StateHeterogeneousLIF(**options, features=OUT, reset_mechanism="zero", threshold=0.2),
    ).eval()  # fmt: skip
    with torch.no_grad():
        net[0].weight.mul_(3)
        net[2].weight.mul_(3)
    return net


def run(net, x):
    state, outputs = None, []
    for step in x:
        out, state = net(step, state)
        outputs.append(out)
    return torch.stack(outputs)


@pytest.mark.parametrize("kind", ["HeterogeneousLIF", "CubaLIF"])
def test_norse_gives_the_same_spikes(kind, spikes, tmp_path):
    norse = pytest.importorskip("norse.torch", reason="pip install norse")
    net = network(None, kind)
    wanted = net(spikes)
    assert wanted.sum() > 20
    export_nir(net, spikes, tmp_path / "net.nir")
    assert torch.equal(run(norse.from_nir(nir.read(tmp_path / "net.nir"), dt=1e-4), spikes), wanted)


def test_the_readers_of_spikingjelly_and_snntorch_give_the_same_spikes(spikes, tmp_path):
    pytest.importorskip("nirtorch")
    from snntorch.import_nir import import_from_nir as into_snntorch
    from spikingjelly.activation_based.nir_exchange import import_from_nir as into_spikingjelly

    net = network(0.8)  # both know one leak for all neurons
    wanted = net(spikes)
    assert wanted.sum() > 20
    export_nir(net, spikes, tmp_path / "net.nir")
    assert torch.equal(run(into_spikingjelly(tmp_path / "net.nir", dt=1e-4), spikes), wanted)
    assert torch.equal(run(into_snntorch(nir.read(tmp_path / "net.nir")), spikes), wanted)


def test_what_spikingjelly_exports_is_read(spikes, tmp_path):
    pytest.importorskip("nirtorch")
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    net = nn.Sequential(layer.Linear(IN, OUT), neuron.LIFNode(tau=3.0, v_threshold=0.2)).eval()
    functional.set_step_mode(net, "m")
    graph = export_to_nir(net, spikes)
    wanted = net(spikes)
    assert wanted.sum() > 20
    for framework in ("snntorch", "spikingjelly"):
        assert torch.equal(import_nir(graph, framework)(spikes), wanted)


# ------------------------------------------------------------------------------------------------------ training


def order_of_two(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of two channels spiked first, some steps apart: ``[T, N, 2]``, and the channel."""
    first = torch.randint(0, 2, (samples,))
    start, apart = torch.randint(0, 4, (samples,)), torch.randint(2, 6, (samples,))
    x = torch.zeros(16, samples, 2)
    x[start, torch.arange(samples), first] = 1.0
    x[start + apart, torch.arange(samples), 1 - first] = 1.0
    return x, first


def of_snntorch():
    delays = in_snntorch.DelayedLinear(2, 16, max_delay=6, delay="uniform", delay_gradient="gaussian", sigma=1.0,
                                       step_mode=False)  # fmt: skip
    return nn.Sequential(
        delays, in_snntorch.StateAdLIFPlus(features=16, threshold=0.5), nn.Linear(16, 2),
        in_snntorch.StateHeterogeneousLIF(features=2, reset_mechanism="zero", threshold=0.5),
    )  # fmt: skip


def of_spikingjelly():
    net = nn.Sequential(
        in_spikingjelly.DelayedLinear(2, 16, max_delay=6, delay="uniform", delay_gradient="gaussian", sigma=1.0),
        in_spikingjelly.CubaLIFNode(features=16, v_threshold=0.3), layer.Linear(16, 2),
        in_spikingjelly.HeterogeneousLIFNode(features=2, v_reset=0.0, v_threshold=0.5),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    return net


@pytest.mark.parametrize("make", [of_snntorch, of_spikingjelly])
def test_a_trained_network_keeps_its_accuracy(make, tmp_path):
    torch.manual_seed(0)
    net = make()
    calibrate(net, order_of_two(64)[0])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(100):
        x, label = order_of_two(64)
        functional.reset_net(net)
        loss = nn.functional.cross_entropy(net(x).sum(0), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, label = order_of_two(500)
    export_nir(net, x[:, :2], tmp_path / "net.nir")
    functional.reset_net(net.eval())
    accuracy = (net(x).sum(0).argmax(1) == label).float().mean()
    assert accuracy > 0.9
    for framework in ("snntorch", "spikingjelly"):
        again = import_nir(tmp_path / "net.nir", framework)
        assert (again(x).sum(0).argmax(1) == label).float().mean() == accuracy
