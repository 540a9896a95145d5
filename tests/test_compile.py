"""torch.compile: every layer and neuron of the package gives the values and gradients that it gives uncompiled.

CI runs all of them with ``aot_eager`` and a few with ``inductor``, which compiles C++. The whole matrix, as docs/compile.md
shows it: ``SNN_DELAY_PLUGINS_COMPILE=all python -m pytest tests/test_compile.py``.
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

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents

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
    inductor: bool = False
    """Whether CI compiles it with inductor too."""


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
            cases[f"DelayedLinear {name}, {mode}"] = Case(make, by_steps=mode == "steps", inductor=name == "linear")
    for name, more in (("linear", {}), ("gaussian", GAUSSIAN)):
        for axes in (1, 2):
            for mode, kind in (("steps", step), ("sequence", sequence)):
                make = front(f"DelayedConv{axes}d", 2, 3, 3, **linear, **more, **kind)
                shape = (STEPS, BATCH, 2, *(5,) * axes)
                cases[f"DelayedConv{axes}d {name}, {mode}"] = Case(make, shape, by_steps=mode == "steps")
    for mode, kind in (("steps", step), ("sequence", sequence)):
        make = frozen(front("DelayedLinear", IN, OUT, **linear, **kind, **{**GAUSSIAN, "synapses": 3}))
        cases[f"DiscreteDelayedLinear, {mode}"] = Case(make, by_steps=mode == "steps", modes=("eval",))
    return cases


def named(front: str, cases: dict[str, Case]) -> dict[str, Case]:
    return {f"{front}: {name}": case for name, case in cases.items()}


SNNTORCH = {
    **delays(snntorch, {"step_mode": True}, {"step_mode": False}),
    "AdLIFPlus": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True), by_steps=True, inductor=True),
    "AdLIFPlus uniform": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True, init_state="uniform"), by_steps=True,
                              modes=("eval",)),
    "AdLIFPlus symplectic": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True, variant="symplectic"), by_steps=True),
    "AdLIFPlus lif": Case(snntorch("AdLIFPlus", features=IN, init_hidden=True, preset="lif"), by_steps=True),
    "StateAdLIFPlus": Case(snntorch("StateAdLIFPlus", features=IN), inductor=True),
    "StateAdLIFPlus traces": Case(snntorch("StateAdLIFPlus", features=IN, output=True)),
    "StateAdLIFPlus symplectic": Case(snntorch("StateAdLIFPlus", features=IN, variant="symplectic", learn_threshold=True)),
}  # fmt: skip
SPIKINGJELLY = {
    **delays(spikingjelly, {"step_mode": "s"}, {"step_mode": "m"}),
    "AdLIFPlusNode s": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="s"), by_steps=True),
    "AdLIFPlusNode m": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="m"), inductor=True),
    "AdLIFPlusNode m, v_seq": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="m", store_v_seq=True)),
    "AdLIFPlusNode m, zero": Case(spikingjelly("AdLIFPlusNode", features=IN, step_mode="m", v_reset=0.0)),
}
EVENT_LAYERS = {
    "LIF dense to dense": Case(lif(output="dense"), inductor=True),
    "LIF events to dense": Case(lif(output="dense"), events=True),
    "LIF recurrent, grid, dense": Case(lif(output="dense", recurrent=True, spike_times="grid")),
    "LIF, learnt constants": Case(lif(output="dense", learn_tau_mem=True, learn_tau_syn=True, learn_threshold=True)),
    "LIF events to events": Case(lif(), events=True),
    "LIF dense to events": Case(lif()),
    "LIF + LI voltage, dense": Case(eventprop(lif(), li()), inductor=True),
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
                if WHOLE or backend == "aot_eager" or (backend == "inductor" and case.inductor and mode == "train"):
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
    scale = 4.0 if "AdLIF" in type(module).__name__ else 1.0  # currents that make neurons fire
    if isinstance(x, SpikeEvents):
        leaf = x.times.clone().requires_grad_()
        out = call(SpikeEvents(leaf, x.units, x.offsets, x.num_units, x.duration))
    else:
        leaf = (x * scale).requires_grad_()
        out = torch.stack([call(step) for step in leaf]) if case.by_steps else call(leaf)
    outputs = [out.times, out.units, out.offsets] if isinstance(out, SpikeEvents) else [*out] if isinstance(out, tuple) \
        else [out]
    wanted = [p for p in (leaf, *module.parameters()) if p.requires_grad]
    differentiable = [value for value in outputs if value.requires_grad]
    if not differentiable:
        return outputs
    loss = sum((value * torch.cos(torch.arange(value.numel(), dtype=value.dtype)).view_as(value)).sum()
               for value in differentiable)
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
    assert any(value.is_floating_point() and value.abs().sum() > 0 for value in expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
