"""Gradients: against finite differences, through windows of time, and in the places that have none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor
from torch.func import functional_call

from .comparing import assert_equal, assert_true
from .derivatives import gradients, weighted
from .registry import NotApplicable, check
from .subject import Case


@check("gradients", "a surrogate hides a wrong gradient from every test of the loss; a smooth spike shows it")
def gradients_are_those_of_finite_differences_where_the_spike_is_smooth(case: Case) -> None:
    if case.dtype != torch.float64:
        raise NotApplicable("does not compute in float64")
    module = case.smoothed(case.module())
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    values = [dict(module.named_parameters())[name].detach().clone().requires_grad_() for name in names]
    x = case.inputs(5, 2).requires_grad_()

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        fresh = case.smoothed(case.module())
        given = dict(zip(names, parameters, strict=True))
        return weighted(case.run(lambda step: functional_call(fresh, given, (step,)), x))

    if not function(x, *values).requires_grad:
        raise NotApplicable("its output has no gradient")
    inputs = [x, *values]
    with torch.no_grad():
        for k in range(1, len(inputs)):
            inputs[k] = _off_the_edge(function, inputs, k).requires_grad_()
    analytic = torch.autograd.grad(function(*inputs), inputs, allow_unused=True)
    with torch.no_grad():
        for name, value, gradient in zip(("the input", *names), inputs, analytic, strict=True):
            direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(8), dtype=value.dtype)
            ends = []
            for sign in (1, -1):
                moved = [each + sign * 1e-5 * direction if each is value else each for each in inputs]
                with suppress(ValueError):  # as of no delay at all, or spikes that can be nothing but whole
                    ends.append(function(*moved))
            if len(ends) < 2:
                continue
            numeric = (ends[0] - ends[1]) / 2e-5
            along = torch.zeros_like(numeric) if gradient is None else (gradient * direction).sum()
            what = f"backward and finite differences along a direction of {name}"
            try:
                assert_equal(along, numeric, what, rtol=1e-4, atol=1e-6)
            except AssertionError as error:
                raise AssertionError(f"{error}{'' if bool(numeric) else _STRAIGHT_THROUGH}") from None


_STRAIGHT_THROUGH = (
    "; the output does not change along it at all: where that is meant, as where a rounding has its gradient straight "
    "through, declare it with its reason, expected_failures={'gradients': ...}"
)


def _off_the_edge(function: Callable[..., Tensor], inputs: list[Tensor], k: int) -> Tensor:
    """The value ``inputs[k]`` a little further inside of what the module accepts: many begin at a bound or a kink (no
    delay, a leak of one), where finite differences are not the gradient."""
    value = inputs[k]
    far = 0.01 * (float(value.abs().mean()) or 1.0)
    away = far * (0.3 + 0.7 * torch.rand(value.shape, generator=torch.Generator().manual_seed(9), dtype=value.dtype))
    for moved in (value + away, value - away):
        try:
            if bool(function(*inputs[:k], moved, *inputs[k + 1 :]).isfinite()):
                return moved
        except (ValueError, RuntimeError):  # out of bounds
            continue
    return value.clone()


@check("detach", "truncated backpropagation: a second backward through a graph that is gone, or none through the window")
def detaching_cuts_the_graph_and_leaves_the_states(case: Case) -> None:
    case.needs_states()
    x, net = case.inputs(), case.as_net(case.module())
    first, second = x[:4].clone().requires_grad_(), x[4:].clone().requires_grad_()
    start = case.run(net, first)
    if not start.requires_grad:
        raise NotApplicable("its output has no gradient")
    weighted(start).backward()
    net.zero_grad(set_to_none=True)
    first.grad = None
    case.detach(net)
    rest = case.run(net, second)
    assert_equal(torch.cat([start, rest]), case.ran(x), "a sequence that is detached in between and one that is not")
    weighted(rest).backward()
    assert_true(first.grad is None or not bool(first.grad.any()), "the gradient reached the window before the detach")
    reference = case.as_net(case.module())
    with torch.no_grad():
        case.run(reference, x[:4])
    expected = gradients(case, reference, x[4:])
    found = {"the input": second.grad} | {name: parameter.grad for name, parameter in net.named_parameters()}
    for name, gradient in expected.items():
        own = found[name]
        if own is None:
            raise AssertionError(f"{name} has no gradient in the window after a detach")
        assert_equal(own, gradient, f"the gradients of {name} in the window after a detach and after no_grad")


@check("detach-is-local", "the trace that a user keeps for a loss at the end loses its graph by an in-place detach")
def detaching_leaves_what_the_user_holds(case: Case) -> None:
    case.needs_states()
    net, x = case.as_net(case.module()), case.inputs().requires_grad_()
    outputs = case.calls(net, x)
    if not outputs[-1].requires_grad:
        raise NotApplicable("its output has no gradient")
    case.detach(net)
    held = all(output.requires_grad for output in outputs)
    assert_true(held, "an output that the user holds lost its graph when the network was detached")
    torch.stack([weighted(output) for output in outputs]).sum().backward()
    assert_true(x.grad is not None, "the input has no gradient after the network was detached")


@check("no-grad", "evaluation between two epochs must leave no graph, and training must go on after it")
def no_grad_leaves_no_graph(case: Case) -> None:
    net, x = case.module(), case.inputs()
    with torch.no_grad():
        output = case.run(net, x)
    assert_true(not output.requires_grad, "an output under no_grad has a graph")
    hanging = [name for name, value in case.states(net).items() if value.requires_grad]
    assert_true(not hanging, f"{', '.join(hanging)} have a graph after no_grad")


@check("inference-mode", "states made in inference mode cannot be written in training")
def training_goes_on_after_inference_mode_and_a_reset(case: Case) -> None:
    x, net = case.inputs(), case.module()
    with torch.inference_mode():
        case.run(net, x)
    if case.carried:
        case.framework.reset_one(net)
    assert_equal(_loss(case, net, x), _loss(case, case.module(), x), "training after inference and without")


def _loss(case: Case, net, x: Tensor) -> Tensor:
    output = case.run(net, x.clone().requires_grad_())
    if output.requires_grad:
        weighted(output).backward()
    return output
