"""EventProp in Triton: equal to the CPU kernels in the interpreter; compiled for a GPU that is not here; on one at hand."""

import re

import pytest
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.kernels.eventprop import operator as operators

pytest.importorskip("triton", reason="triton is not installed: the CUDA kernels cannot be tested here")

POINTERS = {
    "*i64": {"units", "row", "offsets", "ranges", "where", "where_", "start", "step", "list_step", "sample", "place",
             "position", "node_u", "sent", "peak_e"},
    "*i32": {"count", "head", "chain", "first", "follow"},
}  # fmt: skip
KERNELS = [
    ("grid_kernels", "scatter_kernel", {}), ("grid_kernels", "lif_kernel", {}), ("grid_kernels", "li_kernel", {}),
    ("grid_kernels", "adjoint_kernel", {"SAMPLED": True}), ("grid_kernels", "adjoint_kernel", {"SAMPLED": False}),
    ("grid_kernels", "gather_kernel", {}), ("grid_kernels", "gather_times_kernel", {}),
    ("grid_kernels", "recurrent_kernel", {}), ("grid_kernels", "recurrent_adjoint_kernel", {}),
    ("exact_kernels", "scatter_kernel", {"INHIBITED": True, "CHAINED": True}),
    ("exact_kernels", "scatter_kernel", {"INHIBITED": False, "CHAINED": False}),
    ("exact_kernels", "lif_kernel", {"INHIBITED": True}), ("exact_kernels", "lif_kernel", {"INHIBITED": False}),
    ("exact_kernels", "li_kernel", {}), ("exact_kernels", "recurrent_kernel", {"INHIBITED": True}),
    ("exact_adjoint_kernels", "adjoint_kernel", {"SAMPLED": True}),
    ("exact_adjoint_kernels", "adjoint_kernel", {"SAMPLED": False}),
    ("exact_adjoint_kernels", "gather_kernel", {}), ("exact_adjoint_kernels", "gather_times_kernel", {}),
    ("exact_adjoint_kernels", "recurrent_adjoint_kernel", {}),
    ("peak_kernels", "peak_kernel", {}),
    ("arrivals", "_forward_kernel", {}), ("arrivals", "_weight_kernel", {}), ("arrivals", "_times_kernel", {}),
]  # fmt: skip


def test_in_the_interpreter_they_equal_the_cpu_kernels(passes_in_the_interpreter):
    passes_in_the_interpreter("eventprop_in_triton_interpreter.py")


def _type(name):
    from snn_delay_plugins.kernels.eventprop.triton.sized import SIZES

    return "i32" if name in SIZES else next((kind for kind, names in POINTERS.items() if name in names), "*fp64")


@pytest.mark.parametrize(("module", "name", "constants"), KERNELS)
def test_they_compile_for_a_gpu_that_is_not_here(module, name, constants):
    """No atomics: sums have one order. Nothing is rounded to float32."""
    compiler = pytest.importorskip("triton.compiler")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    import importlib

    function = getattr(importlib.import_module(f"snn_delay_plugins.kernels.eventprop.triton.{module}"), name)
    names = function.arg_names
    constants = {"BLOCK": 32, **constants}
    signature = {x: "constexpr" if x in constants else _type(x) for x in names}
    source = compiler.ASTSource(function, signature, constants)
    assembly = compiler.compile(source, target=target).asm["ptx"]
    assert "st.global" in assembly and "atom." not in assembly and not re.search(r"\bred\.", assembly)
    assert ".f64" in assembly and "cvt.f64.f32" not in assembly and ".f32.f64" not in assembly


@pytest.mark.cuda
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("spike_times", ["grid", "exact"])
def test_on_the_device_they_equal_the_cpu_kernels(spike_times, recurrent):
    n_in, n_out, duration = 40, 70, 100.0
    g = torch.Generator().manual_seed(0)
    counts = [300, 0, 200]
    events = SpikeEvents.from_lists(
        [torch.rand(n, generator=g, dtype=torch.float64) * duration for n in counts],
        [torch.randint(0, n_in, (n,), generator=g) for n in counts], num_units=n_in, duration=duration)  # fmt: skip
    shapes = [(n_out, n_in)] + [(n_out, n_out)] * recurrent + [(5, n_out)]
    weights = [torch.randn(s, generator=g, dtype=torch.float64) * 0.2 + 0.3 / (k + 1) for k, s in enumerate(shapes)]
    delays = [torch.rand(s, generator=g, dtype=torch.float64) * 20 for s in shapes]
    results = []
    for device in ("cpu", "cuda"):
        leaves = [x.to(device).requires_grad_() for x in (*weights, *delays)]
        w, d = leaves[: len(shapes)], leaves[len(shapes) :]
        again = {"recurrent_weight": w[1], "recurrent_delay": d[1]} if recurrent else {}
        hidden = eventprop_lif(events.to(device), w[0], d[0], spike_times=spike_times, **again)
        loss = eventprop_li(hidden, w[-1], d[-1], spike_times=spike_times, readout="voltage").square().sum()
        loss += eventprop_li(hidden, w[-1], d[-1], spike_times=spike_times, readout="weighted_integral").sum()
        results.append([hidden.times.detach(), *torch.autograd.grad(loss, leaves)])
    assert len(results[0][0]) > 100
    for on_cpu, on_device in zip(*results, strict=True):
        scale = float(on_cpu.abs().max())
        torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=0, atol=1e-8 * scale)
    assert operators._device_kernels(hidden.times) is not None
