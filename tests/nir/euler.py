"""NIR's equations by Euler's steps, run by nirtorch's own interpreter: nothing of this package."""

from __future__ import annotations

import nir
import nirtorch
import torch
from torch import Tensor, nn

DT = 1e-4


class Node(nn.Module):
    """One node; its state is whatever its step keeps."""

    def __init__(self, node: nir.NIRNode) -> None:
        super().__init__()
        self.k = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in vars(node).items()
                  if name not in ("input_type", "output_type", "metadata")}  # fmt: skip

    def forward(self, x: Tensor, state=None):
        return self.step(x, torch.zeros((), dtype=x.dtype) if state is None else state)


def leak(v, tau, r, to, x):
    return v + DT / tau * (to - v + r * x)


class LI(Node):
    def step(self, x, v):
        v = leak(v, self.k["tau"], self.k["r"], self.k["v_leak"], x)
        return v, v


class LIF(Node):
    def step(self, x, v):
        v = leak(v, self.k["tau"], self.k["r"], self.k["v_leak"], x)
        z = (v > self.k["v_threshold"]).to(x)
        return z, torch.where(z > 0, self.k["v_reset"], v)


class CubaLIF(Node):
    def step(self, x, state):
        i, v = state if isinstance(state, tuple) else (state, state)
        i = leak(i, self.k["tau_syn"], self.k["w_in"], 0.0, x)
        v = leak(v, self.k["tau_mem"], self.k["r"], self.k["v_leak"], i)
        z = (v > self.k["v_threshold"]).to(x)
        return z, (i, torch.where(z > 0, self.k["v_reset"], v))


class Delay(Node):
    def step(self, x, state):
        lags = (self.k["delay"] / DT).round().long()
        past = [x, *(state if isinstance(state, list) else [])][: int(lags.max()) + 1]
        late = [torch.where(lags == lag, value, torch.zeros_like(value)) for lag, value in enumerate(past)]
        return sum(late), past


MAP = {
    nir.LI: LI,
    nir.LIF: LIF,
    nir.CubaLIF: CubaLIF,
    nir.Delay: Delay,
    nir.Scale: lambda node: _pointwise(lambda x: x * torch.as_tensor(node.scale)),
    nir.Threshold: lambda node: _pointwise(lambda x: (x > torch.as_tensor(node.threshold)).to(x)),
    nir.Affine: lambda node: _pointwise(lambda x: x @ torch.as_tensor(node.weight).to(x).T + torch.as_tensor(node.bias)),
    nir.Linear: lambda node: _pointwise(lambda x: x @ torch.as_tensor(node.weight).to(x).T),
}


def _pointwise(function):
    module = nn.Module()
    module.forward = function
    return module


def simulate(graph: nir.NIRGraph, x: Tensor) -> Tensor:
    """``x`` ``[T, N, *]`` step by step."""
    net = nirtorch.nir_to_torch(graph, MAP, dtype=torch.float64)
    state, outputs = None, []
    for step in x.double():
        out, state = net(step, state)
        outputs.append(out)
    return torch.stack(outputs).to(x.dtype)
