"""What snnTorch asks of a neuron: states that may be passed from hand to hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .comparing import assert_equal, assert_true
from .derivatives import gradients
from .registry import NotApplicable, check
from .subject import Case, seeded


def _handed_on(case: Case) -> slice:
    """Which of the outputs of a step are the arguments of the next one: all (snn.RLeaky), or all but the spikes.

    :raises NotApplicable: for a module whose states stay inside.
    """
    taken = 0 if case.form != "step" else len(inspect.signature(case.module().forward).parameters) - 1
    if taken < 1:
        raise NotApplicable("takes no states as arguments")
    with torch.no_grad():
        output = case.module()(case.inputs(1)[0])
    if not isinstance(output, tuple) or len(output) < 2:
        raise NotApplicable("returns no states")
    return slice(None) if taken >= len(output) else slice(1, None)


@check(
    "explicit-states",
    "snnTorch's loop is `spk, mem = neuron(x, mem)`; states kept inside must not disagree",
    framework="snntorch",
)
def states_that_are_passed_back_give_what_states_kept_inside_give(case: Case) -> None:
    handed_on = _handed_on(case)
    x = case.inputs()

    def from_hand_to_hand(net: Callable, x: Tensor) -> Tensor:
        states, spikes = (), []
        with seeded(1):
            for step in x:
                outputs = net(step, *states)
                states = outputs[handed_on]
                spikes.append(outputs[0])
        return torch.stack(spikes)

    assert_equal(from_hand_to_hand(case.module(), x), case.ran(x), "states passed from hand to hand and kept inside")
    try:
        expected = gradients(case, case.module(), x)
    except NotApplicable:
        return
    found = gradients(case, case.module(), x, from_hand_to_hand)
    for name, gradient in expected.items():
        if name not in found:
            raise AssertionError(f"with states passed from hand to hand, {name} has no gradient")
        assert_equal(found[name], gradient, f"the gradients of {name} with states passed from hand to hand and kept inside")


@check("explicit-states-win", "one neuron may serve two streams, each with its states", framework="snntorch")
def states_that_are_passed_win_over_those_kept_inside(case: Case) -> None:
    handed_on = _handed_on(case)
    net, streams = case.module(), (case.inputs(), case.inputs(seed=4))
    states, spikes = [(), ()], [[], []]
    with seeded(1):
        for t in range(len(streams[0])):
            for i in (0, 1):
                if t == 0:
                    case.framework.reset_one(net)
                outputs = net(streams[i][t], *states[i])
                states[i] = outputs[handed_on]
                spikes[i].append(outputs[0])
    for i in (0, 1):
        assert_equal(torch.stack(spikes[i]), case.ran(streams[i]), "one neuron for two streams and one for each")


@check("reset-mem-returns", "snnTorch's loops begin with `mem = neuron.reset_mem()`", framework="snntorch")
def reset_mem_returns_the_states_that_the_first_step_takes(case: Case) -> None:
    handed_on, x = _handed_on(case), case.inputs(4)
    net: Any = case.module()
    case.run(net, case.inputs(seed=4))
    states = net.reset_mem()
    states = (states,) if isinstance(states, Tensor) else tuple(states or ())
    with torch.no_grad(), seeded(1):
        expected = len(case.module()(x[0])[handed_on])
        assert_true(len(states) == expected, f"reset_mem() returns {len(states)} states, a step takes {expected}")
        output, *_ = net(x[0], *states)
    assert_equal(output, case.ran(x)[0], "the first step from what reset_mem() returns and of a new neuron")


@check("hooks", "probes and profilers are hooks: a forward that is called around them is not seen")
def a_forward_hook_sees_every_output(case: Case) -> None:
    net, x, seen = case.module(), case.inputs(), []
    handle = net.register_forward_hook(lambda module, inputs, output: seen.append(output))
    output = case.run(net, x)
    handle.remove()
    wanted = 1 if case.form == "sequence" else len(x)
    assert_true(len(seen) == wanted, f"a hook was called {len(seen)} times in {wanted} calls")
    values = [each[0] if isinstance(each, tuple | list) else each for each in seen]
    assert_equal(values[0] if case.form == "sequence" else torch.stack(values), output, "what a hook saw and the output")
