"""docs/neurons.md: its two files are neurons in both frameworks, and its table says what the models say."""

from __future__ import annotations

import copy
import importlib.util
import logging
import math
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from snn_delay_plugins.functional.linear_neuron import linear_neuron
from snn_delay_plugins.models import MODELS, LinearModel
from snn_delay_plugins.snntorch import DelayedLinear

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "neurons.md").read_text(encoding="utf-8")
FILES = {"own_neuron": "TwoCompartment", "own_step_neuron": "Saturating"}
STEPS, BATCH, NEURONS = 40, 3, 5


@pytest.fixture(params=FILES)
def own(request, monkeypatch):
    """The module that a user would write, imported under its own name."""
    spec = importlib.util.spec_from_file_location(request.param, ROOT / "tests" / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, request.param, module)
    spec.loader.exec_module(module)
    return module


def classes(own):
    name = FILES[own.__name__]
    return getattr(own, name), getattr(own, f"State{name}"), getattr(own, f"{name}Node")


@pytest.mark.parametrize("file", FILES)
def test_the_page_shows_the_whole_file_and_it_has_at_most_forty_lines(file):
    text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
    assert f"```python\n{text}```" in PAGE
    assert len(text.splitlines()) <= 40


def test_the_table_says_what_the_models_say():
    rows = {row.split("|")[1].strip().strip("`"): row for row in PAGE.splitlines() if row.startswith("| `")}
    assert rows.keys() == MODELS.keys()
    for name, model in MODELS.items():
        for said in (model.title, model.source, *(f"`{state}`" for state in model.states)):
            assert said in rows[name]
        for key, parameter in model.parameters.items():
            low, high = parameter.draw
            drawn = f"{low:.3g}" if low == high else f"U({low:.3g}, {high:.3g})"
            kept = f" in [{parameter.low:.3g}, {parameter.high:.3g}]" if math.isfinite(parameter.low) else ""
            assert f"`{key}` {drawn}{kept}" in rows[name]


def test_the_first_lines_of_the_page_run(monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    names = {"__name__": "page"}
    exec(compile(code, "docs/neurons.md", "exec"), names)
    assert names["spikes"].shape == (100, 8, 128) and names["spikes"].any() and names["spk"].shape == (8, 128)


def test_steps_sequences_and_both_step_modes_agree(own):
    Step, Whole, Node = classes(own)
    step, whole = Step(features=NEURONS).double(), Whole(features=NEURONS, output=True).double()
    node = Node(features=NEURONS, store_v_seq=True).double()
    for other in (whole, node):
        other.load_state_dict(step.state_dict(), strict=False)
    current = (torch.rand(STEPS, BATCH, NEURONS, dtype=torch.float64) * 3).requires_grad_()
    spk, *traces = whole(current)
    states = step.reset_mem()
    states, outputs = states if isinstance(states, tuple) else (states,), []
    for x in current:
        outputs.append(step(x, *states))
        _, *states = outputs[-1]
    assert 0.02 < spk.mean() < 0.95
    for one, two in zip(zip(*outputs, strict=True), (spk, *traces), strict=True):
        torch.testing.assert_close(torch.stack(one), two, rtol=0, atol=1e-12)
    for mode in ("s", "m"):
        node.step_mode = mode
        functional.reset_net(node)
        assert torch.equal(node(current) if mode == "m" else torch.stack([node(x) for x in current]), spk)
        torch.testing.assert_close(node.v_seq, traces[-1], rtol=0, atol=1e-12)
    leaves = [current, *whole.parameters()]
    weights = torch.randn_like(spk)
    of_sequence = torch.autograd.grad((spk * weights).sum(), leaves)
    of_steps = torch.autograd.grad((torch.stack([o[0] for o in outputs]) * weights).sum(), [current, *step.parameters()])
    for one, two in zip(of_sequence, of_steps, strict=True):
        assert one.any()
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_the_linear_one_is_compiled_and_its_gradients_are_finite_differences(own, caplog, monkeypatch):
    if not isinstance(own.model, LinearModel):
        pytest.skip("only linear models are compiled")
    monkeypatch.delenv("SNN_DELAY_PLUGINS_METHOD", raising=False)
    Step, Whole, _ = classes(own)
    with caplog.at_level(logging.DEBUG, "snn_delay_plugins"):
        Whole(features=NEURONS).double()(torch.rand(STEPS, BATCH, NEURONS, dtype=torch.float64))
    assert "numba" in caplog.text
    values = [getattr(Step(features=NEURONS).double(), name).detach().requires_grad_() for name in own.model.parameters]
    current = torch.randn(6, 1, NEURONS, dtype=torch.float64, requires_grad=True)
    for reset in own.model.resets:

        def run(current, *values, reset=reset):
            k = own.model.coefficients(dict(zip(own.model.parameters, values, strict=True)), 0.8, reset, False)
            return linear_neuron(current, k, surrogate=torch.sigmoid, method="torch")[0]

        assert torch.autograd.gradcheck(run, (current, *values))


def test_it_learns_is_copied_and_pickled_by_its_own_name(own, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")  # compiled in the tests above
    Step, Whole, Node = classes(own)
    net = nn.Sequential(DelayedLinear(20, 30, max_delay=5, step_mode=False), Whole(features=30), nn.Linear(30, 2))
    x = (torch.rand(STEPS, 16, 20) < 0.2).float()
    labels = torch.arange(16) % 2
    x[:, labels == 1, :10] = 0
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.02), []
    for _ in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x).mean(0), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for cls in (Step, Whole, Node):
        assert pickle.loads(pickle.dumps(cls)) is cls and cls.__module__ == own.__name__
    node = Node(features=3)
    node(torch.rand(2, 3))
    assert torch.equal(pickle.loads(pickle.dumps(node)).v, copy.deepcopy(node).v)
