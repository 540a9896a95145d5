"""torch.compile: every layer and neuron of the package gives the values and gradients that it gives uncompiled.

The suite trains most of them with ``aot_eager`` and a few with ``inductor``, which compiles C++. The whole matrix of
docs/compile.md: ``SNN_DELAY_PLUGINS_COMPILE=all python -m pytest tests/test_compile.py``.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from snn_delay_plugins import EventPropAdLIF, EventPropLI, EventPropLIF, SpikeEvents

STEPS, BATCH, IN, OUT = 9, 2, 6, 5
GAUSSIAN = {"delay_gradient": "gaussian", "sigma": 1.5}
EVENTPROP = {"weight_init": (3.0, 0.5), "delay": "uniform", "max_delay": 3.0}


class Case(NamedTuple):
    """One layer: how it is made, and on which input and in which manner it is called."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (STEPS, BATCH, IN)
    events: bool = False
    by_steps: bool = False
    modes: tuple[str, ...] = ("train", "eval")
    quick: bool = True
    """Whether the suite compiles it, or the whole matrix alone."""
    inductor: bool = False
    """Whether the suite compiles it with inductor too."""


def snntorch(name: str, *args, **options) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        pytest.importorskip("snntorch")
        from snn_delay_plugins import snntorch as front

        return getattr(front, name)(*args, **options)

    return make


def spikingjelly(name: str, *args, **options) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        pytest.importorskip("spikingjelly")
        from snn_delay_plugins import spikingjelly as front

        return getattr(front, name)(*args, **options)

    return make


def frozen(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: make().eval().discretize()


def eventprop(*layers: nn.Module | Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(layer() for layer in layers))


def lif(**options) -> Callable[[], nn.Module]:
    return lambda: EventPropLIF(IN, OUT, **EVENTPROP, **options)


def adlif(**options) -> Callable[[], nn.Module]:
    return lambda: EventPropAdLIF(IN, OUT, **EVENTPROP, **options)


def li(**options) -> Callable[[], nn.Module]:
    return lambda: EventPropLI(OUT, 3, **options)


def delays(front: Callable, step: dict, sequence: dict, **options) -> dict[str, Case]:
    """The forms of a layer with delays in one framework."""
    linear = {"max_delay": 4, "delay": "uniform", **options}
    one = {
        "linear": {}, "linear round": {"kernel" if front is snntorch else "interpolation": "round"}, "gaussian": GAUSSIAN,
        "gaussian learn_sigma": {**GAUSSIAN, "learn_sigma": True, "sigma_type": "synaptic"}, "sparse": {"synapses": 2},
        "sparse gaussian": {"synapses": 2, **GAUSSIAN}, "clamp": {"bound_mode": "clamp"},
        "smoothing": {"smoothing": torch.tensor([0.5, 0.3, 0.2])}, "axonal": {"delay_type": "axonal"},
        "no delays": {"max_delay": 0, "delay": 0.0, "learn_delay": False},
    }  # fmt: skip
    cases = {}
    for name, more in one.items():
        for mode, kind in (("steps", step), ("sequence", sequence)):
            make = front("DelayedLinear", IN, OUT, **{**linear, **more, **kind})
            first = front is snntorch
            cases[f"DelayedLinear {name}, {mode}"] = Case(
                make, by_steps=mode == "steps", quick=first or name in ("linear", "gaussian"),
                inductor=first and name == "linear",
            )  # fmt: skip
    for name, more in (("linear", {}), ("gaussian", GAUSSIAN)):
        for axes in (1, 2):
            for mode, kind in (("steps", step), ("sequence", sequence)):
                make = front(f"DelayedConv{axes}d", 2, 3, 3, **linear, **more, **kind)
                shape = (STEPS, BATCH, 2, *(5,) * axes)
                quick = axes == 1 and front is snntorch
                cases[f"DelayedConv{axes}d {name}, {mode}"] = Case(make, shape, by_steps=mode == "steps", quick=quick)
    for mode, kind in (("steps", step), ("sequence", sequence)):
        make = frozen(front("DelayedLinear", IN, OUT, **linear, **kind, **{**GAUSSIAN, "synapses": 3}))
        cases[f"DiscreteDelayedLinear, {mode}"] = Case(make, by_steps=mode == "steps", modes=("eval",))
    return cases


def recurrent(front: Callable, steps: Callable, sequence: Callable) -> dict[str, Case]:
    """Neurons of a framework with recurrent synapses, step by step and over sequences."""
    cases = {}
    one = {"linear": {}, "sparse triangle": {"synapses": 2, "delay_gradient": "triangle", "sigma": 1.0}}
    for name, more in one.items():
        for mode, neuron in (("steps", steps), ("sequence", sequence)):
            kind = {"step_mode": "s" if mode == "steps" else "m"} if front is spikingjelly else {}

            def make(neuron=neuron, kind=kind, more=more) -> nn.Module:
                layer = front("DelayedRecurrent", neuron(), max_delay=4, delay="uniform", **more, **kind)()
                with torch.no_grad():
                    layer.weight.mul_(4)
                return layer

            cases[f"DelayedRecurrent {name}, {mode}"] = Case(
                make, by_steps=mode == "steps", quick=name == "linear" and (front is snntorch or mode == "sequence")
            )
    return cases


def named(front: str, cases: dict[str, Case]) -> dict[str, Case]:
    return {f"{front}: {name}": case for name, case in cases.items()}


SNNTORCH = {
    **delays(snntorch, {"step_mode": True}, {"step_mode": False}),
    "AdLIFPlus": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True), by_steps=True),
    "AdLIFPlus uniform": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True, init_state="uniform"), by_steps=True,
                              modes=("eval",)),
    "AdLIFPlus symplectic": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True, variant="symplectic"), by_steps=True),
    "AdLIFPlus lif": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True, preset="lif"), by_steps=True),
    "StateAdLIFPlus": Case(snntorch("StateAdLIFPlus", features=IN), inductor=True),
    "StateAdLIFPlus traces": Case(snntorch("StateAdLIFPlus", features=IN, output=True)),
    "StateAdLIFPlus symplectic": Case(snntorch("StateAdLIFPlus", features=IN, variant="symplectic", learn_threshold=True)),
    **recurrent(
        snntorch, snntorch("AdLIFPlus", features=IN, init_hidden=True), snntorch("StateAdLIFPlus", features=IN)
    ),
}  # fmt: skip
SPIKINGJELLY = {
    **delays(spikingjelly, {"step_mode": "s"}, {"step_mode": "m"}),
    "AdLIFPlusNode s": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="s"), by_steps=True),
    "AdLIFPlusNode m": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="m")),
    "AdLIFPlusNode m, v_seq": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="m", store_v_seq=True)),
    "AdLIFPlusNode m, zero": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="m", v_reset=0.0)),
    **recurrent(spikingjelly, *2 * (spikingjelly("AdLIFPlusNode", features=IN),)),
}
EVENT_LAYERS = {
    "LIF dense to dense": Case(lif(output="dense"), inductor=True),
    "LIF events to dense": Case(lif(output="dense"), events=True),
    "LIF recurrent, grid, dense": Case(lif(output="dense", recurrent=True, spike_times="grid")),
    "LIF, learnt constants": Case(lif(output="dense", learn_tau_mem=True, learn_tau_syn=True, learn_threshold=True)),
    "AdLIF, learnt constants": Case(adlif(output="dense", learn="all", refractory=0.5)),
    "AdLIF recurrent, events to events": Case(adlif(recurrent=True), events=True),
    "LIF events to events": Case(lif(), events=True),
    "LIF dense to events": Case(lif()),
    "LIF + LI voltage, dense": Case(eventprop(lif(), li())),
    "LIF + LI voltage, events": Case(eventprop(lif(), li(delay=1.0)), events=True),
    "LIF + LI, grid": Case(eventprop(lif(spike_times="grid"), li(spike_times="grid"))),
    "LIF recurrent + LI integral": Case(eventprop(lif(recurrent=True), li(readout="integral"))),
    "LIF + LI weighted integral": Case(eventprop(lif(), li(readout="weighted_integral"))),
    "LIF + LI maximum": Case(eventprop(lif(), li(readout="maximum"))),
    "LIF dense + Linear": Case(eventprop(lif(output="dense"), lambda: nn.Linear(OUT, 3))),
}
CASES = {**named("snntorch", SNNTORCH), **named("spikingjelly", SPIKINGJELLY), **named("eventprop", EVENT_LAYERS)}

WHOLE = os.environ.get("SNN_DELAY_PLUGINS_COMPILE") == "all"
BACKENDS = ("eager", "aot_eager", "inductor")


def matrix() -> list:
    chosen = []
    for name, case in CASES.items():
        for mode in case.modes:
            for backend in BACKENDS:
                in_suite = backend == "aot_eager" or (backend == "inductor" and case.inductor)
                if WHOLE or (case.quick and mode == case.modes[0] and in_suite):
                    chosen.append(pytest.param(case, mode, backend, id=f"{name}, {mode}, {backend}"))
    return chosen


def data(case: Case) -> Tensor | SpikeEvents:
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(case.shape, generator=generator) < 0.4).float()
    if case.events:
        return SpikeEvents.from_dense(x, 1.0, dtype=torch.float32)
    return x


def outcome(module: nn.Module, case: Case, x: Tensor | SpikeEvents, call: Callable) -> list[Tensor]:
    """Outputs, then gradients of input and parameters."""
    neurons = any(name in type(module).__name__ for name in ("AdLIF", "Recurrent"))
    scale = 4.0 if neurons else 1.0  # currents that make neurons fire
    if isinstance(x, SpikeEvents):
        leaf = x.times.clone().requires_grad_()
        out = call(SpikeEvents(leaf, x.units, x.offsets, x.num_units, x.duration))
    else:
        leaf = (x * scale).requires_grad_()
        out = torch.stack([call(step) for step in leaf]) if case.by_steps else call(leaf)
    outputs = (
        [out.times, out.units, out.offsets] if isinstance(out, SpikeEvents) else [*out] if isinstance(out, tuple) else [out]
    )
    wanted = [p for p in (leaf, *module.parameters()) if p.requires_grad]
    differentiable = [value for value in outputs if value.requires_grad]
    if not differentiable:
        return outputs
    loss = sum(
        (value * torch.cos(torch.arange(value.numel(), dtype=value.dtype)).view_as(value)).sum() for value in differentiable
    )
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [*(value.detach() for value in outputs), *(torch.zeros(()) if g is None else g for g in gradients)]


@pytest.mark.parametrize(("case", "mode", "backend"), matrix())
def test_compiled_equals_uncompiled(case, mode, backend):
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("inductor needs a C++ compiler")
    torch._dynamo.reset()
    module = case.make().train(mode == "train")
    twin = copy.deepcopy(module)
    x = data(case)
    expected = outcome(module, case, x, module)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):  # of EventProp: the number of spikes
        found = outcome(twin, case, x, torch.compile(twin, backend=backend, fullgraph=True))
    assert any(value.is_floating_point() and value.abs().sum() > 0 for value in expected[1:] or expected)  # not all silent
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_without_the_option_compiled_eventprop_breaks_its_graph_and_trains_alike():
    layer = EventPropLIF(IN, OUT, **EVENTPROP, output="dense")
    twin, x = copy.deepcopy(layer), (torch.rand(STEPS, BATCH, IN) < 0.4).float()
    torch._dynamo.reset()
    for module in (layer, torch.compile(twin, backend="aot_eager")):
        (module(x) * torch.arange(STEPS).view(-1, 1, 1).square()).sum().backward()
    assert layer.delay.grad.abs().sum() > 0
    assert torch.equal(layer.delay.grad, twin.delay.grad) and torch.equal(layer.weight.grad, twin.weight.grad)


def test_compiled_code_refuses_graded_spikes_as_uncompiled_code_does():
    layer = EventPropLI(IN, OUT)
    torch._dynamo.reset()
    with pytest.raises(Exception, match="is not a spike count"):
        torch.compile(layer, backend="eager")(torch.full((STEPS, BATCH, IN), 0.5))


EXPORTED = [name for name, case in CASES.items() if not (case.by_steps or case.events or "to events" in name)]
FEW = ("snntorch: StateAdLIFPlus", "spikingjelly: AdLIFPlusNode m", "snntorch: DelayedLinear gaussian, sequence",
       "snntorch: DiscreteDelayedLinear, sequence", "spikingjelly: DelayedLinear linear, sequence",
       "snntorch: DelayedRecurrent linear, sequence", "eventprop: LIF + LI voltage, dense")  # fmt: skip


@pytest.mark.parametrize("name", EXPORTED if WHOLE else FEW)
def test_an_exported_layer_computes_alike_and_keeps_no_state_of_the_export(name):
    case = CASES[name]
    module, x = case.make().eval(), data(case) * (4.0 if "AdLIF" in name or "Recurrent" in name else 1.0)
    wanted = [value.detach() for value in pytree(module(x))]  # of the first call, which may leave a state
    program = torch.export.export(module, (x,), strict=False)
    assert_no_values_missing(module)
    for found, expected in zip(pytree(program.module()(x)), wanted, strict=True):
        torch.testing.assert_close(found, expected)


EXPORTED_STEPS = [
    *(f"snntorch: {name}" for name in ("DelayedLinear linear, steps", "DelayedConv1d linear, steps")),
    "snntorch: DiscreteDelayedLinear, steps", "snntorch: AdLIFPlus", "spikingjelly: DelayedLinear linear, steps",
    "spikingjelly: DiscreteDelayedLinear, steps", "spikingjelly: AdLIFPlusNode s",
]  # fmt: skip


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 cannot export modules that hold a buffer of None")
@pytest.mark.parametrize("name", EXPORTED_STEPS)
def test_an_exported_step_says_that_it_carries_no_state_and_leaves_the_layer_as_it_was(name):
    case = CASES[name]
    module, x = case.make().eval(), data(case)[0]
    wanted = [value.detach() for value in pytree(module(x))]  # of the first step, which leaves a state
    with pytest.warns(UserWarning, match="carries no state .* export the form over whole sequences") as told:
        program = torch.export.export(module, (x,), strict=False)
    assert {warning.filename for warning in told if "carries no state" in str(warning.message)} == {__file__}
    assert_no_values_missing(module)
    for found, expected in zip(pytree(program.module()(x)), wanted, strict=True):
        torch.testing.assert_close(found, expected)


def assert_no_values_missing(module: nn.Module) -> None:
    held = {**vars(module), **module._buffers, **getattr(module, "_memories", {})}
    assert not [name for name, value in held.items() if isinstance(value, FakeTensor)]


def pytree(value) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(value)
