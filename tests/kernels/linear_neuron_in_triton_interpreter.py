"""Linear neurons of any structure: Triton's interpreter and the CPU's loops, run as Python, against the plain form;
test_triton_kernels.py starts it."""

import os
import random

assert os.environ.get("TRITON_INTERPRET") == "1" and os.environ.get("NUMBA_DISABLE_JIT") == "1"

import pytest  # noqa: E402
import torch  # noqa: E402

from snn_delay_plugins.functional.linear_neuron import Coefficients, LinearState, linear_neuron  # noqa: E402
from snn_delay_plugins.functional.surrogate import Boxcar  # noqa: E402
from snn_delay_plugins.kernels.linear_neuron import numba, triton  # noqa: E402

F64 = torch.float64


def drawn(r: random.Random, features: int) -> Coefficients:
    """Coefficients that are there or not, in every combination; those of a rotation too."""

    def some(low=-0.6, high=0.6, share=0.6):
        return torch.empty(features, dtype=F64).uniform_(low, high) if r.random() < share else 0

    theta = torch.empty(features, dtype=F64).uniform_(0.2, 0.9)
    two, symplectic, rotation = r.random() < 0.8, r.random() < 0.35, r.random() < 0.25
    b, through = (some(0.3, 1.0, 0.9), some()), (some(), some())
    if symplectic:
        A = ((some(0.3, 0.9), 0), (some(), some(0.5, 0.99)))
        J, b, through, c = ((some(-1, 0), 0), (0, 0)), (b[0], 0), (0, through[1]), 0
    elif rotation:
        angle, size = torch.rand(features, dtype=F64), torch.empty(features, dtype=F64).uniform_(0.7, 1)
        A = ((size * angle.cos(), -size * angle.sin()), (size * angle.sin(), size * angle.cos()))
        J, c = ((-A[0][0], 0), (-A[1][0], 0)), 0
    else:
        A, J, c = ((some(), some()), (some(), some())), ((some(), some()), (some(), some())), some()
    rr = some(-0.8, 0.8, 0.8), some()
    through = r.choice([None, through, (0, rr[1])])
    if not two:
        one = through and (r.choice([0 if symplectic else through[0], 0]),)
        return Coefficients(theta, ((A[0][0],),), b[:1], rr[:1], ((J[0][0],),), symplectic=symplectic, through=one)
    subtracted = symplectic or (not isinstance(A[0][1], torch.Tensor) and r.random() < 0.7)
    return Coefficients(theta, A, b, rr, J, c, subtracted, symplectic, through)


@pytest.mark.parametrize("seed", range(36))
def test_both_kernels_equal_the_plain_form_in_value_and_gradient(seed):
    r = random.Random(seed)
    torch.manual_seed(seed)
    steps, samples, features = r.choice([(7, 2, 3), (1, 1, 70), (6, 1, 2), (40, 1, 2)])
    of = drawn(r, features)
    named, structure = of.named, of.structure
    boxcar = Boxcar(0.375, 0.75)  # as Triton takes them, in float32
    shape = (samples, features)
    leaves = [torch.randn(steps, *shape, dtype=F64) * 2, torch.randn(shape, dtype=F64), torch.randn(shape, dtype=F64)]
    leaves = [x.requires_grad_() for x in (*leaves, torch.rand(shape, dtype=F64).round())]
    of_gradient = [value.requires_grad_() for name, value in named.items() if name[0] != "q"]
    current, x0, x1, s = leaves
    spikes, state, x = linear_neuron(
        current, of, LinearState(x0, x1 if structure.two else None, s), surrogate=boxcar, traces=True, method="torch"
    )
    values = [value for value in (spikes, *x, *state) if value is not None]
    g = [torch.randn_like(value) for value in values]
    sources = [current, x0, *((x1,) if structure.two else ()), s, *of_gradient]
    reached = [(value, of_value) for value, of_value in zip(values, g, strict=True) if value.requires_grad]
    expected = torch.autograd.grad(
        [x for x, _ in reached], sources, [y for _, y in reached], allow_unused=True, materialize_grads=True
    )

    flat = current.detach().view(steps, -1)
    inputs = [x.detach().flatten() if keep else x.new_empty(0) for x, keep in ((x0, True), (x1, structure.two), (s, True))]
    rows = torch.stack([value.detach() for value in named.values()])
    if not structure.two:
        g = [g[0], g[1], None, g[2], None, g[3]]
    gradients = [
        value if value is None else value.reshape(steps, -1) if value.dim() == 3 else value.flatten() for value in g
    ]
    slopes = boxcar.height * ((x[0] + named.get("c", 0) * x[1] if structure.two else x[0]) - of.theta).abs().le(
        boxcar.width
    )
    for kernels in (numba, triton):
        out = [value for value in kernels.forward(flat, inputs, rows, structure.code) if value.numel()]
        for found, wanted in zip(out, values, strict=True):
            torch.testing.assert_close(found.view_as(wanted), wanted, rtol=1e-12, atol=1e-12)
    for kernels, every in ((numba, 1), (numba, 4), (triton, 1)):
        traces = kernels.forward(flat, inputs, rows, structure.code, every)[1:3]
        for phi in (None, slopes.view(steps, -1).double()):
            box = (boxcar.width, boxcar.height)
            found = kernels.backward(gradients, phi, box, flat, traces, inputs, rows, structure.code, every)
            *of_state, of_rows = [value for value in found if value.numel()]
            of_rows = of_rows.view(len(rows), samples, features).sum(1)[: len(of_gradient)]
            for one, wanted in zip((*of_state, *of_rows), expected, strict=True):
                torch.testing.assert_close(one.view_as(wanted), wanted, rtol=1e-11, atol=1e-11)
