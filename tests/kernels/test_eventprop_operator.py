"""EventProp as torch operators: registrations, torch.compile, autocast, data-parallel training, memory."""

import subprocess
import sys

import pytest
import torch
import torch._dynamo
from torch import nn

from snn_delay_plugins import EventPropLI, EventPropLIF
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.kernels.eventprop import operator as operators

DYNAMIC = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)  # the number of spikes
INPUTS, HIDDEN, SAMPLES, DURATION = 6, 10, 3, 60.0  # more neurons than one block of the loops


def events(dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    counts = [9, 0, 5]
    times = [torch.rand(n, generator=g, dtype=torch.float64) * DURATION for n in counts]
    units = [torch.randint(0, INPUTS, (n,), generator=g) for n in counts]
    return SpikeEvents.from_lists(times, units, num_units=INPUTS, duration=DURATION, dtype=dtype)


def parameters(shape, dtype=torch.float64, seed=1):
    g = torch.Generator().manual_seed(seed)
    weight = torch.rand(shape, generator=g, dtype=dtype) * 3
    delay = torch.rand(shape, generator=g, dtype=dtype) * 20
    return [weight.requires_grad_(), delay.requires_grad_()]


def constants(grid):
    return [torch.tensor(x, dtype=torch.float64, requires_grad=not grid) for x in (20.0, 5.0)]


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("grid", [False, True])
def test_opcheck_of_the_lif_layer(grid, recurrent):
    e = events()
    e.times.requires_grad_()
    synapses = parameters((HIDDEN, INPUTS)) + (parameters((HIDDEN, HIDDEN)) if recurrent else [None, None])
    theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    tensors = (e.times, e.units, e.offsets, *synapses, *constants(grid), theta)
    torch.library.opcheck(operators.eventprop_lif, (*tensors, DURATION, 1.0, grid, 1000))
    tensors = [None if x is None else x.detach() for x in tensors]
    spikes, potential, *rest = operators.eventprop_lif(*tensors, DURATION, 1.0, grid, 1000)
    assert spikes.numel() >= HIDDEN
    for g_potential, wanted in ((torch.ones_like(potential), (True, True, not grid)), (None, (False, True, False))):
        arguments = (torch.ones_like(spikes), g_potential, *tensors, *rest, DURATION, 1.0, grid, *wanted)
        torch.library.opcheck(operators.eventprop_lif_backward, arguments)


@pytest.mark.parametrize("kind", operators.KINDS)
@pytest.mark.parametrize("grid", [False, True])
def test_opcheck_of_the_readout(grid, kind):
    if grid and kind != "voltage":
        pytest.skip("the grid scheme reduces the voltage")
    e = events()
    e.times.requires_grad_()
    tensors = (e.times, e.units, e.offsets, *parameters((4, INPUTS)), *constants(grid))
    torch.library.opcheck(operators.eventprop_li, (*tensors, DURATION, 1.0, grid, kind))
    tensors = [x.detach() for x in tensors]
    result, *rest = operators.eventprop_li(*tensors, DURATION, 1.0, grid, kind)
    arguments = (torch.ones_like(result), *tensors, *rest, DURATION, 1.0, grid, kind, True, True, not grid)
    torch.library.opcheck(operators.eventprop_li_backward, arguments)


def test_opcheck_of_the_discounted_arrivals():
    e = events()
    e.times.requires_grad_()
    tensors = (e.times, e.units, e.offsets, *parameters((4, INPUTS)))
    torch.library.opcheck(operators.eventprop_arrivals, (*tensors, 0.01, DURATION))
    tensors = [x.detach() for x in tensors]
    grad = torch.ones(SAMPLES, 4, dtype=torch.float64)
    torch.library.opcheck(operators.eventprop_arrivals_backward, (grad, *tensors, 0.01, DURATION, True))


@DYNAMIC
@pytest.mark.parametrize("mode", ["exact", "grid"])
def test_compile_traces_through_without_a_graph_break(mode):

    def network(times, units, offsets, w, d, wr, dr, out):
        inputs = SpikeEvents._trusted(times, units, offsets, INPUTS, DURATION)
        hidden = eventprop_lif(inputs, w, d, recurrent_weight=wr, recurrent_delay=dr, spike_times=mode)
        voltage = eventprop_li(hidden, out, spike_times=mode)
        return voltage.square().mean() + 1e-3 * hidden.times.sum()

    e, runs = events(), []
    for function in (torch.compile(network, fullgraph=True, backend="aot_eager"), network):
        leaves = [*parameters((HIDDEN, INPUTS)), *parameters((HIDDEN, HIDDEN), seed=2), parameters((4, HIDDEN))[0]]
        value = function(e.times, e.units, e.offsets, *leaves)
        runs.append((value, *torch.autograd.grad(value, leaves)))
    for compiled, eager in zip(*runs, strict=True):
        assert torch.equal(compiled, eager)


@DYNAMIC
def test_compiled_code_refuses_what_eager_code_refuses():
    e, (w, d) = events(), parameters((HIDDEN, INPUTS))

    def layer(times, w, d):
        return eventprop_lif(SpikeEvents._trusted(times, e.units, e.offsets, INPUTS, DURATION), w, d).times

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for bad in (-1.0, float("nan")):
        with pytest.raises(Exception, match="delay"):
            compiled(e.times, w, torch.full_like(d, bad))


def test_autocast_changes_nothing():
    e, (w, d) = events(), parameters((HIDDEN, INPUTS), torch.float32)
    expected = eventprop_lif(e, w, d)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = eventprop_lif(e, w, d)
        voltage = eventprop_li(hidden, w.detach().new_ones(4, HIDDEN))
    assert torch.equal(hidden.times, expected.times) and voltage.dtype == torch.float64


@pytest.mark.filterwarnings("ignore:no neuron")
def test_data_parallel_training_passes_through(process_group):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            options = {"delay": "uniform", "max_delay": 20, "weight_init": (2.0, 0.5)}
            self.hidden = EventPropLIF(INPUTS, HIDDEN, recurrent=True, **options)
            self.readout = EventPropLI(HIDDEN, 4)

        def forward(self, dense):
            return self.readout(self.hidden(dense))

    dense = (torch.rand(60, 2, INPUTS, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    net = Net()
    net(dense).square().sum().backward()
    alone = [p.grad.clone() for p in net.parameters()]
    assert all(g.abs().max() > 0 for g in alone)
    net.zero_grad()
    nn.parallel.DistributedDataParallel(net)(dense).square().sum().backward()
    for p, expected in zip(net.parameters(), alone, strict=True):
        assert torch.equal(p.grad, expected)


GROWTH = """
import resource, torch
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
torch.manual_seed(0)
times, units = torch.rand(4, 500).double() * 100, torch.randint(0, 50, (4, 500))
events = SpikeEvents.from_lists(list(times), list(units), num_units=50, duration=100.0)
p = [(torch.rand(s) * f).requires_grad_() for s, f in (((20, 50), 0.3), ((20, 50), 20.0), ((4, 20), 1.0))]
for k in range(400):
    mode = ("exact", "grid")[k % 2]
    hidden = eventprop_lif(events, p[0], p[1], spike_times=mode)
    loss = eventprop_li(hidden, p[2], spike_times=mode).square().mean()
    torch.autograd.grad(loss, p)
    if k == 100:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is not on Windows")
def test_hundreds_of_steps_do_not_make_memory_grow():
    run = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, timeout=300)
    assert int(run.stdout) < 4096  # KiB; the tables of one layer leaked per step would be 18 MiB
