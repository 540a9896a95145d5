"""The Triton kernels: their logic in Triton's interpreter, on CPU tensors; on a GPU where one is at hand."""

import re

import pytest
import torch

from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.delay import delayed_linear

pytest.importorskip("triton", reason="triton is not installed: the CUDA kernels cannot be tested here")


def test_in_the_interpreter_they_equal_the_cpu_kernels(passes_in_the_interpreter):
    passes_in_the_interpreter("in_triton_interpreter.py")


def test_linear_neurons_of_any_structure_equal_the_plain_form(passes_in_the_interpreter):
    passes_in_the_interpreter("linear_neuron_in_triton_interpreter.py", NUMBA_DISABLE_JIT="1")


def test_recurrent_neurons_equal_the_plain_form(passes_in_the_interpreter):
    passes_in_the_interpreter("recurrent_neuron_in_triton_interpreter.py")


def signature(function, constants, numbers, pointer):
    kinds = {"width": "fp32", "height": "fp32", "lag": "*i32", "met_now": "*fp64", "met_later": "*fp64"}
    kinds |= dict.fromkeys(("delays", "lags"), "*i32")
    kinds |= dict.fromkeys(("order", "starts", "senders", "receivers", "other"), "*i64")
    kinds |= dict.fromkeys(numbers, "i32") | dict.fromkeys(constants, "constexpr")
    return {name: kinds.get(name, pointer) for name in function.arg_names}


@pytest.mark.parametrize("pointer", ["*fp32", "*fp64"])
def test_they_compile_for_a_gpu_that_is_not_here_and_use_no_atomics(pointer):
    compiler = pytest.importorskip("triton.compiler")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    from snn_delay_plugins.kernels.delayed_linear import triton as delay_triton
    from snn_delay_plugins.kernels.linear_neuron import triton as neuron_triton
    from snn_delay_plugins.kernels.linear_neuron.structure import NAMES, Structure
    from snn_delay_plugins.kernels.sparse_delay import triton as whole
    from snn_delay_plugins.kernels.sparse_taps import triton as taps

    adlif = Structure(("A00", "A10", "A11", "r0", "r1", "B0", "theta"), subtracted=True)
    symplectic = Structure(("A00", "A10", "A11", "J00", "r1", "B0", "theta"), subtracted=True, symplectic=True)
    everything = Structure(NAMES)
    neuron_numbers = ("steps", "columns", "features", "layers", "width_of_taps")
    neurons = [
        (function, neuron_triton._constants(structure.code, recurrent) | of_function, neuron_numbers)
        for structure, recurrent in ((adlif, None), (symplectic, None), (everything, None), (adlif, 200), (everything, 5))
        for function, of_function in (
            (neuron_triton._forward_kernel, {}),
            (neuron_triton._backward_kernel, neuron_triton._constants_of_backward(structure.code, True, True)),
        )
    ]
    tiles = {"ROWS": 16, "STEPS": 64}
    delay_numbers = ("samples", "receivers", "senders", "length", "out_length", "grad_length")
    list_numbers = (
        "sources", "targets", "width", "length", "out_length", "samples", "inputs", "outputs", "steps", "receivers",
        "slots", "now",
    )  # fmt: skip
    for function, constants, numbers in (
        *neurons,
        (delay_triton._shifted_sums_kernel, tiles, delay_numbers),
        (delay_triton._correlations_kernel, tiles, delay_numbers),
        (taps._sums_kernel, {"ORDERED": True, "BACK": False, "STEPS": 128}, list_numbers),
        (taps._sums_kernel, {"ORDERED": False, "BACK": True, "STEPS": 128}, list_numbers),
        (taps._taps_kernel, {"STEPS": 128}, [x for x in list_numbers if x != "receivers"]),
        (whole._sequence_kernel, {"STEPS": 128}, list_numbers),
        (whole._step_kernel, {"SAMPLES": 32}, list_numbers),
    ):
        names = function.arg_names
        source = compiler.ASTSource(
            function, signature(function, constants, [n for n in numbers if n in names], pointer), constants,
        )  # fmt: skip
        assembly = compiler.compile(source, target=target).asm["ptx"]
        assert "st.global" in assembly and "atom." not in assembly and not re.search(r"\bred\.", assembly)


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
def test_adlif_on_the_device_equals_the_plain_form(variant):
    current = (torch.randn(50, 4, 100) * 3 + 1).cuda()
    outputs = []
    for method in ("torch", "triton"):
        torch.manual_seed(0)
        p = {name: torch.rand(100).cuda().requires_grad_() for name in ("alpha", "beta", "a", "b")}
        leaf = current.clone().requires_grad_()
        spikes, _ = adlif(leaf, **p, variant=variant, method=method)
        (spikes * torch.randn_like(spikes)).sum().backward()
        outputs.append((spikes, leaf.grad, *(x.grad for x in p.values())))
    for plain, fast in zip(*outputs, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.cuda
def test_delays_on_the_device_equal_the_plain_form():
    trains, weight, delay = torch.rand(90, 3, 40) < 0.1, torch.randn(50, 40), torch.rand(50, 40) * 20
    outputs = []
    for method in ("direct", "triton"):
        leaves = [x.float().cuda().requires_grad_() for x in (trains, weight, delay)]
        current = delayed_linear(*leaves, max_delay=20, method=method)
        current.pow(2).sum().backward()
        outputs.append((current, *(x.grad for x in leaves)))
    for plain, fast in zip(*outputs, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)
