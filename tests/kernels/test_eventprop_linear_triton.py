"""EventProp of linear neurons in Triton: equal to the CPU kernels in the interpreter; compiled for a GPU that is not here;
on one at hand."""

from importlib import import_module

import pytest
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF
from snn_delay_plugins.kernels.dispatch import chosen

pytest.importorskip("triton", reason="triton is not installed: the CUDA kernels cannot be tested here")

POINTERS = {
    "*i64": {"units", "ranges", "start", "sample", "offsets", "node_u", "sent", "unit", "cell", "held", "order"},
    "*i32": {"count", "head", "chain", "first", "follow", "step", "above"},
}
KERNELS = [
    ("forward", "scatter_kernel", {"INHIBITED": True}), ("forward", "spikes_kernel", {"INHIBITED": True}),
    ("forward", "recurrent_kernel", {"INHIBITED": False}), ("forward", "readout_kernel", {}),
    ("adjoint", "adjoint_kernel", {"SAMPLED": False}), ("adjoint", "adjoint_kernel", {"SAMPLED": True}),
    ("adjoint", "gather_kernel", {}), ("adjoint", "gather_times_kernel", {}), ("adjoint", "recurrent_adjoint_kernel", {}),
    ("constants", "replay_kernel", {}), ("constants", "pieces_kernel", {}), ("constants", "sum_kernel", {}),
]  # fmt: skip


def test_in_the_interpreter_they_equal_the_cpu_kernels(passes_in_the_interpreter):
    passes_in_the_interpreter("eventprop_linear_in_triton_interpreter.py")


def _type(name):
    from snn_delay_plugins.kernels.eventprop.triton.sized import SIZES

    return "i32" if name in SIZES else next((kind for kind, names in POINTERS.items() if name in names), "*fp64")


def _target():
    return pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)


def _compiled(module, name, constants):
    compiler = pytest.importorskip("triton.compiler")
    function = getattr(import_module(f"snn_delay_plugins.kernels.eventprop.linear.triton.{module}_kernels"), name)
    constants = {"BLOCK": 32, **constants}
    signature = {x: "constexpr" if x in constants else _type(x) for x in function.arg_names}
    return compiler.compile(compiler.ASTSource(function, signature, constants), target=_target()).asm


class _Enough(Exception):
    pass


@pytest.mark.parametrize(("module", "name", "constants"), KERNELS)
def test_they_compile_without_atomics_and_in_float64(monkeypatch, module, name, constants):
    """To Triton's intermediate code: what follows takes half a minute for some. Without atomics sums have one order."""
    backend = type(pytest.importorskip("triton.compiler.compiler").make_backend(_target()))
    add_stages = backend.add_stages

    def only_the_first(self, stages, *args):
        add_stages(self, stages, *args)

        def enough(code, metadata):
            raise _Enough(str(code))

        stages["ttgir"] = enough

    monkeypatch.setattr(backend, "add_stages", only_the_first)
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    with pytest.raises(_Enough) as stopped:
        _compiled(module, name, constants)
    code = str(stopped.value)
    assert "tt.store" in code and "f64" in code
    assert "atomic" not in code and "f32" not in code


def test_a_kernel_compiles_for_a_gpu_that_is_not_here():
    assembly = _compiled("adjoint", "gather_kernel", {})["ptx"]
    assert "st.global" in assembly and "atom." not in assembly and ".f64" in assembly


@pytest.mark.cuda
@pytest.mark.parametrize("recurrent", [False, True])
def test_on_the_device_they_equal_the_cpu_kernels(recurrent):
    n_in, n_out, duration = 40, 70, 100.0
    g = torch.Generator().manual_seed(0)
    counts = [300, 0, 200]
    events = SpikeEvents.from_lists(
        [torch.rand(n, generator=g, dtype=torch.float64) * duration for n in counts],
        [torch.randint(0, n_in, (n,), generator=g) for n in counts], num_units=n_in, duration=duration)  # fmt: skip
    shapes = [(n_out, n_in)] + [(n_out, n_out)] * recurrent
    weights = [torch.randn(s, generator=g, dtype=torch.float64) * 0.2 + 0.3 / (k + 1) for k, s in enumerate(shapes)]
    delays = [torch.rand(s, generator=g, dtype=torch.float64) * 20 for s in shapes]
    constants = {"tau_mem": 15.0, "tau_syn": 4.0, "tau_adapt": 60.0, "a": 6.0, "b": 0.3}
    results = []
    for device in ("cpu", "cuda"):
        leaves = [x.to(device).requires_grad_() for x in (*weights, *delays)]
        w, d = leaves[: len(shapes)], leaves[len(shapes) :]
        of = {k: torch.full((n_out,), x, dtype=torch.float64, device=device).requires_grad_() for k, x in constants.items()}
        again = {"recurrent_weight": w[1], "recurrent_delay": d[1]} if recurrent else {}
        out = eventprop_linear(events.to(device), w[0], d[0], model=ADLIF, constants=of, refractory=0.5, **again)
        k = torch.arange(len(out), dtype=torch.float64, device=device)
        results.append([out.times.detach(), *torch.autograd.grad((k.cos() * out.times).sum(), [*leaves, *of.values()])])
    assert len(results[0][0]) > 100 and chosen()["eventprop_linear"].form == "triton"
    for on_cpu, on_device in zip(*results, strict=True):
        torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=0, atol=1e-8 * float(on_cpu.abs().max()))
