"""Neurons with delayed recurrent synapses: Triton's interpreter against the plain form and the loops of the CPU;
test_triton_kernels.py starts it."""

import os
import random

assert os.environ.get("TRITON_INTERPRET") == "1"

import pytest  # noqa: E402
import torch  # noqa: E402

from snn_delay_plugins.delays import RULES  # noqa: E402
from snn_delay_plugins.functional import Recurrence  # noqa: E402
from snn_delay_plugins.functional.linear_neuron import Coefficients, LinearState, linear_neuron  # noqa: E402
from snn_delay_plugins.functional.surrogate import Boxcar  # noqa: E402
from snn_delay_plugins.kernels.device import interpreted  # noqa: E402
from snn_delay_plugins.kernels.recurrent_neuron import operator  # noqa: E402

F64 = torch.float64
BOXCAR = Boxcar(0.375, 0.75)  # as Triton takes them, in float32
NEURONS = {
    "one state": {"A": ((0.8,),), "B": (0.5,), "r": (-1.0,)},
    "two coupled states": {"A": ((0.8, -0.3), (0.3, 0.8)), "B": (0.5, 0.2), "r": (-0.7, 0.1), "c": 0.2},
    "a subtracted current": {"A": ((0.8, 0), (0.1, 0.9)), "B": (0.4,), "r": (-1.0, 0.2), "subtracted": True},
    "a reset by a product": {"A": ((0.8, 0.1), (0.2, 0.7)), "B": (0.5,), "J": ((-0.8, 0), (-0.2, 0)), "through": (0.3, 0)},
    "jumps in the same step": {
        "A": ((0.8, 0), (0.4, 0.9)), "B": (0.3,), "r": (0, 0.3), "J": ((-1.0, 0), (0, 0)), "subtracted": True,
        "symplectic": True,
    },
}  # fmt: skip


def of_tensors(neuron: dict, features: int) -> Coefficients:
    def filled(value):
        if isinstance(value, tuple):
            return tuple(map(filled, value))
        return torch.full((features,), value, dtype=F64) if isinstance(value, float) else value

    return Coefficients(theta=filled(0.6), **{name: filled(value) for name, value in neuron.items()})


def results(method: str, seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Spikes, last states and traces, and every gradient, of a draw that depends on ``seed`` alone."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    steps, samples, features = r.choice([(7, 2, 3), (8, 1, 4), (1, 1, 2)])
    of = of_tensors(list(NEURONS.values())[seed % len(NEURONS)], features)
    named, two = of.named, of.structure.two
    shape, longest = (samples, features), r.choice([0, 4, 30])
    leaves = {name: torch.randn(shape, dtype=F64) for name in ("x0", "x1")[: 1 + two]}
    leaves |= {"current": 2 * torch.randn(steps, *shape, dtype=F64), "s": torch.rand(shape, dtype=F64).round()}
    leaves |= {"weight": torch.randn(features, features, dtype=F64) / features}
    leaves |= {"delay": longest * torch.rand(features, features, dtype=F64)}
    if r.random() < 0.7:
        leaves["history"] = torch.rand(r.choice([1, 3]), *shape, dtype=F64).round()
    mask = torch.rand(features, features) < 0.5 if r.random() < 0.4 else None
    rule = RULES[r.choice(["slayer", "triangle"])]
    surrogate = r.choice([BOXCAR, lambda x: BOXCAR(x)])  # of the second nobody knows that it is the boxcar
    leaves |= {name: value for name, value in named.items() if name[0] != "q"}
    for leaf in leaves.values():
        leaf.requires_grad_()
    recurrence = Recurrence(
        weight=leaves["weight"], delay=leaves["delay"], rule=rule, max_delay=longest, mask=mask,
        parameters=dict.fromkeys(rule.parameters, 0.9), history=leaves.get("history"),
    )  # fmt: skip
    state = LinearState(leaves["x0"], leaves.get("x1"), leaves["s"])
    spikes, last, x = linear_neuron(
        leaves["current"], of, state, surrogate=surrogate, traces=True, recurrence=recurrence, method=method
    )
    values = [value for value in (spikes, *x, *last) if value is not None]
    loss = sum((value * torch.randn_like(value)).sum() for value in values if value.requires_grad)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return [value.detach() for value in values], list(gradients)


@pytest.mark.parametrize("seed", range(12))
def test_values_and_gradients_are_those_of_the_plain_form(seed):
    expected = results("torch", seed)
    with interpreted():
        actual = results("triton", seed)
    for of_expected, of_actual in zip(expected, actual, strict=True):
        for one, two in zip(of_actual, of_expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-11)


def test_several_synapses_of_the_same_neurons_add_up():
    torch.manual_seed(0)
    of = Coefficients(theta=1.0, A=((0.8,),), B=(0.5,), r=(-1.0,))
    rows = torch.tensor(list(of.named.values()), dtype=F64)[:, None].expand(-1, 3).contiguous()
    ends = torch.tensor([[0, 1, 0, 0, 2, 1], [1, 2, 1, 1, 0, 0]])  # neuron 1 reaches neuron 0 three times
    taps, lags = torch.randn(2, 6, dtype=F64).requires_grad_(), torch.tensor([0, 2, 3, 0, 1, 70])
    current, state = 3 * torch.rand(10, 2, 3, dtype=F64), torch.zeros(2, 3, dtype=F64)
    past = torch.ones(2, 2, 3, dtype=F64).requires_grad_()

    def run():
        spikes, x, *_ = operator.recurrent_neuron(
            current, state, state.new_empty(0, 0), state, rows, taps, lags, ends, past, of.structure, True, BOXCAR
        )
        return spikes, *torch.autograd.grad((spikes * x).cos().sum() + x.sum(), [taps, past])

    expected = run()
    with interpreted():
        actual = run()
    assert expected[0].mean() > 0.1
    for one, two in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-11)
