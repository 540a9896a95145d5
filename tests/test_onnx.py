"""``torch.onnx.export(dynamo=True)`` of every layer and neuron, equal in onnxruntime."""

from __future__ import annotations

import os
import warnings

import pytest
import torch
from torch import nn

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'snn_delay_plugins[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'snn_delay_plugins[onnx]'")
pytest.importorskip("snntorch")
pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import functional, layer, neuron  # noqa: E402

from snn_delay_plugins import EventPropAdLIF, EventPropLI, EventPropLIF  # noqa: E402
from snn_delay_plugins import snntorch as in_snntorch  # noqa: E402
from snn_delay_plugins import spikingjelly as in_spikingjelly  # noqa: E402
from snn_delay_plugins.models import MODELS  # noqa: E402

STEPS, BATCH, IN, OUT = 5, 2, 6, 4
pytestmark = pytest.mark.skipif(torch.__version__ < "2.9", reason="older exporters do not say that they are at work")


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(STEPS, BATCH, *(shape or (IN,))) < 0.5).float()


def in_onnxruntime(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        program = torch.onnx.export(net, (x,), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def neurons(name: str):
    return lambda: getattr(in_snntorch, f"State{name}")(features=IN, threshold=0.3)


def linear(**options):
    return lambda: in_snntorch.DelayedLinear(IN, OUT, **{"max_delay": 3, "delay": "uniform", "step_mode": False, **options})


NETWORKS = {
    **{f"State{name}": neurons(name) for name in MODELS},
    "AdLIFPlus, symplectic": lambda: in_snntorch.StateAdLIFPlus(features=IN, threshold=0.3, variant="symplectic"),
    "AdLIFPlus, zero": lambda: in_snntorch.StateAdLIFPlus(features=IN, threshold=0.3, reset_mechanism="zero"),
    "DelayedLinear": linear(),
    "DelayedLinear, gaussian": linear(delay_gradient="gaussian"),
    "DelayedLinear, axonal, long": linear(delay_type="axonal", max_delay=100, delay=2.5),
    "DelayedLinear, few synapses": linear(synapses=2),
    "DelayedLinear, smoothed": linear(smoothing=torch.tensor([0.6, 0.4])),
    "discrete": lambda: linear(delay_gradient="gaussian")().eval().discretize(),
}  # fmt: skip

WHOLE = os.environ.get("SNN_DELAY_PLUGINS_COMPILE") == "all"  # an export takes seconds
FEW = ("StateAdLIFPlus", "StateBalancedResonateAndFire", "DelayedLinear, few synapses", "discrete")


@pytest.mark.parametrize("name", NETWORKS if WHOLE else FEW)
def test_a_layer_or_neuron_of_snntorch_is_equal_in_onnxruntime(name):
    torch.manual_seed(2)
    net, x = NETWORKS[name]().eval(), 2 * spikes() if "State" in name or "AdLIF" in name else spikes()
    wanted = net(x).detach()
    assert wanted.count_nonzero() > 0
    torch.testing.assert_close(in_onnxruntime(net, x), wanted)


@pytest.mark.parametrize("name", ["linear", "images"] if WHOLE else ["images"])
def test_a_network_of_spikingjelly_is_equal_in_onnxruntime(name):
    torch.manual_seed(2)
    if name == "linear":
        net, x = nn.Sequential(
            in_spikingjelly.DelayedLinear(IN, 8, max_delay=3, delay="uniform"),
            in_spikingjelly.AdLIFPlusNode(v_threshold=0.2, features=8), layer.Linear(8, OUT),
            in_spikingjelly.CubaLIFNode(v_threshold=0.1, features=OUT),
        ), spikes()  # fmt: skip
    else:
        net, x = nn.Sequential(
            in_spikingjelly.DelayedConv2d(2, 3, 3, padding=1, max_delay=2, delay="uniform", delay_gradient="gaussian"),
            neuron.LIFNode(v_threshold=0.3), layer.Flatten(), in_spikingjelly.DelayedLinear(75, OUT, max_delay=2),
        ), spikes(2, 5, 5)  # fmt: skip
    functional.set_step_mode(net.eval(), "m")
    wanted = net(x).detach()
    functional.reset_net(net)
    assert wanted.count_nonzero() > 0
    torch.testing.assert_close(in_onnxruntime(net, x), wanted)


@pytest.mark.parametrize("make", [EventPropLIF, EventPropLI, EventPropAdLIF] if WHOLE else [EventPropLIF])
def test_eventprop_is_refused_with_the_reason(make):
    with pytest.raises(Exception, match="cannot be exported to ONNX: EventProp computes with lists of spikes"):
        in_onnxruntime(make(IN, OUT).eval(), spikes())


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_discrete_form_of_eventprop_is_equal_in_onnxruntime(recurrent):
    torch.manual_seed(0)
    synapses = {"recurrent": True, "recurrent_weight_init": (4.0, 2.0)} if recurrent else {}
    layer_ = EventPropLIF(IN, OUT, max_delay=3.0, delay="uniform", weight_init=(4.0, 1.0), output="dense", **synapses)
    made = layer_.eval().discretize(dt=1.0)
    x = spikes()
    wanted = made(x).detach()
    assert wanted.count_nonzero() > 0
    torch.testing.assert_close(in_onnxruntime(made, x), wanted)
