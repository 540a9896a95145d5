"""Number types and devices."""

from __future__ import annotations

import torch

from .comparing import assert_equal, assert_true
from .registry import NotApplicable, check
from .subject import Case


@check("float64", "gradients are checked in double precision; a surrogate that answers in float32 spoils it")
def a_module_in_double_precision_computes_in_it(case: Case) -> None:
    case = case.in_dtype(torch.float64)
    net = case.module()
    output = case.run(net, case.inputs())
    assert_true(output.dtype == torch.float64, f"float64 in gave {_name(output.dtype)} out")
    _check_states(case, net, torch.float64)
    plain = case.in_dtype(torch.float32)
    assert_true(plain.ran(plain.inputs()).dtype == torch.float32, "float32 in gave another type out")


@check("bfloat16", "large networks are trained and deployed in half precision")
def a_module_in_bfloat16_computes_in_it_or_says_that_it_does_not(case: Case) -> None:
    case = case.in_dtype(torch.bfloat16)
    net, x = case.module(), case.inputs().requires_grad_()
    try:
        output = case.run(net, x)
    except (TypeError, ValueError, NotImplementedError) as refusal:
        if "bfloat16" in str(refusal):
            return
        raise
    assert_true(output.dtype == torch.bfloat16, f"bfloat16 in gave {_name(output.dtype)} out")
    assert_true(bool(output.isfinite().all()), "the output is not finite")
    _check_states(case, net, torch.bfloat16)
    if output.requires_grad:
        output.float().sum().backward()
        assert_true(x.grad is None or x.grad.dtype == torch.bfloat16, "the gradient of the input has another type")


@check("autocast", "mixed precision is one line in a training script")
def a_module_runs_and_trains_under_autocast(case: Case) -> None:
    case = case.in_dtype(torch.float32)
    net, x = case.module(), case.inputs().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = case.run(net, x)
        if case.carried:
            output = torch.cat([output, case.run(net, x)])
    assert_true(bool(output.isfinite().all()), "the output is not finite")
    if output.requires_grad:
        output.float().sum().backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                right = parameter.grad.dtype == parameter.dtype and bool(parameter.grad.isfinite().all())
                assert_true(right, f"the gradient of {name} is {_name(parameter.grad.dtype)} or not finite")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = case.run(case.module(), x)
    plain = case.ran(x)
    if case.kind == "layer":
        assert_equal(again, plain, "a layer under autocast and without", rtol=5e-2, atol=5e-2)


@check("dtype-change", "`net.double()` between two calls leaves states behind that are not moved with the module")
def states_move_with_the_module_to_another_type(case: Case) -> None:
    case.needs_states()
    if case.dtype != torch.float64:
        raise NotApplicable("does not compute in float64")
    small = case.in_dtype(torch.float32)
    x, net = small.inputs(), small.module()
    with torch.no_grad():
        small.run(net, x[:4])
        before = {name: value.clone() for name, value in case.states(net).items()}
        net.double()
        for name, value in case.states(net).items():
            assert_true(value.dtype == torch.float64, f"{name} stayed {_name(value.dtype)} when the module became float64")
            assert_equal(value, before[name], f"{name} after and before the change of type")
        output = case.run(net, x[4:].double())
    assert_true(bool(output.isfinite().all()), "the output after the change of type is not finite")


@check("meta", "deferred initialisation, FLOP counters and exporters run a network without values")
def a_module_on_the_meta_device_gives_shapes(case: Case) -> None:
    x = case.inputs()
    expected = case.ran(x)
    output = case.run(case.module().to("meta"), x.to("meta"))
    assert_true(output.is_meta, f"a tensor of device {output.device} came out of a module on meta")
    assert_true(output.shape == expected.shape, f"meta gave {tuple(output.shape)}, the CPU {tuple(expected.shape)}")


@check("cuda", "a tensor made without `device=` works until the first GPU")
def a_module_moves_to_cuda_with_its_states(case: Case) -> None:
    if not torch.cuda.is_available():
        raise NotApplicable("there is no CUDA device")
    x, net = case.inputs(), case.module()
    with torch.no_grad():
        start = case.run(net, x[:4])
        net.cuda()
        rest = case.run(net, x[4:].cuda())
        assert_true(rest.is_cuda, f"a tensor of device {rest.device} came out of a module on CUDA")
        new = case.run(case.module().cuda(), x.cuda())
    assert_equal(new.cpu(), case.ran(x), "CUDA and the CPU", rtol=1e-4, atol=1e-4)
    if case.carried:
        assert_equal(torch.cat([start, rest.cpu()]), case.ran(x), "a sequence that moves to CUDA and one that stays")


def _check_states(case: Case, net, dtype: torch.dtype) -> None:
    for name, value in case.states(net).items():
        if value.is_floating_point():
            assert_true(value.dtype == dtype, f"the state {name} is {_name(value.dtype)}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
