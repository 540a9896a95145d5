"""What SpikingJelly asks of a module: step modes, a pure functional form, memories by name, monitors, memopt."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import torch
from torch import Tensor, nn

from .comparing import assert_equal, assert_true
from .derivatives import gradients
from .registry import NotApplicable, check
from .subject import Case


def _base():
    return importlib.import_module("spikingjelly.activation_based.base")


def _needs_memories(case: Case) -> None:
    if not isinstance(case.module(), _base().MemoryModule):
        raise NotApplicable("is no MemoryModule")


@check(
    "step-mode",
    "functional.set_step_mode sets a whole network, and a mode that does not exist is refused",
    framework="spikingjelly",
    once=True,
)
def the_step_mode_is_set_through_the_network_and_others_are_refused(case: Case) -> None:
    module: Any = case.module()
    if not isinstance(module, _base().StepModule):
        raise NotApplicable("is no StepModule")
    net = nn.Sequential(nn.Sequential(module))
    for mode in module.supported_step_mode():
        importlib.import_module("spikingjelly.activation_based.functional").set_step_mode(net, mode)
        assert_true(module.step_mode == mode, f"set_step_mode(net, {mode!r}) left the module in {module.step_mode!r}")
    try:
        module.step_mode = "x"
    except ValueError:
        return
    raise AssertionError("step_mode = 'x' was taken")


@check(
    "functional-form",
    "memopt, torch.func and FlexSN run the functional form; forward is to be the same",
    framework="spikingjelly",
)
def the_functional_form_gives_what_forward_gives(case: Case) -> None:
    _needs_memories(case)
    net, other, x = case.module(), case.module(), case.inputs()
    function = _base().to_functional_forward(other)
    states = tuple(_base().extract_memories(other))
    pieces = (x[:4], x[4:]) if case.form == "sequence" else tuple(x)
    for piece in pieces:
        (output, *_), states = function((piece,), states)
        expected = net(piece)
        assert_equal(output, expected, "the functional form and forward")
    for (name, value), state in zip(_base().named_memories(net), states, strict=True):
        if isinstance(value, Tensor):
            assert_equal(state, value, f"{name} of the functional form and of forward")


@check(
    "functional-pure",
    "a functional form that writes its states cannot be run twice from the same ones",
    framework="spikingjelly",
)
def the_functional_form_writes_neither_its_states_nor_the_module(case: Case) -> None:
    _needs_memories(case)
    net, x = case.module(), case.inputs()
    function = _base().to_functional_forward(net)
    piece = x if case.form == "sequence" else x[0]
    with torch.no_grad():
        case.run(net, x)
        inside = _cloned(_base().extract_memories(net))
        given = tuple(_cloned(inside))
        outputs, states = function((piece,), given)
        again, more = function((piece,), given)
    for before, now in zip(inside, _base().extract_memories(net), strict=True):
        _same(now, before, "a memory of the module after a functional call and before")
    for before, now in zip(inside, given, strict=True):
        _same(now, before, "a state that was given after the call and before")
    assert_equal(again[0], outputs[0], "the second functional call from the same states and the first")
    for one, two in zip(states, more, strict=True):
        _same(two, one, "the states of the second functional call and of the first")


@check(
    "memories",
    "a simulation is stopped, kept and gone on with through extract_memories and load_memories",
    framework="spikingjelly",
)
def memories_that_are_taken_out_and_loaded_go_on(case: Case) -> None:
    _needs_memories(case)
    x, net, other = case.inputs(), case.module(), case.module()
    start = case.run(net, x[:4])
    kept = _base().extract_memories(net)
    _base().load_memories(other, kept)
    case.run(net, case.inputs(seed=4))
    assert_equal(torch.cat([start, case.run(other, x[4:])]), case.ran(x), "a module with loaded memories and the whole")


@check("output-monitor", "OutputMonitor records what a layer gives, without changing it", framework="spikingjelly")
def an_output_monitor_records_every_output(case: Case) -> None:
    monitor = importlib.import_module("spikingjelly.activation_based.monitor")
    module, x = case.module(), case.inputs()
    net = nn.Sequential(module)
    with monitor.OutputMonitor(net, type(module)) as seen:
        output = case.run(net, x)
        records = list(seen["0"])
    recorded = records[0] if case.form == "sequence" else torch.stack(records)
    assert_equal(recorded, output, "what an OutputMonitor recorded and the output")
    assert_equal(output, case.ran(x), "the output of a module with a monitor and without")


@check("attribute-monitor", "AttributeMonitor reads memories by their names", framework="spikingjelly")
def an_attribute_monitor_reads_every_memory(case: Case) -> None:
    _needs_memories(case)
    monitor = importlib.import_module("spikingjelly.activation_based.monitor")
    # its own: a module inside is looked at by its own class
    x, names = case.inputs(), [name for name, _ in _base().named_memories(case.module()) if "." not in name]
    for name in names:
        module: Any = case.module()
        net = nn.Sequential(module)
        with monitor.AttributeMonitor(name, False, net, type(module)) as seen:
            case.run(net, x)
            records = list(seen["0"])
        assert_true(len(records) == (1 if case.form == "sequence" else len(x)), f"{len(records)} records of {name}")
        final = dict(_base().named_memories(module))[name]
        if isinstance(final, Tensor):
            assert_equal(records[-1], final, f"the last record of {name} and the memory")


@check(
    "v-seq",
    "store_v_seq is how users of BaseNode look at the membrane potential",
    framework="spikingjelly",
    kind="neuron",
    once=True,
)
def the_stored_potentials_are_those_of_single_steps(case: Case) -> None:
    case = case.in_form("sequence")
    node: Any = case.module()
    if not hasattr(node, "store_v_seq"):
        raise NotApplicable("has no store_v_seq")
    x, steps = case.inputs(), case.in_form("step")
    node.store_v_seq = True
    output = case.run(node, x)
    assert_equal(output, case.ran(x), "spikes with store_v_seq and without")
    single: Any = steps.module()
    potentials = []
    for step in x:
        single(step)
        potentials.append(single.v)
    assert_equal(node.v_seq, torch.stack(potentials), "v_seq and the potentials of single steps")
    assert_equal(node.v, single.v, "v after a sequence with store_v_seq and after steps")


@check("memopt", "memopt.checkpoint_module recomputes a layer from its explicit states", framework="spikingjelly")
def a_module_checkpointed_by_memopt_has_the_plain_outputs_and_gradients(case: Case) -> None:
    memopt = importlib.import_module("spikingjelly.activation_based.memopt")
    x = case.inputs()
    expected = gradients(case, case.module(), x)
    wrapped = memopt.checkpoint_module(case.module())
    assert_equal(case.run(memopt.checkpoint_module(case.module()), x), case.ran(x), "a checkpointed module and a plain one")
    found = gradients(case, wrapped, x)
    found = {name.replace("_checkpoint_wrapped_module.", ""): gradient for name, gradient in found.items()}
    assert_true(
        found.keys() == expected.keys(), f"under memopt there are gradients of {sorted(found)}, not {sorted(expected)}"
    )
    for name, gradient in expected.items():
        assert_equal(found[name], gradient, f"the gradients of {name} under memopt and without")


def _cloned(value):
    if isinstance(value, list | tuple):
        return [_cloned(each) for each in value]
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _same(one, two, what: str) -> None:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        assert_equal(one, two, what, rtol=0, atol=0)
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple):
        assert_true(len(one) == len(two), f"{what} differ in length: {len(one)} and {len(two)}")
        for left, right in zip(one, two, strict=True):
            _same(left, right, what)
    else:
        assert_true(type(one) is type(two) and (one == two) is not False, f"{what} differ: {one!r} and {two!r}")
