"""Time: steps, sequences and their parts, the order of cause and effect, and nothing at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .comparing import assert_equal, assert_true
from .derivatives import gradients
from .registry import NotApplicable, check
from .subject import Case

_LONG = 70


@check("steps-equal-sequence", "a network is trained over sequences and deployed step by step", once=True)
def steps_give_what_the_sequence_gives(case: Case) -> None:
    step, sequence = case.in_form("step"), case.in_form("sequence")
    x = _long_of_either_sign(case)
    one, two = step.module(), sequence.module()
    assert_equal(step.run(one, x), sequence.run(two, x), "the outputs of steps and of the sequence")
    left, right = step.states(one), sequence.states(two)
    for name in left.keys() & right.keys():
        assert_equal(left[name], right[name], f"{name} after the steps and after the sequence")


@check("steps-equal-sequence-gradients", "a kernel of its own has a gradient of its own", once=True)
def steps_have_the_gradients_of_the_sequence(case: Case) -> None:
    step, sequence = case.in_form("step"), case.in_form("sequence")
    x = _long_of_either_sign(case)
    one, two = gradients(step, step.module(), x), gradients(sequence, sequence.module(), x)
    assert_true(one.keys() == two.keys(), f"steps have gradients of {sorted(one)}, the sequence of {sorted(two)}")
    for name, gradient in one.items():
        assert_equal(gradient, two[name], f"the gradients of {name} by steps and by the sequence")


def _long_of_either_sign(case: Case) -> Tensor:
    """Longer than the blocks of steps in which kernels work, with currents that inhibit, where rounding flips no spike."""
    if case.dtype != torch.float64:
        return case.inputs(10)
    x = case.inputs(_LONG)
    return torch.cat([x[:2], -x[2:4], x[4:]]) if case.kind == "neuron" and case.subject.plugin.inputs is None else x


@check("parts-equal-whole", "long recordings are fed in windows")
def a_sequence_in_parts_gives_what_the_whole_gives(case: Case) -> None:
    case.needs_states()
    x, net = case.inputs(9), case.module()

    def in_parts(net: Callable, x: Tensor) -> Tensor:
        return torch.cat([case.run(net, part) for part in (x[:4], x[4:5], x[5:])])

    assert_equal(in_parts(net, x), case.ran(x), "three parts and the whole")
    try:
        whole = gradients(case, case.module(), x)
    except NotApplicable:
        return
    found = gradients(case, case.module(), x, in_parts)
    for name, gradient in whole.items():
        if name not in found:
            raise AssertionError(f"in three parts, {name} has no gradient")
        assert_equal(found[name], gradient, f"the gradients of {name} through three parts and the whole")


@check("forms-share-states", "a sequence warms a network up, single steps go on from there", once=True)
def steps_go_on_where_a_sequence_ended_and_the_other_way_round(case: Case) -> None:
    step, sequence = case.in_form("step"), case.in_form("sequence")
    if case.subject.plugin.sequence is not None:
        raise NotApplicable("the two forms are two classes")
    step.needs_states()
    x, whole = case.inputs(9), step.ran(case.inputs(9))
    for first, second in ((step, sequence), (sequence, step)):
        net = first.module()
        start = first.run(net, x[:4])
        case.framework.set_form(net, second.form)
        order = f"{first.form} then {second.form}"
        assert_equal(torch.cat([start, second.run(net, x[4:])]), whole, f"{order} and steps alone")


@check("batch-equals-samples", "samples of one batch must not touch each other")
def a_batch_gives_what_its_samples_give_alone(case: Case) -> None:
    x = case.inputs()
    alone = [case.ran(x[:, i : i + 1]) for i in range(x.shape[1])]
    assert_equal(case.ran(x), torch.cat(alone, dim=1), "a batch and its samples alone")


@check("causal", "nothing may be known before it happens")
def what_comes_later_does_not_change_what_was_before(case: Case) -> None:
    x = case.inputs()
    other = x.clone()
    other[5:] = case.inputs(seed=7)[5:] + 1
    one, two = case.ran(x), case.ran(other)
    assert_equal(two[:5], one[:5], "the first steps with another future and as before")


@check("one-step", "a sequence of one step is where axes get lost (squeeze)")
def one_step_gives_the_first_of_many(case: Case) -> None:
    x = case.inputs()
    assert_equal(case.ran(x[:1]), case.ran(x)[:1], "one step and the first of many")


@check("no-steps", "an empty window at the end of a recording must not end a run", once=True)
def no_steps_give_an_empty_sequence_and_leave_the_states(case: Case) -> None:
    case = case.in_form("sequence")
    x, net = case.inputs(), case.module()
    whole = case.ran(x)
    empty = case.run(case.module(), x[:0])
    assert_true(
        empty.shape == (0, *whole.shape[1:]), f"no steps gave the shape {tuple(empty.shape)}, not {(0, *whole.shape[1:])}"
    )
    if case.carried:
        parts = [case.run(net, part) for part in (x[:4], x[4:4], x[4:])]
        assert_equal(torch.cat(parts), whole, "a sequence with an empty part and without")


@check("no-samples", "the last batch of a shard may be empty; the others wait for its gradient")
def no_samples_give_an_empty_batch_and_gradients_of_zero(case: Case) -> None:
    x = case.inputs()
    expected = case.ran(x).shape
    net, empty = case.module(), x[:, :0].clone().requires_grad_()
    output = case.run(net, empty)
    assert_true(
        output.shape == (expected[0], 0, *expected[2:]),
        f"no samples gave the shape {tuple(output.shape)} for {x.shape[0]} steps",
    )
    if output.requires_grad:
        output.sum().backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                assert_true(bool((parameter.grad == 0).all()), f"no samples gave {name} a gradient that is not zero")
